"""Qini and uplift curves of units ordered by a score, and what contacting a share of them gains.

Units of equal score share their place: a part of a tied group counts as that part of each of its units. Weights may
be counts of a bootstrap. Sources: Radcliffe, Using control groups to target on predicted lift (2007); Devriendt, Van
Belle, Guns and Verbeke, Learning to rank for uplift modeling (2020), https://arxiv.org/abs/2002.05897
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.uplift.trial import Flags

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was done to units and what came of it; shapes (n,)."""

    y: Flags
    treated: Flags
    weight: Numbers  # by which the arms are made alike: 1 where chance decided with one propensity for all


def alike(y: Flags, treated: Flags, propensity: Numbers) -> Outcomes:
    """Weighted by the share of the unit's arm / the chance of its arm, whose mean in each arm is about 1."""
    share = float(treated.mean())
    weight = np.where(treated, share / propensity, (1.0 - share) / (1.0 - propensity))
    return Outcomes(y, treated, weight)


@dataclass(frozen=True, slots=True)
class Order:
    """Units from the highest score to the lowest."""

    order: NDArray[np.intp]  # (n,)
    ends: NDArray[np.intp]  # (n_groups,) place of the last unit of each distinct score


def order_by(score: Numbers) -> Order:
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    return Order(order, np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1))


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the units of the highest scores, after each distinct one, from none; shapes (n_groups + 1,)."""

    n: Numbers
    n_treated: Numbers
    n_control: Numbers
    y_treated: Numbers
    y_control: Numbers

    def at(self, share: NDArray[np.float64] | float) -> Sums:
        """The sums of the first `share` of the units, tied ones in part."""
        x = np.asarray(share) * self.n[-1]
        rest = (np.interp(x, self.n, getattr(self, name)) for name in self.__slots__[1:])
        return Sums(x, *rest)


def sums(by: Order, of: Outcomes, counts: Numbers | None = None) -> Sums:
    """`counts`: how often each unit counts, (n,); None: once."""
    n = np.ones(len(of.y)) if counts is None else counts
    w = n * of.weight
    treated = np.where(of.treated, w, 0.0)
    columns = np.stack([n, treated, w - treated, treated * of.y, (w - treated) * of.y])
    totals = np.cumsum(columns[:, by.order], axis=1)[:, by.ends]
    return Sums(*np.concatenate([np.zeros((5, 1)), totals], axis=1))


def difference(s: Sums) -> Numbers:
    """Mean outcome of the treated less that of control, NaN where an arm has nobody; the shape of the sums."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            (s.n_treated > 0) & (s.n_control > 0), s.y_treated / s.n_treated - s.y_control / s.n_control, np.nan
        )


def band_effect(s: Sums, low: float, high: float) -> float:
    """The difference among the units between two shares, from the top: (0, 0.3) are the highest 30 %."""
    first, last = s.at(low), s.at(high)
    inside = Sums(*(np.asarray(getattr(last, name) - getattr(first, name)) for name in s.__slots__))
    return float(difference(inside))


def qini_curve(s: Sums) -> Numbers:
    """Outcomes gained among the treated of the first units, beyond what control lets expect; (n_groups + 1,)."""
    ratio = np.divide(s.n_treated, s.n_control, out=np.zeros_like(s.n_treated), where=s.n_control > 0)
    return s.y_treated - s.y_control * ratio


def uplift_curve(s: Sums) -> Numbers:
    """The difference among the first units times how many they are; an arm with nobody has a mean of 0."""
    of_treated = np.divide(s.y_treated, s.n_treated, out=np.zeros_like(s.n), where=s.n_treated > 0)
    of_control = np.divide(s.y_control, s.n_control, out=np.zeros_like(s.n), where=s.n_control > 0)
    found: Numbers = (of_treated - of_control) * s.n
    return found


def area(x: Numbers, y: Numbers) -> float:
    return float(np.trapezoid(y, x))


def auuc(s: Sums) -> float:
    """Area under the uplift curve over shares, in outcomes per unit; an order at random has half of the mean effect."""
    return area(s.n, uplift_curve(s)) / float(s.n[-1]) ** 2


def qini(s: Sums, perfect: Sums) -> float:
    """Area between the Qini curve and the line of a random order, as a share of what a perfect order has.

    1 is perfect, 0 is random, below 0 is worse. `perfect` are sums in the order of `best_order`. NaN where even that is
    no better than random.
    """
    random = float(s.n[-1]) * float(qini_curve(s)[-1]) / 2.0
    most = area(perfect.n, qini_curve(perfect)) - random
    return (area(s.n, qini_curve(s)) - random) / most if most > 0.0 else float("nan")


def best_order(of: Outcomes) -> Order:
    """Treated with the outcome first, control with the outcome last: what nobody can know beforehand."""
    return order_by((of.y & of.treated).astype(np.float64) - (of.y & ~of.treated))
