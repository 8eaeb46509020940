"""What is taken most of late: popularity whose past fades, or ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from features.events import US_PER_DAY
from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    positive_or_none,
    settings_of,
)
from training.models.popularity import PopularitySettings, fit_popularity
from training.scorers import PopularityScorer


@dataclass(frozen=True, slots=True)
class RecentSettings:
    half_life_days: float | None = 30.0  # None: what is in the window counts alike
    window_days: float | None = None  # what is older counts nothing; None: no end
    repeats: bool = False  # ranks what was taken before like all else, either way

    def __post_init__(self) -> None:
        positive_or_none(self, "half_life_days", "window_days")


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> PopularityScorer:
    settings = settings_of(RecentSettings, params, "recent_popularity")
    check_interactions(past, until_us, "recent_popularity")
    if settings.window_days is not None:
        past = past.part(past.occurred_us >= until_us - settings.window_days * US_PER_DAY)
    return fit_popularity(past, until_us, PopularitySettings(settings.half_life_days))


def _space(suggest: Suggest) -> dict[str, Any]:
    if suggest.suggest_categorical("fading", ["half-life", "window"]) == "window":
        return {"half_life_days": None, "window_days": suggest.suggest_float("window_days", 3.0, 120.0, log=True)}
    return {"half_life_days": suggest.suggest_float("half_life_days", 3.0, 120.0, log=True)}


RECENT_POPULARITY = RecommenderModel("recent_popularity", _fit, _space, defaults_of(RecentSettings()))
