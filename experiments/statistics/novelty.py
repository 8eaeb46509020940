"""Novelty: whether an effect fades, or only begins to grow, with the days since a unit's first exposure.

The effect of each day since exposure is an estimate of its own; a line is laid through them by weighted least squares
against the logarithm of the day (most of a novelty passes in its first days). Days are taken as independent; the same
units' days are positively correlated, which makes the difference of two days surer than that: the test errs on the
careful side.

Source: weighted least squares with known variances, e.g. Greenland and Longnecker 1992; Sadeghi et al. 2021, "Novelty
and primacy: a long-term estimator for online experiments", for the question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy.stats import norm

from experiments.cells import Cell
from experiments.statistics.arms import Kind
from experiments.statistics.effect import Effect, compare

FEWEST_DAYS = 3
FADES_BELOW = 0.01  # p-value of the slope
Trend = Literal["fades", "grows", "steady", "unknown"]


class Novelty(msgspec.Struct, frozen=True, kw_only=True):
    """Effect by whole days since first exposure, and whether they follow a line up or down."""

    metric: str
    variant: str
    days: tuple[int, ...] = ()  # 0 is the day of the first exposure
    effects: tuple[Effect, ...] = ()  # of these days, each for itself and without CUPED
    slope: float | None = None  # change of the absolute effect per e-fold of (day + 1)
    p_value: float | None = None
    trend: Trend = "unknown"
    flags: tuple[str, ...] = ()


def novelty(
    cells: Iterable[Cell], metric: str, control: str, variant: str, *, kind: Kind = "mean", alpha: float = 0.05
) -> Novelty:
    """The effects of the cells by day, and their trend."""
    mine = [cell for cell in cells if cell.metric == metric and cell.day_since_exposure is not None]
    days = sorted({cell.day_since_exposure for cell in mine if cell.day_since_exposure is not None})
    effects = [compare(mine, metric, control, variant, kind=kind, alpha=alpha, cuped=False, day=day) for day in days]
    usable = [(day, e) for day, e in zip(days, effects, strict=True) if e.known and e.standard_error]
    if len(usable) < FEWEST_DAYS:
        flag = f"{len(usable)} days with an effect, {FEWEST_DAYS} are needed for a trend"
        return Novelty(metric=metric, variant=variant, days=tuple(days), effects=tuple(effects), flags=(flag,))
    slope, p, centre = line([d for d, _ in usable], [e for _, e in usable])
    return Novelty(
        metric=metric,
        variant=variant,
        days=tuple(days),
        effects=tuple(effects),
        slope=slope,
        p_value=p,
        trend="steady" if p >= FADES_BELOW else ("fades" if slope * centre < 0 else "grows"),
    )


def line(days: Sequence[int], effects: Sequence[Effect]) -> tuple[float, float, float]:
    """Slope against log(day + 1), its two-sided p-value, and the weighted mean effect."""
    x = np.log1p(np.asarray(days, dtype=float))
    y = np.array([effect.absolute for effect in effects], dtype=float)
    w = np.array([1.0 / effect.standard_error**2 for effect in effects if effect.standard_error])
    centre_x, centre_y = float((w * x).sum() / w.sum()), float((w * y).sum() / w.sum())
    spread = float((w * (x - centre_x) ** 2).sum())
    slope = float((w * (x - centre_x) * (y - centre_y)).sum() / spread)
    return slope, float(2 * norm.sf(abs(slope) * math.sqrt(spread))), centre_y
