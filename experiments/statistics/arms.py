"""One metric in one variant, ready to be compared: its mean and variance, with what the days before explain taken out.

Ratios are linearised by the delta method; CUPED subtracts theta times the pre-period's own deviation. Both come from
tea-tasting's aggregates; this adds whether the adjustment can be made at all and how much it really saved.

Source: Deng, Knoblich and Lu 2018, "Applying the delta method in metric analytics" (KDD); Deng, Xu, Kohavi and Walker
2013, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment data" (WSDM).
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal, NamedTuple

from tea_tasting.aggr import Aggregates

from experiments.cells import NUMBERS, Cell

Kind = Literal["mean", "proportion", "ratio"]
ROUNDING = 1e-12  # of a variance's own terms: what is left of them below this is arithmetic, not spread


class Names(NamedTuple):
    """Which numbers of a cell take part; None is the constant 1, as tea-tasting has it."""

    num: str
    den: str | None
    pre_num: str | None
    pre_den: str | None


class Arm(NamedTuple):
    """Mean and variance per unit of one variant, as they enter a comparison."""

    n: int
    mean: float  # adjusted, if CUPED was used
    var: float  # of one unit; the variance of the mean is var / n
    raw_mean: float
    raw_var: float

    @property
    def var_of_mean(self) -> float:
        return self.var / self.n


def kind_of(of_metric: str) -> Kind:
    """How variants are compared by a metric of that kind; cells of quantiles carry their variance as means do."""
    kinds: dict[str, Kind] = {"ratio": "ratio", "proportion": "proportion"}
    return kinds.get(of_metric, "mean")


def names_of(kind: Kind, cuped: bool) -> Names:
    den = "den" if kind == "ratio" else None
    return Names("num", den, "pre_num" if cuped else None, "pre_den" if cuped and den else None)


def aggregates(cell: Cell) -> Aggregates:
    """The cell as tea-tasting takes it, with all of its numbers that are known."""
    known = NUMBERS if cell.has_pre else NUMBERS[:2]
    return Aggregates(
        count_=cell.n,
        mean_={name: cell.mean(name) for name in known},
        var_={name: cell.cov(name, name) for name in known},
        cov_={pair: cell.cov(*pair) for pair in combinations(known, 2)},
    )


def why_not_cuped(kind: Kind, control: Cell, variant: Cell) -> str | None:
    """Why the days before cannot be used; None when they can."""
    if not (control.has_pre and variant.has_pre):
        return "no pre-period"
    if kind == "ratio" and not (control.mean_pre_den > 0 and variant.mean_pre_den > 0):
        return "the pre-period has no denominator"
    both = aggregates(control) + aggregates(variant)
    names = names_of(kind, True)
    if not both.ratio_var(names.pre_num, names.pre_den) > 0:
        return "nothing varies in the pre-period"
    return None


def arms(kind: Kind, control: Cell, variant: Cell, cuped: bool) -> tuple[Arm, Arm]:
    """Both arms of a comparison; theta is one for both, from their units together."""
    names = names_of(kind, cuped)
    left, right = aggregates(control), aggregates(variant)
    if not cuped:
        return _plain(left, names), _plain(right, names)
    both = left + right
    theta = float(_covariance(both, names) / both.ratio_var(names.pre_num, names.pre_den))
    centre = float(both.mean(names.pre_num) / both.mean(names.pre_den))
    return _adjusted(left, names, theta, centre), _adjusted(right, names, theta, centre)


def reduction(control: Arm, variant: Arm) -> float:
    """Share of the variance of the difference that CUPED took away; negative if it added some."""
    raw = control.raw_var / control.n + variant.raw_var / variant.n
    return 1.0 - (control.var_of_mean + variant.var_of_mean) / raw if raw > 0 else 0.0


def degrees_of_freedom(control: Arm, variant: Arm) -> float:
    """Welch 1947, eq. 28; infinite when nothing varies."""
    left, right = control.var_of_mean, variant.var_of_mean
    below = left**2 / (control.n - 1) + right**2 / (variant.n - 1)
    return (left + right) ** 2 / below if below > 0 else math.inf


def _plain(data: Aggregates, names: Names) -> Arm:
    mean = float(data.mean(names.num) / data.mean(names.den))
    var = float(data.ratio_var(names.num, names.den))
    var = var if var > ROUNDING * _magnitude(data, names) else 0.0
    return Arm(data.count(), mean, var, mean, var)


def _adjusted(data: Aggregates, names: Names, theta: float, centre: float) -> Arm:
    raw = _plain(data, names)
    pre = float(data.mean(names.pre_num) / data.mean(names.pre_den))
    pre_var = float(data.ratio_var(names.pre_num, names.pre_den))
    var = raw.raw_var + theta**2 * pre_var - 2 * theta * _covariance(data, names)
    var = var if var > ROUNDING * (_magnitude(data, names) + theta**2 * pre_var) else 0.0
    return Arm(raw.n, raw.raw_mean - theta * (pre - centre), var, raw.raw_mean, raw.raw_var)


def _magnitude(data: Aggregates, names: Names) -> float:
    """How large the terms are that a linearised variance is the small difference of."""
    num, den = float(data.mean(names.num)), float(data.mean(names.den))
    own = float(data.var(names.num)) + (num / den) ** 2 * float(data.var(names.den))
    return own / den**2 + (num / den) ** 2


def _covariance(data: Aggregates, names: Names) -> float:
    return float(data.ratio_cov(names.num, names.den, names.pre_num, names.pre_den))
