"""A comparison of simulated policies as text: a table of levels, and what each policy made of the first one's."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.simulate.compared import MEASURES, Comparison, Difference, Estimate, Measure

Rows = list[list[str]]


def levels(found: Comparison) -> tuple[list[str], Rows]:
    """Header and one row per policy."""
    header = ["policy", *(one.title for one in MEASURES), "decisions/s", "degraded"]
    rows = []
    for arm in found.arms:
        held = {one.measure: one for one in found.estimates if one.arm == arm}
        speed = found.n_decisions[arm] / found.seconds[arm] if found.seconds[arm] else 0.0
        rows.append([
            arm, *(_level(held[one.name], one) for one in MEASURES), f"{speed:,.0f}", f"{found.degraded[arm]:,}",
        ])  # fmt: skip
    return header, rows


def differences(found: Comparison, measures: Sequence[str]) -> tuple[list[str], Rows]:
    """Header and one row per measure and policy but the first."""
    share = f"{1 - found.alpha:.0%}"
    header = ["measure", f"minus {found.arms[0]}", "difference", f"{share} interval", "of independent runs", "worth"]
    rows = [
        [measure.title, one.arm, *_difference(one, measure)]
        for measure in MEASURES
        if measure.name in measures
        for one in found.differences
        if one.measure == measure.name
    ]
    return header, rows


def _level(one: Estimate, measure: Measure) -> str:
    if one.estimate is None or one.high is None:
        return "none"
    return f"{amount(one.estimate, measure.unit)} ± {amount(one.high - one.estimate, measure.unit)}"


def _difference(one: Difference, measure: Measure) -> list[str]:
    if one.absolute is None:
        return ["none", "", "", ""]
    relative = f" ({one.relative:+.1%})" if one.relative is not None and measure.unit != "share" else ""
    return [
        f"{amount(one.absolute, measure.unit, sign=True)}{relative}",
        _range(one.low, one.high, measure.unit),
        _range(one.independent_low, one.independent_high, measure.unit),
        f"{one.worth:.1f} x the customers" if one.worth is not None else "",
    ]


def _range(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return ""
    return f"{amount(low, unit, sign=True)} to {amount(high, unit, sign=True)}"


def amount(value: float, unit: str, *, sign: bool = False) -> str:
    """As people read it; shares in per cent."""
    plus = "+" if sign else ""
    return f"{value:{plus}.2%}" if unit == "share" else f"{value:{plus},.2f}"
