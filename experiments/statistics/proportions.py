"""Two shares of units, also where so few said yes (or no) that a normal law does not hold.

Enough of each: the normal approximation of tea-tasting. Too few: Fisher's exact test for the p-value, and Newcombe's
hybrid score interval, which stays within -1 and 1 and has a width even when nobody said yes.

Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", Statistics in Medicine
17, method 10; Cochran 1954 for the five that make it enough.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tea_tasting as tt
from scipy.stats import norm
from tea_tasting.aggr import Aggregates

ENOUGH = 5  # units that said yes, and that said no, in each arm


class Exact(NamedTuple):
    """A difference of shares with its exact p-value and score interval."""

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
    """Fisher's test and Newcombe's interval of the variant's share minus the control's."""
    control = Aggregates(n_control, {"yes": share_control})
    variant = Aggregates(n_variant, {"yes": share_variant})
    tested = tt.Proportion("yes", method="fisher", alternative="two-sided").analyze_aggregates(control, variant)
    low, high = newcombe(n_control, share_control, n_variant, share_variant, alpha)
    return Exact(share_variant - share_control, low, high, float(tested.pvalue))


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
