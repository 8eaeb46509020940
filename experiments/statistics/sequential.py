"""The path of one comparison over its looks: when could it be decided, and was it harmful at any time?

Decisions are taken by group-sequential boundaries against the planned number of units; harm is watched by an asymptotic
confidence sequence, which needs no plan. Without a plan the sequence does both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec
from scipy.stats import norm

from experiments.statistics.confidence_sequence import UNPLANNED_UNITS, multiplier
from experiments.statistics.effect import FEWEST_UNITS as FEWEST_UNITS  # before a look counts; read here by others
from experiments.statistics.effect import Effect, at_level
from experiments.statistics.group_sequential import SMALLEST_STEP, boundaries
from experiments.statistics.proportions import FARTHEST

Better = Literal["higher", "lower"]
Outcome = Literal["better", "worse", "undecided"]


class Seen(NamedTuple):
    """What is known at one moment: the units in all variants and the effect of one of them."""

    at: datetime
    n: int
    effect: Effect
    decides: bool = True  # False: only looked at, and only for harm; nobody planned to decide here


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one look saw. None where nothing could be computed, with the reason in the effect's flags."""

    at: datetime
    n: int  # units in all variants so far
    effect: Effect
    counts: bool  # whether it may decide: it was planned to, with enough units, and more than before
    fraction: float | None = None  # of the planned units
    z: float | None = None
    bound: float | None = None  # |z| at which this look decides; None: it cannot
    low: float | None = None  # repeated confidence interval of the absolute effect: valid at every look
    high: float | None = None
    always_low: float | None = None  # asymptotic confidence sequence of the absolute effect
    always_high: float | None = None


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """All looks at one comparison, and the first that decided it."""

    metric: str
    variant: str
    alpha: float
    looks: tuple[Look, ...]
    outcome: Outcome = "undecided"
    decided_at: datetime | None = None
    decided_by: Literal["group-sequential boundary", "confidence sequence"] | None = None
    harm_at: datetime | None = None  # first look at which the confidence sequence lay on the bad side
    complete: bool = False  # a look that may decide has seen all planned units


def path(
    seen: Sequence[Seen],
    *,
    better: Better,
    alpha: float = 0.05,
    planned_units: int | None = None,
) -> Path:
    """Of looks in the order of time.

    `alpha` is of this comparison: with several variants, its share.
    """
    looks = _with_bounds(_looks(seen, alpha, planned_units), alpha)
    sign = 1.0 if better == "higher" else -1.0
    outcome, decided_at, decided_by = _decision(looks, sign, planned_units is not None)
    harm = next((look.at for look in looks if _harmful(look, sign)), None)
    return Path(
        metric=seen[0].effect.metric if seen else "",
        variant=seen[0].effect.variant if seen else "",
        alpha=alpha,
        looks=tuple(looks),
        outcome=outcome,
        decided_at=decided_at,
        decided_by=decided_by,
        harm_at=harm,
        complete=any(look.counts and look.fraction is not None and look.fraction >= 1 for look in looks),
    )


def z_of(effect: Effect) -> float | None:
    """The normal quantile of the effect's own p-value, with its sign, so that exact tests count as they are."""
    if effect.absolute is None or effect.p_value is None:
        return None
    if effect.p_value > 0:
        return math.copysign(float(norm.isf(effect.p_value / 2)), effect.absolute)
    return (
        effect.absolute / effect.standard_error if effect.standard_error else math.copysign(FARTHEST, effect.absolute)
    )


def _looks(seen: Sequence[Seen], alpha: float, planned: int | None) -> list[Look]:
    looks: list[Look] = []
    last = 0.0
    for at, n, effect, decides in seen:
        z = z_of(effect)
        fraction = n / planned if planned else None
        enough = min(effect.n_control, effect.n_variant) >= FEWEST_UNITS
        grown = fraction is None or fraction > last + SMALLEST_STEP
        counts = decides and z is not None and enough and grown
        always = _always(effect, n, alpha, planned) if enough else (None, None)
        if counts and fraction is not None:
            last = fraction
        looks.append(
            Look(
                at=at,
                n=n,
                effect=effect,
                counts=counts,
                fraction=fraction,
                z=z,
                always_low=always[0],
                always_high=always[1],
            )
        )
    return looks


def _with_bounds(looks: list[Look], alpha: float) -> list[Look]:
    """Each look that counts gets the boundary that alpha spent so far leaves it."""
    tests = [look for look in looks if look.counts and look.fraction is not None]
    if not tests:
        return looks
    found = iter(boundaries(tuple(look.fraction for look in tests if look.fraction is not None), alpha))
    out = []
    for look in looks:
        if not (look.counts and look.fraction is not None):
            out.append(look)
            continue
        bound = float(next(found))
        if math.isinf(bound):
            out.append(look)
            continue
        low, high = at_level(look.effect, bound)
        out.append(msgspec.structs.replace(look, bound=bound, low=low, high=high))
    return out


def _always(effect: Effect, n: int, alpha: float, planned: int | None) -> tuple[float | None, float | None]:
    """Of rare shares the score interval as far out as the sequence: where nobody said yes no standard error is."""
    reach = float(multiplier(n, alpha, planned or UNPLANNED_UNITS))
    return at_level(effect, reach) if math.isfinite(reach) else (None, None)


def _decision(
    looks: Sequence[Look], sign: float, planned: bool
) -> tuple[Outcome, datetime | None, Literal["group-sequential boundary", "confidence sequence"] | None]:
    for look in looks:
        if planned and look.bound is not None and look.z is not None and abs(look.z) >= look.bound:
            return ("better" if look.z * sign > 0 else "worse"), look.at, "group-sequential boundary"
        if not planned and look.counts and look.always_low is not None and look.always_high is not None:
            if min(look.always_low * sign, look.always_high * sign) > 0:
                return "better", look.at, "confidence sequence"
            if _harmful(look, sign):
                return "worse", look.at, "confidence sequence"
    return "undecided", None, None


def _harmful(look: Look, sign: float) -> bool:
    if look.always_low is None or look.always_high is None:
        return False
    return max(look.always_low * sign, look.always_high * sign) < 0
