"""What learning acceptance and learning churn share: choose on validation, calibrate where it helps, judge on test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import BadInput, NotTrainable
from training.calibration import Ahead, calibration_ahead, choose_calibration, level_ahead, moved
from training.encoder import Encoder
from training.evaluate import Interval, bootstrap, log_loss, reliability, slices, verdict
from training.evaluation.judged_rows import JudgedRows
from training.linear import Linear
from training.models.classifiers import Labels, Part
from training.scorers import Calibration, Classifier
from training.trees import Forest

MIN_ROWS, MIN_POSITIVES = 200, 20  # per part, and of each class in it


@dataclass(frozen=True)
class Tried:
    """One model that was fitted on the training part."""

    name: str
    kind: str  # of scorers.RAW
    model: Linear | Forest
    params: Mapping[str, Any]
    curve: tuple[float, ...] = ()
    validation_log_loss: float = float("nan")


@dataclass(frozen=True)
class Sample:
    """Encoded rows with labels, and whose they are: customers as 0 … n - 1."""

    part: Part
    customers: NDArray[np.int64]
    us: NDArray[np.int64]


@dataclass(frozen=True)
class ClassifierFit:
    """The choice, how it was made, and what it does on the test part."""

    classifier: Classifier
    chosen: Tried
    baseline: Tried
    tried: tuple[Tried, ...]
    calibration_losses: Mapping[str, float]
    intervals: Mapping[str, Interval]  # of the test part
    baseline_metrics: Mapping[str, float]
    slices: pd.DataFrame
    reliability: pd.DataFrame
    y: Labels  # of the test part
    p: NDArray[np.float64]
    baseline_p: NDArray[np.float64]
    counts: Mapping[str, float]
    verdict: str
    ahead: tuple[Ahead, ...] = ()  # later blocks of time, by models of what came before
    spread: Forest | None = None  # log of the standard deviation of the log-odds, by the same columns
    notes: tuple[str, ...] = ()  # what a reader of the report must know, one sentence each
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # of the report, by title
    figures: Mapping[str, float] = field(default_factory=dict)  # further metrics of the run
    judged: JudgedRows | None = None  # the test part row by row
    example: NDArray[np.float64] | None = None  # some rows of the test part, (n, n_columns)

    @property
    def metrics(self) -> dict[str, float]:
        found = {name: interval.estimate for name, interval in self.intervals.items()}
        for name, interval in self.intervals.items():
            found |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        found |= {f"baseline_{name}": value for name, value in self.baseline_metrics.items()}
        found |= {**self.counts, **self.figures, "validation_log_loss": self.chosen.validation_log_loss}
        return {name: value for name, value in found.items() if np.isfinite(value)}


def check_parts(model: str, labels: Mapping[str, Labels]) -> None:
    """`NotTrainable`, with the numbers, where a part is too small or of one class."""
    for name, y in labels.items():
        positives = int(y.sum())
        if len(y) < MIN_ROWS or min(positives, len(y) - positives) < MIN_POSITIVES:
            raise NotTrainable(
                model,
                f"the {name} part has {len(y)} rows, {positives} of them positive; "
                f"{MIN_ROWS} rows with {MIN_POSITIVES} of each class are needed",
            )


def check_rows(encoder: Encoder, rows: NDArray[np.float64]) -> None:
    """`BadInput` that names the column where a number is infinite; missing ones, NaN, are learned from."""
    for at in np.flatnonzero(np.isinf(rows).any(axis=0)).tolist():
        n, name = int(np.isinf(rows[:, at]).sum()), encoder.columns[at].name
        raise BadInput(f"{name} is infinite in {n} of {len(rows)} rows, expected finite numbers or none", name)


def raw_log_loss(model: Linear | Forest, part: Part) -> float:
    """Of a part, by its weights, before any calibration."""
    return log_loss(part.y, Calibration()(model.raw(part.rows)), part.weights)


def judge_and_choose(
    encoder: Encoder,
    baselines: Sequence[Tried],
    candidates: Sequence[Tried],
    parts: Mapping[str, Sample],  # train, validation, test
    slice_by: Callable[[], Mapping[str, Sequence[object]]],
    seed: int,
    refit: Callable[[Tried], Tried] | None = None,
    ahead: Callable[[Tried], Sequence[Ahead]] | None = None,
) -> ClassifierFit:
    """The lowest validation log loss wins, a baseline too. Its calibration map is fitted on validation alone.

    `refit` may then fit the winner's settings on more rows, none of them of the test part; the map stays. `ahead` may
    say how the winner's settings do on later blocks of time than they were fitted on; if a map that was fitted on one
    block helps on the next, the map of the last block is taken instead; if not, but all blocks came out to the same
    side of what was predicted, the level is moved.
    """
    validation, test = parts["validation"], parts["test"]

    def judged(tried: Tried) -> Tried:
        return replace(tried, validation_log_loss=raw_log_loss(tried.model, validation.part))

    of_baselines, of_candidates = [judged(t) for t in baselines], [judged(t) for t in candidates]
    baseline = min(of_baselines, key=lambda t: t.validation_log_loss)
    chosen = min([*of_baselines, *of_candidates], key=lambda t: t.validation_log_loss)
    raw = chosen.model.raw(validation.part.rows)
    calibration, losses = choose_calibration(raw, validation.part.y, validation.customers, validation.part.w)
    blocks = ahead(chosen) if ahead is not None else ()
    later, losses_ahead = calibration_ahead(blocks)
    level = level_ahead(blocks) if later is None else 0.0
    calibration = later or moved(calibration, level)
    model = chosen.model if refit is None else refit(chosen).model
    classifier = Classifier(chosen.kind, encoder, model, calibration)
    p, baseline_p = classifier(test.part.rows), Calibration()(baseline.model.raw(test.part.rows))
    rng = np.random.default_rng(seed)
    intervals = bootstrap(test.part.y, p, baseline_p, test.customers, rng)
    ones = np.ones(len(p))
    return ClassifierFit(
        classifier=classifier,
        chosen=chosen,
        baseline=baseline,
        tried=(*of_baselines, *of_candidates),
        calibration_losses={**losses, **{f"{kind}, a block ahead": loss for kind, loss in losses_ahead.items()}},
        intervals=intervals,
        baseline_metrics=_metrics(test.part.y, baseline_p, ones),
        slices=slices(test.part.y, p, slice_by()),
        reliability=reliability(test.part.y, p),
        y=test.part.y,
        p=p,
        baseline_p=baseline_p,
        counts={
            **{f"n_{name}": float(len(sample.part.y)) for name, sample in parts.items()},
            **{f"rate_{name}": float(sample.part.y.mean()) for name, sample in parts.items()},
        },
        verdict="is the baseline" if chosen is baseline else verdict(intervals["log_loss_gain"]),
        example=fullest(test.part.rows),
        ahead=tuple(blocks),
        notes=_level_noted(level, len(blocks)),
        figures={"level_ahead": level} if blocks else {},
    )


def _level_noted(level: float, n_blocks: int) -> tuple[str, ...]:
    if level == 0.0:
        return ()
    less = "fewer" if level < 0.0 else "more"
    return (
        f"The last {n_blocks} blocks of time before the test part brought {less} positives than models of what came "
        f"before each had predicted: log-odds are moved by {level:+.3f}.",
    )


def fullest(rows: NDArray[np.float64], n: int = 2) -> NDArray[np.float64]:
    """The first `n` of those rows that miss the fewest columns."""
    found: NDArray[np.float64] = rows[np.argsort(np.isnan(rows).sum(axis=1), kind="stable")[:n]]
    return found


def _metrics(y: Labels, p: NDArray[np.float64], w: NDArray[np.float64]) -> dict[str, float]:
    from training.evaluate import METRICS

    return {name: metric(y, p, w) for name, metric in METRICS.items()}


def codes(customers: Sequence[str]) -> NDArray[np.int64]:
    """Customers as 0 … n - 1, in order of appearance."""
    found: NDArray[np.int64] = pd.factorize(np.asarray(customers, dtype=object))[0].astype(np.int64)
    return found
