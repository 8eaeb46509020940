"""The search for a recommender: Optuna over models and parameters, within a budget of time, in processes, resumable."""

from __future__ import annotations

from training.search.budget import Search, seconds_of
from training.search.run import Found, search_recipes
from training.search.study import resumable

__all__ = ["Found", "Search", "resumable", "search_recipes", "seconds_of"]
