"""P(churn) for shorter and longer silences than the one that serves, chained so that they never contradict each other.

A customer who is silent for 90 days was silent for 30: the chance cannot grow with the horizon. Separate models would
let it; here each horizon is a step from its neighbour, the chance of going on being silent, or of having been so first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.definitions import FeatureSet
from features.errors import NotTrainable
from training.columns import churn_encoder
from training.evaluate import Interval, bootstrap, metrics, reliability, slices, verdict
from training.models.churn import (
    ChurnTable,
    Learned,
    Mask,
    Times,
    baselines_of,
    chances,
    encoded,
    learn_churn,
    slices_of,
)
from training.models.classifier_fit import ClassifierFit, Tried, codes
from training.models.classifiers import Part
from training.scorers import Calibration, ChurnScorer
from training.scorers.churn import Step, by_horizon
from training.split import held_out

MOST_ROWS = 100_000  # of the table, for the horizons beside the one that serves
TimesFor = Callable[[int], Times]  # the instants for a label of so many days, gap apart; `NotTrainable` if too few


@dataclass(frozen=True)
class HorizonFit:
    """What one horizon does on its own later part."""

    horizon_days: int
    y: Mask  # (n_test,)
    p: NDArray[np.float64]
    baseline: str
    intervals: Mapping[str, Interval]
    baseline_metrics: Mapping[str, float]
    slices: pd.DataFrame
    reliability: pd.DataFrame
    verdict: str

    @property
    def metrics(self) -> dict[str, float]:
        """As `h30_auc`, with its interval and the baseline's."""
        found = {"n_test": float(len(self.y)), "rate": float(self.y.mean())}
        for name, one in self.intervals.items():
            found |= {name: one.estimate, f"{name}_low": one.low, f"{name}_high": one.high}
        found |= {f"baseline_{name}": value for name, value in self.baseline_metrics.items()}
        return {f"h{self.horizon_days}_{name}": value for name, value in found.items() if np.isfinite(value)}


@dataclass(frozen=True)
class ChurnFit:
    """The classifier of the horizon that serves, the steps to the others, and how each horizon is judged."""

    horizon_days: int  # that serves
    learned: Learned
    steps: Mapping[int, ClassifierFit]
    horizons: tuple[HorizonFit, ...]  # ascending, the one that serves among them
    left_out: Mapping[int, str]  # horizons that the data cannot support, and why

    @property
    def fit(self) -> ClassifierFit:
        return self.learned.fit

    @property
    def chosen(self) -> Tried:
        return self.fit.chosen

    @property
    def verdict(self) -> str:
        return self.fit.verdict

    @property
    def metrics(self) -> dict[str, float]:
        """Those of the horizon that serves under plain names, then each horizon's, and what the canaries found."""
        found = {**self.fit.metrics, "horizon_days": float(self.horizon_days), **self.learned.canaries.metrics}
        for one in self.horizons:
            found |= one.metrics
        return found

    @property
    def scorer(self) -> ChurnScorer:
        steps = tuple(Step(days, fit.classifier) for days, fit in sorted(self.steps.items()))
        return ChurnScorer("", self.fit.classifier, self.horizon_days, steps)


def learn_horizons(
    features: FeatureSet,
    table: ChurnTable,
    horizons: Sequence[int],
    serving_days: int,
    times_for: TimesFor,
    seed: int,
) -> ChurnFit:
    """The horizon that serves, then every other one that the data can support.

    `NotTrainable` if the serving one cannot be learned; the reason of any other is in `left_out`.
    """
    times = times_for(serving_days)
    learned = learn_churn(features, table, table.churned(serving_days), np.ones(len(table.us), np.bool_), times, seed)
    judged = [served(learned, table, serving_days)]
    kept = thinned(len(table.us))[learned.rows]
    rows, p = learned.rows[kept], learned.fit.p[kept]
    steps: dict[int, ClassifierFit] = {}
    left_out: dict[int, str] = {}
    neighbour = serving_days
    for days in sorted((d for d in set(horizons) if d < serving_days), reverse=True):
        try:
            step = _step(features, table, days, neighbour, times, seed)
        except NotTrainable as error:
            left_out[days] = error.reason
            continue
        steps[days], neighbour = step.fit, days
        shorter = {d: fit for d, fit in steps.items() if d < serving_days}
        found = by_horizon(serving_days, p, _of_steps(shorter, table, rows))
        judged.append(judge_horizon(features, table, days, rows, found[days], times, seed))
    for days in sorted(d for d in set(horizons) if d > serving_days):
        try:
            known = [d for d in steps if d > serving_days]
            chain, rows, p = _longer(features, table, [*known, days], serving_days, times_for(days), seed)
        except NotTrainable as error:
            left_out[days] = error.reason
            continue
        steps[days] = chain
        judged.append(judge_horizon(features, table, days, rows, p, times_for(days), seed))
    ordered = tuple(sorted(judged, key=lambda one: one.horizon_days))
    return ChurnFit(serving_days, learned, steps, ordered, left_out)


def _longer(
    features: FeatureSet, table: ChurnTable, longer: Sequence[int], serving_days: int, times: Times, seed: int
) -> tuple[ClassifierFit, NDArray[np.intp], NDArray[np.float64]]:
    """The step to the last of `longer`, the rows it is judged on and the chained chance of each, (n_rows,).

    Its label takes longer to be known, so that its test part lies earlier than that of the horizon that serves, whose
    classifier has learned from those very days: the whole chain is learned again for judging, before them.
    """
    first = learn_churn(features, table, table.churned(serving_days), thinned(len(table.us)), times, seed)
    neighbour, steps = serving_days, {}
    for days in sorted(longer):
        steps[days], neighbour = _step(features, table, days, neighbour, times, seed).fit, days
    found = by_horizon(serving_days, first.fit.p, _of_steps(steps, table, first.rows))
    return steps[neighbour], first.rows, found[neighbour]


def _step(features: FeatureSet, table: ChurnTable, days: int, neighbour: int, times: Times, seed: int) -> Learned:
    """Longer than its neighbour: silence goes on, among the silent. Shorter: silence comes first, among the others."""
    churned = table.churned(neighbour)
    among = (churned if days > neighbour else ~churned) & thinned(len(table.us))
    return learn_churn(features, table, table.churned(days), among, times, seed, f"churn at {days} days")


def thinned(n: int) -> Mask:
    """Which rows the horizons beside the one that serves are learned from and judged on: at most `MOST_ROWS`."""
    found = np.zeros(n, np.bool_)
    found[np.arange(n) if n <= MOST_ROWS else (np.arange(MOST_ROWS) * n) // MOST_ROWS] = True
    return found


def _of_steps(
    steps: Mapping[int, ClassifierFit], table: ChurnTable, rows: NDArray[np.intp]
) -> dict[int, NDArray[np.float64]]:
    return {days: chances(fit.classifier, table.features.iloc[rows]) for days, fit in steps.items()}


def served(learned: Learned, table: ChurnTable, days: int) -> HorizonFit:
    """The horizon that serves, which is judged already."""
    fit = learned.fit
    return HorizonFit(
        days, fit.y, fit.p, fit.baseline.name, fit.intervals, fit.baseline_metrics,
        fit.slices.assign(horizon_days=days), fit.reliability.assign(horizon_days=days), fit.verdict,
    )  # fmt: skip


def judge_horizon(
    features: FeatureSet,
    table: ChurnTable,
    days: int,
    rows: NDArray[np.intp],
    p: NDArray[np.float64],
    times: Times,
    seed: int,
) -> HorizonFit:
    """The chances of these rows against what happened, beside recency alone, fitted directly to the same label."""
    y = table.churned(days)
    train = np.flatnonzero(table.at(times.earlier) & ~held_out(table.customers) & thinned(len(y)))
    encoder = churn_encoder(features, table.features.iloc[train])
    baseline = baselines_of(encoder, Part(encoded(encoder, table.features.iloc[train]), y[train]))[-1]
    baseline_p = Calibration()(baseline.model.raw(encoded(encoder, table.features.iloc[rows])))
    customers = codes(codes(table.customers)[rows].tolist())
    intervals = bootstrap(y[rows], p, baseline_p, customers, np.random.default_rng(seed))
    return HorizonFit(
        horizon_days=days,
        y=y[rows],
        p=p,
        baseline=baseline.name,
        intervals=intervals,
        baseline_metrics=metrics(y[rows], baseline_p),
        slices=slices(y[rows], p, slices_of(table, rows)).assign(horizon_days=days),
        reliability=reliability(y[rows], p).assign(horizon_days=days),
        verdict=verdict(intervals["log_loss_gain"]),
    )
