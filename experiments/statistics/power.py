"""How many units and days an experiment needs before it starts, and what it could still find while it runs.

Sizes are those of a fixed test by tea-tasting from a sample of the past, with its pre-period where there is one, times
what looking several times costs (`group_sequential.inflation`) and, for more than one variant, at the share of alpha
that each comparison gets. A change that multiplies what units do multiplies their spread too, which tea-tasting's equal
variances leave out: a variant that is to gain 30 % varies 1.69 times as much.

Source: Cohen 1988 for the fixed size; Jennison and Turnbull 2000, section 2.4, for the inflation by looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import tea_tasting as tt
from scipy.stats import norm

from experiments.cells import Cell
from experiments.statistics.arms import Kind, aggregates, names_of, why_not_cuped
from experiments.statistics.effect import Effect
from experiments.statistics.group_sequential import inflation
from features.errors import BadInput

DEFAULT_LOOKS = 20
TYPICAL_DAYS = 7  # at the end of what was seen, whose mean goes on after it


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to find a relative change. None is "cannot be computed", and `flags` say why."""

    metric: str
    relative: float
    power: float
    alpha: float  # of one comparison
    n_per_comparison: int | None = None  # control and one variant together, looks included
    n_units: int | None = None  # over all variants
    days: int | None = None
    looks: int = 1
    inflation: float = 1.0
    cuped: bool = False
    flags: tuple[str, ...] = ()


def plan(
    cell: Cell,
    relative: float,
    *,
    kind: Kind = "mean",
    alpha: float = 0.05,
    power: float = 0.8,
    weights: Sequence[float] = (0.5, 0.5),
    looks: int = DEFAULT_LOOKS,
    cuped: bool = True,
    new_units_per_day: Sequence[float] = (),
) -> Plan:
    """Units and days to find a change of `relative` with that power, from a sample of units as they are today.

    `weights` begin with control's; the smallest variant decides. `new_units_per_day`: first exposures to be expected
    on each day since a start, from the past: returning customers make later days slower; after its end the mean of its
    last seven days goes on.
    """
    _check_plan(relative, power, weights)
    alpha_each = alpha / (len(weights) - 1)
    use_cuped = cuped and why_not_cuped(kind, cell, cell) is None
    result = Plan(metric=cell.metric, relative=relative, power=power, alpha=alpha_each, looks=looks, cuped=use_cuped)
    why = _why_no_size(cell, kind)
    if why is not None:
        return msgspec.structs.replace(result, flags=(why,))
    smallest = min(weights[1:])
    fixed = _fixed_size(cell, kind, use_cuped, relative, alpha_each, power, smallest / weights[0])
    fixed *= _wider(cell, kind, relative, smallest / weights[0])
    factor = inflation(looks, alpha_each, power) if looks > 1 else 1.0
    n = math.ceil(fixed * factor)
    units = math.ceil(n / (weights[0] + smallest))
    return msgspec.structs.replace(
        result, n_per_comparison=n, n_units=units, inflation=factor, days=days_until(units, new_units_per_day)
    )


def days_until(units: float, new_units_per_day: Sequence[float]) -> int | None:
    """Days until so many units were exposed; None if that cannot be said, or would never be."""
    seen = 0.0
    for day, new in enumerate(new_units_per_day, start=1):
        seen += new
        if seen >= units:
            return day
    last = new_units_per_day[-TYPICAL_DAYS:]
    rate = sum(last) / len(last) if last else 0.0
    return len(new_units_per_day) + math.ceil((units - seen) / rate) if rate > 0 else None


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest effect that would be found with that power: with the units so far, and at the planned size."""

    metric: str
    variant: str
    power: float
    absolute: float | None = None
    relative: float | None = None
    absolute_at_plan: float | None = None
    relative_at_plan: float | None = None
    flags: tuple[str, ...] = ()


def smallest_detectable(
    effect: Effect, *, alpha: float = 0.05, power: float = 0.8, share_of_plan: float | None = None
) -> Reach:
    """From the standard error that the experiment has now; `share_of_plan` is the planned units that are in.

    A fixed test's: (z_(alpha/2) + z_power) * standard error; at the plan, the error shrinks with the root of the share.
    """
    if not effect.standard_error:
        why = "no standard error yet"
        return Reach(metric=effect.metric, variant=effect.variant, power=power, flags=(why,))
    now = float(norm.isf(alpha / 2) + norm.ppf(power)) * effect.standard_error
    planned = now * math.sqrt(min(share_of_plan, 1.0)) if share_of_plan else None
    level = effect.estimate_control if effect.relative is not None else None
    return Reach(
        metric=effect.metric,
        variant=effect.variant,
        power=power,
        absolute=now,
        relative=now / level if level else None,
        absolute_at_plan=planned,
        relative_at_plan=planned / level if level and planned is not None else None,
    )


def _fixed_size(
    cell: Cell, kind: Kind, cuped: bool, relative: float, alpha: float, power: float, ratio: float
) -> float:
    """Units of both arms of a fixed test; `ratio` is the variant's units over control's."""
    metric = tt.RatioOfMeans(
        *names_of(kind, cuped),
        alternative="two-sided",
        alpha=alpha,
        power=power,
        ratio=ratio,
        rel_effect_size=relative,
        use_t=False,  # with it, tea-tasting's search begins at arms of one unit, which have no variance
        equal_var=False,
    )
    (found,) = metric.solve_power_from_aggregates(aggregates(cell), "n_obs")
    return float(found.n_obs)


def _wider(cell: Cell, kind: Kind, relative: float, ratio: float) -> float:
    """What the variant's own variance adds to the size: (1/n_c + v/n_v) / (1/n_c + 1/n_v), v its ratio to control's."""
    if kind == "proportion":
        share = cell.mean_num * (1 + relative)
        v = share * (1 - share) / (cell.mean_num * (1 - cell.mean_num)) if 0 < share < 1 else 1.0
    else:
        v = (1 + relative) ** 2
    return (ratio + v) / (ratio + 1.0)


def _why_no_size(cell: Cell, kind: Kind) -> str | None:
    if cell.n < 2:
        return "no past data of this metric"
    if kind == "ratio" and not cell.mean_den > 0:
        return "nothing to divide by: the denominator is 0"
    if not cell.mean_num > 0:
        return "the metric's mean is not above 0: a relative change means nothing"
    if not cell.var_num > 0:
        return "every unit has the same value"
    return None


def _check_plan(relative: float, power: float, weights: Sequence[float]) -> None:
    if not relative:
        raise BadInput("a change of 0 cannot be found, expected another relative change", "relative")
    if not -1 < relative < math.inf:
        raise BadInput(f"the change is {relative}, expected a finite one above -1", "relative")
    if not 0 < power < 1:
        raise BadInput(f"power is {power}, expected between 0 and 1", "power")
    if len(weights) < 2 or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-6:
        raise BadInput(f"weights are {tuple(weights)}, expected two or more above 0 that sum to 1", "weights")
