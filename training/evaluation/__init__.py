"""One protocol for every recommender: time splits, the full catalogue, means over customers with their intervals."""

from __future__ import annotations

from training.evaluate import Interval
from training.evaluation.accuracy import ACCURACY, accuracy
from training.evaluation.intervals import mean_interval, mean_intervals
from training.evaluation.judged import Judged, judged_by
from training.evaluation.lists import LISTS
from training.evaluation.ranking import (
    CUTOFFS,
    LIST_AT,
    RankingReport,
    difference,
    evaluate,
    evaluate_ranking,
    intervals,
    pooled,
)
from training.evaluation.segments import segment_table
from training.evaluation.windows import Window, check_cutoff, rolling_cutoffs

__all__ = [
    "ACCURACY",
    "CUTOFFS",
    "LISTS",
    "LIST_AT",
    "Interval",
    "Judged",
    "RankingReport",
    "Window",
    "accuracy",
    "check_cutoff",
    "difference",
    "evaluate",
    "evaluate_ranking",
    "intervals",
    "judged_by",
    "mean_interval",
    "mean_intervals",
    "pooled",
    "rolling_cutoffs",
    "segment_table",
]
