"""Daily aggregates and snapshots, made from the lake by Ibis expressions that DuckDB runs."""

from features.compute.build import BuildReport, Built, build, built, current_features, wanted_features

__all__ = ["BuildReport", "Built", "build", "built", "current_features", "wanted_features"]
