"""Feast's repository, made from the feature set: entities, views, services; and what goes into its online store."""

from features.feast_repo.apply import Applied, apply, open_feast
from features.feast_repo.materialize import Materialized, materialize

__all__ = ["Applied", "Materialized", "apply", "materialize", "open_feast"]
