"""What a variant changed in one metric: estimate, interval, p-value, and everything that speaks against believing it.

One phase is tea-tasting's Welch, proportion, delta-method or CUPED test as it is. Several phases are compared each
within itself and only then combined, so that a change of allocation between them cannot look like an effect
(Simpson's paradox). The same formula stands in for a single phase where tea-tasting's relative interval overflows,
around a control of zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec
import tea_tasting as tt
from scipy.stats import chi2, norm
from scipy.stats import t as student

from experiments.cells import Cell
from experiments.statistics.arms import (
    Arm,
    Kind,
    aggregates,
    arms,
    degrees_of_freedom,
    names_of,
    reduction,
    why_not_cuped,
)
from experiments.statistics.proportions import FARTHEST, exact, is_binary, is_enough

ABSOLUTE = ("absolute", "absolute_low", "absolute_high", "p_value")
RELATIVE = ("relative", "relative_low", "relative_high")
EXACT = "Fisher's exact test, Newcombe's interval"
FEWEST_UNITS = 100  # in an arm, for what leans on the central limit theorem
FAR_FROM_ZERO = 3.0  # standard errors that both levels must be above 0 for a relative change to mean something
LARGEST_LOG = 700.0  # whose exponential is still a float
PHASES_DIFFER = 0.01  # p-value of Cochran's Q under which phases are said to disagree


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Variant against control in one metric. None is "could not be computed", and `flags` say why; never a zero.

    Estimates are per unit (ratios: per denominator), adjusted for the pre-period where `cuped_reduction` is a number.
    """

    metric: str
    control: str
    variant: str
    segment: tuple[str, str] | None = None
    n_control: int  # units of phases that took part; of a ratio those with a denominator, which say all there is
    n_variant: int
    estimate_control: float | None = None
    estimate_variant: float | None = None
    absolute: float | None = None
    absolute_low: float | None = None
    absolute_high: float | None = None
    relative: float | None = None  # variant / control - 1
    relative_low: float | None = None
    relative_high: float | None = None
    standard_error: float | None = None  # of `absolute`
    p_value: float | None = None
    p_adjusted: float | None = None  # for the other comparisons of the same family
    cuped_reduction: float | None = None  # share of variance that the pre-period took away; None: not used
    variances: tuple[float, float] | None = None  # of the two estimates
    method: str = "none"
    phases: int = 0  # that took part
    flags: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        return self.absolute is not None

    @property
    def n(self) -> int:
        return self.n_control + self.n_variant


@dataclass(frozen=True, slots=True)
class _Pair:
    phase: int | None
    control: Cell
    variant: Cell


@dataclass(slots=True)
class _Found:
    """The numbers of an `Effect` while they come together."""

    values: dict[str, object] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def compare(
    cells: Iterable[Cell],
    metric: str,
    control: str,
    variant: str,
    *,
    kind: Kind = "mean",
    alpha: float = 0.05,
    cuped: bool = True,
    segment: tuple[str, str] | None = None,
    day: int | None = None,
) -> Effect:
    """The effect in the cells of this metric, segment and day since exposure; one cell per variant and phase."""
    mine = [c for c in cells if (c.metric, c.segment, c.day_since_exposure) == (metric, segment, day)]
    unknown = list(dict.fromkeys(cell.unknown for cell in mine if cell.unknown is not None))
    pairs, flags = ([], unknown) if unknown else _pairs(mine, control, variant)
    found = _Found(flags=flags)
    if pairs:
        _estimate(found, pairs, kind, alpha, cuped)
    elif not flags:
        flags.append("no data")
    return Effect(
        metric=metric,
        control=control,
        variant=variant,
        segment=segment,
        n_control=_informative([pair.control for pair in pairs] or mine, control),
        n_variant=_informative([pair.variant for pair in pairs] or mine, variant),
        flags=tuple(found.flags),
        **found.values,  # type: ignore[arg-type]
    )


def _informative(cells: Iterable[Cell], variant: str) -> int:
    """Where nothing is written down, that nobody has a denominator is not known either."""
    mine = (cell for cell in cells if cell.variant == variant)
    return sum(cell.n_informative if cell.unknown is None else cell.n for cell in mine)


def _pairs(cells: Sequence[Cell], control: str, variant: str) -> tuple[list[_Pair], list[str]]:
    """The phases that have both arms, and why others have not."""
    pairs, flags = [], []
    by_phase = sorted(cells, key=lambda cell: -1 if cell.phase is None else cell.phase)
    for phase, group in groupby(by_phase, key=lambda cell: cell.phase):
        by_variant = {cell.variant: cell for cell in group}
        left, right = by_variant.get(control), by_variant.get(variant)
        where = "" if phase is None else f"phase {phase}: "
        if left is None or right is None or min(left.n, right.n) < 2:
            if left is not None or right is not None:
                n = {control: left.n if left else 0, variant: right.n if right else 0}
                flags.append(f"{where}too few units to compare: " + ", ".join(f"{v} {k}" for k, v in n.items()))
        elif not (left.mean_den > 0 and right.mean_den > 0):
            flags.append(f"{where}nothing to divide by: the denominator is 0")
        elif not all(math.isfinite(cell.mean_num + cell.var_num) for cell in (left, right)):
            flags.append(f"{where}the metric is not a finite number for every unit")
        else:
            pairs.append(_Pair(phase, left, right))
    return pairs, flags


def _estimate(found: _Found, pairs: Sequence[_Pair], kind: Kind, alpha: float, cuped: bool) -> None:
    if kind == "proportion" and not all(
        is_binary(cell.n, cell.mean_num, cell.var_num) for pair in pairs for cell in (pair.control, pair.variant)
    ):
        found.flags.append("a share with values other than 0 and 1 was treated as a mean")
        kind = "mean"
    reasons = [why_not_cuped(kind, pair.control, pair.variant) for pair in pairs]
    use_cuped = cuped and not any(reasons)
    if cuped and not use_cuped:
        found.flags.append(f"not adjusted for the pre-period: {next(reason for reason in reasons if reason)}")
    both = [arms(kind, pair.control, pair.variant, use_cuped) for pair in pairs]
    if use_cuped:
        found.values["cuped_reduction"] = _total_reduction(both)
    _levels(found, *_weighted(both))
    few = [
        _informative((pair.control for pair in pairs), pairs[0].control.variant),
        _informative((pair.variant for pair in pairs), pairs[0].variant.variant),
    ]
    if kind == "ratio" and min(few) < FEWEST_UNITS:
        found.flags.append(
            f"too few units with a denominator, {few[0]:,} and {few[1]:,}: {FEWEST_UNITS} are the least to compare"
        )
    elif len(both) == 1 and kind == "proportion" and not use_cuped and not all(is_enough(a.n, a.mean) for a in both[0]):
        _rare(found, both[0], alpha)
    elif not found.values["standard_error"]:
        found.flags.append("every unit has the same value: there is nothing to compare")
    elif not (
        len(both) == 1 and _relative_means_something(found) and _one_phase(found, pairs[0], kind, alpha, use_cuped)
    ):
        _weighted_phases(found, both, kind, alpha, use_cuped)
    _without_infinities(found)
    found.values["phases"] = len(pairs)


def _without_infinities(found: _Found) -> None:
    """What arithmetic could not hold is not known; nobody downstream has to expect a NaN."""
    for names in (RELATIVE, ABSOLUTE):
        held = [found.values.get(name) for name in names]
        if any(isinstance(value, float) and not math.isfinite(value) for value in held):
            found.values.update(dict.fromkeys(names))
            found.flags.append(f"no {names[0]} change: its interval is beyond what can be computed")


def _rare(found: _Found, both: tuple[Arm, Arm], alpha: float) -> None:
    control, variant = both
    difference = exact(control.n, control.mean, variant.n, variant.mean, alpha)
    found.values.update(
        absolute=difference.absolute,
        absolute_low=difference.low,
        absolute_high=difference.high,
        p_value=difference.p_value,
        method=EXACT,
    )
    found.flags.append("fewer than 5 units with or without the outcome: exact test, no relative change")


def at_level(effect: Effect, reach: float) -> tuple[float | None, float | None]:
    """The interval of `absolute` that excludes 0 just when the effect is `reach` normal quantiles away from it.

    None where there is none: without an effect, or without a standard error of one that is not of rare shares.
    """
    control, variant = effect.estimate_control, effect.estimate_variant
    if effect.absolute is None or control is None or variant is None:
        return None, None
    if effect.method == EXACT:
        alpha = float(2 * norm.sf(min(reach, FARTHEST)))
        difference = exact(effect.n_control, control, effect.n_variant, variant, alpha)
        return difference.low, difference.high
    if not effect.standard_error:
        return None, None
    half = reach * effect.standard_error
    return effect.absolute - half, effect.absolute + half


def _one_phase(found: _Found, pair: _Pair, kind: Kind, alpha: float, cuped: bool) -> bool:
    """Whether tea-tasting could: of a few units and a very small alpha its relative interval overflows."""
    try:
        result = _tea_tasting(pair, kind, alpha, cuped)
    except OverflowError:
        return False
    found.values.update(
        absolute=float(result.effect_size),
        absolute_low=float(result.effect_size_ci_lower),
        absolute_high=float(result.effect_size_ci_upper),
        p_value=float(result.pvalue),
        relative=float(result.rel_effect_size),
        relative_low=float(result.rel_effect_size_ci_lower),
        relative_high=float(result.rel_effect_size_ci_upper),
        method=_method(1, kind, cuped),
    )
    return True


def _tea_tasting(pair: _Pair, kind: Kind, alpha: float, cuped: bool) -> tt.metrics.MeanResult:
    names = names_of(kind, cuped)
    how = {"alternative": "two-sided", "confidence_level": 1 - alpha, "equal_var": False}
    if kind == "proportion" and not cuped:
        metric = tt.Proportion(names.num, method="norm", correction=False, **how)
    else:
        metric = tt.RatioOfMeans(*names, use_t=True, **how)
    return metric.analyze_aggregates(aggregates(pair.control), aggregates(pair.variant))


def _method(phases: int, kind: Kind, cuped: bool) -> str:
    if kind == "proportion" and not cuped:
        name = "two proportions, normal"
    else:
        name = ("delta method" if kind == "ratio" else "Welch") + (", CUPED" if cuped else "")
    return name if phases == 1 else f"{phases} phases, each within itself: {name}"


def _weighted_phases(found: _Found, both: Sequence[tuple[Arm, Arm]], kind: Kind, alpha: float, cuped: bool) -> None:
    """Weights are n_c n_v / (n_c + n_v) per phase (Mantel and Haenszel 1959): of counts alone, never of outcomes.

    Degrees of freedom after Satterthwaite 1946 over the phases' own of Welch.
    """
    mean_c, mean_v, var_c, var_v = _weighted(both)
    law = _law(both)
    error, reach = math.sqrt(var_c + var_v), float(law.isf(alpha / 2))
    absolute = mean_v - mean_c
    found.values.update(
        absolute=absolute,
        absolute_low=absolute - reach * error,
        absolute_high=absolute + reach * error,
        p_value=float(2 * law.sf(abs(absolute) / error)),
        method=_method(len(both), kind, cuped),
    )
    if _relative_means_something(found):
        log_error = math.sqrt(var_c / mean_c**2 + var_v / mean_v**2)
        ratio = mean_v / mean_c
        found.values.update(
            relative=ratio - 1,
            relative_low=ratio * math.exp(-reach * log_error) - 1,
            relative_high=ratio * math.exp(reach * log_error) - 1 if reach * log_error < LARGEST_LOG else math.inf,
        )
    else:
        found.flags.append("no relative change: a level is too close to zero, or below")
    p = p_same([(v.mean - c.mean, c.var_of_mean + v.var_of_mean) for c, v in both])
    if p is not None and p < PHASES_DIFFER:
        found.flags.append(f"the effect is not the same in all phases (Cochran's Q, p = {p:.2g})")


def _law(both: Sequence[tuple[Arm, Arm]]) -> Any:
    weights = _weights(both)
    parts = [w * w * (c.var_of_mean + v.var_of_mean) for w, (c, v) in zip(weights, both, strict=True)]
    below = sum(part**2 / degrees_of_freedom(*two) for part, two in zip(parts, both, strict=True))
    return student(df=sum(parts) ** 2 / below) if below > 0 else norm()


def _weights(both: Sequence[tuple[Arm, Arm]]) -> list[float]:
    raw = [c.n * v.n / (c.n + v.n) for c, v in both]
    return [w / sum(raw) for w in raw]


def _weighted(both: Sequence[tuple[Arm, Arm]]) -> tuple[float, float, float, float]:
    """Means of control and variant and the variances of these means, over the phases."""
    weights = _weights(both)
    means = [sum(w * two[side].mean for w, two in zip(weights, both, strict=True)) for side in (0, 1)]
    variances = [sum(w * w * two[side].var_of_mean for w, two in zip(weights, both, strict=True)) for side in (0, 1)]
    return means[0], means[1], variances[0], variances[1]


def _total_reduction(both: Sequence[tuple[Arm, Arm]]) -> float:
    if len(both) == 1:
        return reduction(*both[0])
    weights = _weights(both)
    adjusted = sum(w * w * (c.var_of_mean + v.var_of_mean) for w, (c, v) in zip(weights, both, strict=True))
    raw = sum(w * w * (c.raw_var / c.n + v.raw_var / v.n) for w, (c, v) in zip(weights, both, strict=True))
    return 1.0 - adjusted / raw if raw > 0 else 0.0


def p_same(effects: Sequence[tuple[float, float]]) -> float | None:
    """p-value of "all effects are the same", of effects with their variances; None of fewer than two.

    Source: Cochran 1954, "The combination of estimates from different experiments": his Q.
    """
    usable = [(effect, var) for effect, var in effects if var > 0]
    if len(usable) < 2:
        return None
    precision = [1 / var for _, var in usable]
    centre = sum(p * effect for p, (effect, _) in zip(precision, usable, strict=True)) / sum(precision)
    q = sum(p * (effect - centre) ** 2 for p, (effect, _) in zip(precision, usable, strict=True))
    return float(chi2.sf(q, len(usable) - 1))


def _levels(found: _Found, mean_c: float, mean_v: float, var_c: float, var_v: float) -> None:
    found.values.update(
        estimate_control=mean_c,
        estimate_variant=mean_v,
        standard_error=math.sqrt(var_c + var_v),
        variances=(var_c, var_v),
    )


def _relative_means_something(found: _Found) -> bool:
    """Whether both levels are above 0, for sure: a ratio to something that may be zero may be anything."""
    variances = found.values["variances"]
    assert isinstance(variances, tuple)
    means = found.values["estimate_control"], found.values["estimate_variant"]
    return all(mean > FAR_FROM_ZERO * math.sqrt(var) for mean, var in zip(means, variances, strict=True))  # type: ignore[operator]
