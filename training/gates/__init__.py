"""Gates of a promotion: ranking, calibration, slices, coverage, latency, size and value, held against `gates.toml`."""

from __future__ import annotations

from training.gates.bounds import as_toml, bounds_of, read_bounds
from training.gates.case import Case, ModelRun, Standing, Valued, standing_of
from training.gates.judge import RECORD, judge_by, offers_of
from training.gates.measure import Measured, measure
from training.gates.passage import Bounds, Check, Passage, table
from training.gates.registry import GATES, Gate, asked

__all__ = [
    "GATES",
    "RECORD",
    "Bounds",
    "Case",
    "Check",
    "Gate",
    "Measured",
    "ModelRun",
    "Passage",
    "Standing",
    "Valued",
    "as_toml",
    "asked",
    "bounds_of",
    "judge_by",
    "measure",
    "offers_of",
    "read_bounds",
    "standing_of",
    "table",
]
