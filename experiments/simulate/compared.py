"""Policies that lived through the same visits with the same luck: what each brought, and differences by customer.

The customers, their visits, the draws' seeds and the uniforms of the responses are the same for every policy, so most
of what is random cancels in a difference. The interval that two independent runs would have had stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from features.errors import BadInput

Floats = NDArray[np.float64]
COLUMNS = (
    "visits", "impressions", "clicks", "accepts", "dismisses", "value", "expected", "first", "first_best",
    "first_random", "degraded",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lived:
    """One policy's life: totals by customer, each shape (n_customers,), of `COLUMNS`. Values are in currency.

    `expected` is what the pages were worth by the true chances, `first` the same of the first place alone, beside the
    best and the mean offer there. `who` are the customers that came, or would have: the same ones for every policy.
    """

    arm: str
    totals: Mapping[str, Floats]
    who: NDArray[np.bool_]
    seconds: float = 0.0  # of deciding and everything around it
    n_decisions: int = 0

    def of(self, column: str) -> Floats:
        """Of the customers that came."""
        return np.asarray(self.totals[column][self.who], np.float64)


@dataclass(frozen=True, slots=True)
class Measure:
    """A ratio of two totals by customer; without a denominator a mean over customers."""

    name: str
    title: str
    unit: str  # "currency" or "share"
    num: str
    den: str | None
    minus: str | None = None  # subtracted from the numerator
    better: str = "higher"

    def parts(self, lived: Lived) -> tuple[Floats, Floats]:
        num = lived.of(self.num) - (lived.of(self.minus) if self.minus is not None else 0.0)
        return num, lived.of(self.den) if self.den is not None else np.ones(len(num))


MEASURES: tuple[Measure, ...] = (
    Measure("value_per_visitor", "Value per visitor", "currency", "value", None),
    Measure("expected_per_visitor", "… by the true chances", "currency", "expected", None),
    Measure("acceptance_rate", "Acceptance rate", "share", "accepts", "impressions"),
    Measure("regret", "Regret, first place", "share", "first_best", "first_best", minus="first", better="lower"),
    Measure("dismissal_rate", "Dismissal rate", "share", "dismisses", "impressions", better="lower"),
    Measure("visits_per_visitor", "Visits per visitor", "count", "visits", None),
)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of one policy. None: there was nothing to divide by."""

    arm: str
    measure: str
    estimate: float | None
    low: float | None = None
    high: float | None = None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One policy minus the base, with the interval of pairs and the one that independent runs would have had."""

    arm: str
    base: str
    measure: str
    absolute: float | None
    low: float | None = None
    high: float | None = None
    relative: float | None = None  # absolute / base
    independent_low: float | None = None
    independent_high: float | None = None
    worth: float | None = None  # so many times as many customers would independent runs need for the same interval


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is shown of a simulation."""

    arms: tuple[str, ...]  # the base first
    n_visitors: int
    alpha: float
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...]
    n_decisions: dict[str, int]
    seconds: dict[str, float]
    degraded: dict[str, int]  # decisions that were
    switched_off: tuple[str, ...] = ()  # experiments and holdout of the home that were not in the comparison, in words


def compared(lives: Sequence[Lived], alpha: float = 0.05) -> Comparison:
    """Every life against the first. `BadInput` unless the same customers came in all of them."""
    base = lives[0]
    if any(not np.array_equal(one.who, base.who) for one in lives):
        raise BadInput("the policies did not meet the same customers", "arms")
    return Comparison(
        arms=tuple(one.arm for one in lives),
        n_visitors=int(base.who.sum()),
        alpha=alpha,
        estimates=tuple(estimate(one, measure, alpha) for measure in MEASURES for one in lives),
        differences=tuple(difference(one, base, measure, alpha) for measure in MEASURES for one in lives[1:]),
        n_decisions={one.arm: one.n_decisions for one in lives},
        seconds={one.arm: one.seconds for one in lives},
        degraded={one.arm: int(one.of("degraded").sum()) for one in lives},
    )


def estimate(lived: Lived, measure: Measure, alpha: float = 0.05) -> Estimate:
    """With an interval over customers, a ratio's by the delta method."""
    level, away = _linearised(lived, measure)
    if level is None:
        return Estimate(arm=lived.arm, measure=measure.name, estimate=None)
    half = _half(away, alpha)
    return Estimate(arm=lived.arm, measure=measure.name, estimate=level, low=level - half, high=level + half)


def difference(lived: Lived, base: Lived, measure: Measure, alpha: float = 0.05) -> Difference:
    """Customer by customer: the interval is of the mean difference of pairs, ratios linearised by the delta method."""
    (level, away), (base_level, base_away) = _linearised(lived, measure), _linearised(base, measure)
    if level is None or base_level is None:
        return Difference(arm=lived.arm, base=base.arm, measure=measure.name, absolute=None)
    absolute, half = level - base_level, _half(away - base_away, alpha)
    alone = float(np.hypot(_half(away, alpha), _half(base_away, alpha)))
    return Difference(
        arm=lived.arm,
        base=base.arm,
        measure=measure.name,
        absolute=absolute,
        low=absolute - half,
        high=absolute + half,
        relative=absolute / base_level if base_level else None,
        independent_low=absolute - alone,
        independent_high=absolute + alone,
        worth=(alone / half) ** 2 if half > 0 else None,
    )


def _linearised(lived: Lived, measure: Measure) -> tuple[float | None, Floats]:
    """The ratio, and by how much each customer moves it times the number of customers, shape (n,)."""
    num, den = measure.parts(lived)
    if not len(num) or den.sum() == 0:
        return None, num
    level = float(num.sum() / den.sum())
    return level, (num - level * den) / den.mean()


def _half(away: Floats, alpha: float) -> float:
    """Half the width of the interval of a mean; Student's t."""
    n = len(away)
    if n < 2:
        return float("inf")
    return float(student.ppf(1 - alpha / 2, n - 1) * away.std(ddof=1) / np.sqrt(n))
