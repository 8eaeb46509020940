"""Two shares of units, also where so few said yes (or no) that a normal law does not hold.

Enough of each: the normal approximation of tea-tasting. Too few: Fisher's exact test, and Newcombe's hybrid score
interval, which stays within -1 and 1 and has a width even when nobody said yes. The two are of different tests, so the
careful one of them decides: the p-value is the larger of Fisher's and of Newcombe's own (the level at which his
interval begins to hold 0), and where Fisher's does not reject, the interval is widened until it holds 0. The interval
excludes 0 at a level just when the p-value is below it.

Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", Statistics in Medicine
17, method 10; Fisher 1935; Casella and Berger 2002, "Statistical Inference", theorem 9.2.2, for tests and intervals
that are one another's inverse; Cochran 1954 for the five that make it enough.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tea_tasting as tt
from scipy.optimize import brentq
from scipy.stats import norm
from tea_tasting.aggr import Aggregates

FARTHEST = 37.0  # standard errors; a normal tail beyond is no longer a float
ENOUGH = 5  # units that said yes, and that said no, in each arm


class Exact(NamedTuple):
    """A difference of shares with a p-value and an interval that agree."""

    absolute: float
    low: float
    high: float
    p_value: float


def is_binary(n: int, mean: float, var: float) -> bool:
    """Whether a mean and a sample variance can be those of zeros and ones."""
    return n < 2 or math.isclose(var, mean * (1 - mean) * n / (n - 1), rel_tol=1e-6, abs_tol=1e-9)


def is_enough(n: int, share: float) -> bool:
    return min(share, 1 - share) * n >= ENOUGH - 1e-6


def exact(n_control: int, share_control: float, n_variant: int, share_variant: float, alpha: float) -> Exact:
    """Fisher's test and Newcombe's interval of the variant's share minus the control's, made to agree."""
    control = Aggregates(n_control, {"yes": share_control})
    variant = Aggregates(n_variant, {"yes": share_variant})
    tested = tt.Proportion("yes", method="fisher", alternative="two-sided").analyze_aggregates(control, variant)
    fisher = float(tested.pvalue)
    own = holds_zero_from(n_control, share_control, n_variant, share_variant)
    low, high = newcombe(
        n_control, share_control, n_variant, share_variant, alpha if fisher < alpha else min(alpha, own)
    )
    if max(fisher, own) >= alpha:
        low, high = min(low, 0.0), max(high, 0.0)  # rounding can leave the end a little beyond
    return Exact(share_variant - share_control, low, high, max(fisher, own))


def holds_zero_from(n_control: int, share_control: float, n_variant: int, share_variant: float) -> float:
    """The largest alpha at which Newcombe's interval holds 0: the p-value of the test that it is the inverse of."""
    if share_control == share_variant:
        return 1.0
    if share_variant < share_control:
        return holds_zero_from(n_variant, share_variant, n_control, share_control)

    def low(z: float) -> float:
        return newcombe(n_control, share_control, n_variant, share_variant, float(2 * norm.sf(z)))[0]

    farthest = FARTHEST if low(FARTHEST) > 0 else float(brentq(low, 0.0, FARTHEST, xtol=1e-12))
    return float(2 * norm.sf(farthest))


def newcombe(
    n_control: int, share_control: float, n_variant: int, share_variant: float, alpha: float
) -> tuple[float, float]:
    """Score interval of the variant's share minus the control's."""
    low_c, high_c = wilson(n_control, share_control, alpha)
    low_v, high_v = wilson(n_variant, share_variant, alpha)
    difference = share_variant - share_control
    return (
        difference - math.hypot(share_variant - low_v, high_c - share_control),
        difference + math.hypot(high_v - share_variant, share_control - low_c),
    )


def wilson(n: int, share: float, alpha: float) -> tuple[float, float]:
    """Score interval of one share. Source: Wilson 1927."""
    z = float(norm.isf(alpha / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
