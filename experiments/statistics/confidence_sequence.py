"""Asymptotic confidence sequences: intervals that may be looked at after every unit, for ever.

With probability 1 - alpha the truth lies within all of them at once, so that an alarm may go off at any moment and
needs no plan. They are wider than a group-sequential test, which is why they watch for harm and do not decide.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021 (arXiv:2103.06476), theorem 2.2, for the mean of n values,

    mean +- sigma * sqrt( (n rho^2 + 1) / (n^2 rho^2) * log((n rho^2 + 1) / alpha^2) )

and section 3 for estimates that behave like a mean, such as a difference of two arms. With the standard error
s = sigma / sqrt(n) it reads: estimate +- s * multiplier(n).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import lambertw

from features.errors import BadInput

UNPLANNED_UNITS = 10_000  # where the sequence is tightest when nobody planned a size


def multiplier(n: ArrayLike, alpha: float = 0.05, tightest_at: float = UNPLANNED_UNITS) -> NDArray[np.float64]:
    """How many standard errors the interval reaches to either side after `n` units in all, any shape."""
    if not 0 < alpha < 1:
        raise BadInput(f"alpha is {alpha}, expected between 0 and 1", "alpha")
    if not tightest_at > 0:
        raise BadInput(f"tightest_at is {tightest_at} units, expected more than 0", "tightest_at")
    x = np.asarray(n, dtype=np.float64) * best_rho2(alpha) / tightest_at
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(x > 0, np.sqrt((x + 1) / x * np.log((x + 1) / alpha**2)), np.inf))


def best_rho2(alpha: float) -> float:
    """rho^2 times the number of units at which the sequence is narrowest.

    The minimum of (x + 1) / x * log((x + 1) / alpha^2) over x = n rho^2, by Lambert's W.
    Source: the same, appendix B.2; Howard, Ramdas, McAuliffe and Sekhon 2021, eq. 3.4.
    """
    return float(-lambertw(-(alpha**2) * np.exp(-1.0), -1).real - 1.0)
