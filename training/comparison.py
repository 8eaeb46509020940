"""Two releases side by side: what they are made of, how good, fast and large they are, and where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from training.evaluation.judged_rows import LOWER_IS_BETTER, paired
from training.gates.case import ModelRun, Standing
from training.gates.measure import Measured
from training.gates.quality import FIGURE, difference

RANKING = ("ndcg_at_10", "recall_at_10", "map_at_10", "mrr_at_10", "coverage_at_10", "ndcg_at_50", "recall_at_50")
PROBABILITIES = ("auc", "log_loss", "brier", "ece", "top_lift")
SLICE_FIGURES = ("ndcg_at_10", "auc", "brier", "ece")


class Figure(msgspec.Struct, frozen=True):
    """One metric with its 95 % interval, where the run has one; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Metric(msgspec.Struct, frozen=True):
    """A metric of both, and the second minus the first."""

    model: str
    name: str
    first: Figure
    second: Figure
    difference: Figure
    how: str  # what the interval of the difference rests on; empty without one
    lower_is_better: bool = False


class SliceOfBoth(msgspec.Struct, frozen=True):
    model: str
    slice: str
    value: str
    metric: str
    first: float
    second: float
    n_first: int  # rows, or customers
    n_second: int


class Serving(msgspec.Struct, frozen=True):
    """Measured now on the exported files, both in one run."""

    p50_ms: float
    p99_ms: float
    n_offers: int
    files_mb: float
    memory_mb: float
    known: float  # share of the catalogue that it was trained with
    recommended: float  # share of the catalogue among somebody's ten best


class Made(msgspec.Struct, frozen=True):
    """What a release is made of."""

    release: str
    versions: dict[str, str]
    as_of: str
    data_digest: str
    chosen: dict[str, str]
    verdicts: dict[str, str]
    not_trainable: dict[str, str]


class Parameter(msgspec.Struct, frozen=True):
    model: str
    name: str
    first: str | None
    second: str | None


class Comparison(msgspec.Struct, frozen=True):
    """The second against the first."""

    first: Made
    second: Made
    metrics: tuple[Metric, ...]
    slices: tuple[SliceOfBoth, ...]
    serving: tuple[Serving, Serving]
    parameters: tuple[Parameter, ...]  # that differ


def compare(first: Standing, second: Standing, measured: tuple[Measured, Measured]) -> Comparison:
    """Pure. `measured`: of the first and the second in that order, then of the second alone, for its memory."""
    together, alone = measured
    return Comparison(
        _made(first),
        _made(second),
        tuple(_metrics(first, second)),
        tuple(_slices(first, second)),
        (_serving(together, 0, together.memory_mb), _serving(together, 1, alone.memory_mb)),
        tuple(_parameters(first, second)),
    )


def _made(one: Standing) -> Made:
    return Made(
        one.release,
        {name: run.version for name, run in one.models.items()},
        one.as_of,
        one.data_digest,
        {name: run.tags["chosen"] for name, run in one.models.items() if "chosen" in run.tags},
        dict(one.verdicts),
        dict(one.not_trainable),
    )


def _models(first: Standing, second: Standing) -> list[str]:
    return [*first.models, *(name for name in second.models if name not in first.models)]


def _metrics(first: Standing, second: Standing) -> Iterator[Metric]:
    for model in _models(first, second):
        runs = first.models.get(model), second.models.get(model)
        same = _same_rows(*runs)
        for name in RANKING if model == "recommender" else PROBABILITIES:
            figures = _figure(runs[0], name), _figure(runs[1], name)
            if figures[0].value is None and figures[1].value is None:
                continue
            by, how = same.get(name) or _difference(name, runs, figures, first.release)
            yield Metric(model, name, *figures, by, how, name in LOWER_IS_BETTER)


def _same_rows(old: ModelRun | None, new: ModelRun | None) -> dict[str, tuple[Figure, str]]:
    """Of two classifiers that were judged on enough of the same held-out rows: each difference over these."""
    if old is None or new is None or old.judged is None or new.judged is None:
        return {}
    n, found = paired(new.judged, old.judged)
    how = f"on the same {n:,} rows, paired by customer"
    return {name: (Figure(one.estimate, one.low, one.high), how) for name, one in found.items()}


def _figure(run: ModelRun | None, name: str) -> Figure:
    metrics: Mapping[str, float] = run.metrics if run is not None else {}
    value, low, high = (metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return Figure(*(one if one is not None and math.isfinite(one) else None for one in (value, low, high)))


def _difference(
    name: str, runs: tuple[ModelRun | None, ModelRun | None], figures: tuple[Figure, Figure], release: str
) -> tuple[Figure, str]:
    old, new = figures
    if name == FIGURE and runs[0] is not None and runs[1] is not None:
        found = difference(runs[1], runs[0], release)
        if found is not None:
            *of, how = found
            return Figure(*of), how
    if old.value is None or new.value is None:
        return Figure(None), ""
    by = new.value - old.value
    ends = (old.low, old.high, new.low, new.high)
    if any(end is None for end in ends):
        return Figure(by), ""
    low, high, new_low, new_high = (float(end or 0.0) for end in ends)
    half = math.hypot(high - low, new_high - new_low) / 2
    return Figure(by, by - half, by + half), "unpaired"


def _slices(first: Standing, second: Standing) -> Iterator[SliceOfBoth]:
    for model in _models(first, second):
        old, new = (_rows(one.models.get(model)) for one in (first, second))
        for key in (one for one in old if one in new):
            for metric in SLICE_FIGURES:
                values = old[key].get(metric), new[key].get(metric)
                if values[0] is not None and values[1] is not None:
                    sizes = (int(row.get("n_rows") or row.get("n_customers") or 0) for row in (old[key], new[key]))
                    yield SliceOfBoth(model, *key, metric, float(values[0]), float(values[1]), *sizes)
                    break  # the first that both have says enough


def _rows(run: ModelRun | None) -> dict[tuple[str, str], dict[str, Any]]:
    rows = run.tables.get("slices", []) if run is not None else []
    return {(str(row.get("slice")), str(row.get("value"))): row for row in rows}


def _serving(measured: Measured, at: int, memory_mb: float) -> Serving:
    times, lists = measured.times[at], measured.lists[at]
    return Serving(
        times.p50_ms, times.p99_ms, times.n_offers, measured.size_mb[at], memory_mb, lists.known, lists.share
    )


def _parameters(first: Standing, second: Standing) -> Iterator[Parameter]:
    for model in _models(first, second):
        old, new = (one.models[model].params if model in one.models else {} for one in (first, second))
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                yield Parameter(model, name, old.get(name), new.get(name))
