"""Pictures of an analysis: changes by metric, the path over its looks, exposures, segments, and days since exposure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from statistics import median
from typing import Any

from experiments.analysis import Analysis, MetricEffects
from experiments.report import amounts, plots
from experiments.report.document import Picture
from experiments.report.plots import Interval
from experiments.statistics.effect import Effect
from experiments.statistics.novelty import Novelty
from experiments.statistics.segments import SegmentEffects
from experiments.statistics.sequential import Look, Path
from experiments.statistics.verdict import held

CUT = 4.0  # times the median interval; beyond it, one noisy metric would leave the others no room
FEWEST_TO_CUT = 3


def effects_picture(found: Analysis) -> Picture | None:
    """Relative changes with their intervals, the primary first; None if no metric has one."""
    rows = [row for metric in found.metrics for row in _rows(found, metric)]
    if not rows:
        return None
    limit = cut_at(rows)
    made = plots.forest(
        rows,
        f"Change of each metric against {found.control}",
        "relative change",
        lambda x: amounts.tick(x, percent=True),
        limit=limit,
    )
    cut = [row.label for row in rows if limit and max(abs(row.low or 0), abs(row.high or 0)) > limit]
    caption = f"Thick: the {_level(found)} interval of one look."
    caption += " Thin: the one that holds at every look." if any(row.wide_low is not None for row in rows) else ""
    caption += " An arrow: the interval goes on beyond the picture." if cut else ""
    return Picture(
        name="effects",
        svg=plots.svg(made, "effects"),
        alt="; ".join(f"{row.label}: {_told(row)}" for row in rows),
        caption=caption,
    )


def path_picture(found: Analysis, one: Path, metric: MetricEffects, i: int, currency: str) -> Picture | None:
    """The effect with its confidence sequence and, where there is a plan, the test statistic with its boundaries."""
    looks = [look for look in one.looks if look.effect.absolute is not None]
    if not looks:
        return None
    bounded = [look for look in looks if look.bound is not None and look.z is not None]
    made, axes = plots.figure(4.6 if bounded else 2.9, 2 if bounded else 1, [3, 2] if bounded else None)
    told = _absolute(metric.unit, currency)
    _draw_sequence(axes[0], looks, i)
    plots.title(axes[0], f"{metric.title}: {one.variant} minus {found.control}")
    axes[0].set_ylabel(_unit(metric.unit, currency))
    axes[0].yaxis.set_major_formatter(lambda x, _: _tick(x, metric.unit))
    if bounded:
        _draw_boundaries(axes[1], looks, bounded, i)
    if one.decided_at is not None:
        for each in axes:
            each.axvline(one.decided_at, color=plots.colour("good" if one.outcome == "better" else "bad"), lw=1.5)
    plots.days_axis(axes[-1])
    return Picture(
        name=f"path-{i + 1}",
        svg=plots.svg(made, f"path-{i + 1}"),
        alt=_path_in_words(found, one, told),
        caption=_path_caption(one, bounded=bool(bounded)),
    )


def exposures_picture(found: Analysis, weights: dict[int, dict[str, float]]) -> Picture | None:
    """New units a day, and each variant's share of all so far beside the share that it was to get."""
    if not found.exposures:
        return None
    made, axes = plots.figure(4.4, 2)
    names = (found.control, *found.variants)
    days = sorted({one.day for one in found.exposures})
    at = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in days]
    total = list(accumulate(sum(one.n for one in found.exposures if one.day == day) for day in days))
    for i, name in enumerate(names):
        n = [sum(one.n for one in found.exposures if (one.day, one.variant) == (day, name)) for day in days]
        shade = plots.colour("control") if i == 0 else plots.series(i - 1)
        mark = "." if i == 0 else plots.marker(i - 1)
        share = [a / b for a, b in zip(accumulate(n), total, strict=True)]
        axes[0].plot(at, n, color=shade, marker=mark, ms=5, lw=1.6, label=name)
        axes[1].plot(at, share, color=shade, marker=mark, ms=5, lw=1.6)
        axes[1].plot(at, _planned(found, weights, name, days, total), color=shade, lw=1.2, ls=":")
    plots.title(axes[0], "New units a day")
    plots.title(axes[1], "Share of all units so far")
    plots.legend(axes[0], ncols=min(4, len(names)))
    axes[0].set_ylim(bottom=0)
    axes[0].yaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes[1].yaxis.set_major_formatter(lambda x, _: f"{x:.1%}")
    for axis in axes:
        axis.margins(x=0.03)
    for phase in sorted({one.phase for one in found.exposures})[1:]:
        first = min(one.day for one in found.exposures if one.phase == phase)
        for axis in axes:
            axis.axvline(datetime.fromisoformat(first).replace(tzinfo=UTC), color=plots.colour("quiet"), ls="--", lw=1)
    plots.days_axis(axes[1])
    counts = {name: sum(one.n for one in found.exposures if one.variant == name) for name in names}
    phases = len({one.phase for one in found.exposures})
    return Picture(
        name="exposures",
        svg=plots.svg(made, "exposures"),
        alt="Units by variant: " + ", ".join(f"{n:,} {name} ({n / total[-1]:.1%})" for name, n in counts.items()),
        caption="Dotted: the share that each variant was to get."
        + (" Dashed: a new phase begins, with other weights or more traffic." if phases > 1 else ""),
    )


def segment_picture(
    found: Analysis, groups: Sequence[SegmentEffects], metric: MetricEffects, i: int, currency: str
) -> Picture | None:
    """Effects by the values of one segment, of all variants; relative where all of them can be."""
    known = [effect for group in groups for effect in group.effects if effect.known]
    if not known:
        return None
    relative = all(effect.relative is not None and effect.relative_low is not None for effect in known)
    rows = [_segment_row(found, effect, relative) for effect in known]
    told = amounts.change if relative else _absolute(metric.unit, currency)
    scale = "relative change" if relative else f"change, {_unit(metric.unit, currency)}"
    made = plots.forest(
        rows,
        f"{metric.title} by {groups[0].segment}",
        scale,
        lambda x: amounts.tick(x, percent=True) if relative else _tick(x, metric.unit),
        limit=cut_at(rows),
    )
    return Picture(
        name=f"segment-{i + 1}",
        svg=plots.svg(made, f"segment-{i + 1}"),
        alt="; ".join(f"{row.label}: {_told(row, told)}" for row in rows),
        caption=f"{_level(found)} intervals, not corrected for looking at all of them; the p-values of the table are.",
    )


def novelty_picture(found: Analysis, one: Novelty, metric: MetricEffects, i: int, currency: str) -> Picture | None:
    """Effects by days since first exposure."""
    known = [
        (day, effect) for day, effect in zip(one.days, one.effects, strict=True) if effect.absolute_low is not None
    ]
    if not known:
        return None
    made, (axes,) = plots.figure(2.9)
    plots.title(axes, f"{metric.title} a day: {one.variant} minus {found.control}")
    axes.axhline(0, color=plots.colour("quiet"), lw=1.2, ls="--")
    for day, effect in known:
        axes.plot([day, day], [effect.absolute_low, effect.absolute_high], color=plots.series(i), lw=3)
        axes.plot(day, effect.absolute, plots.marker(i), color=plots.series(i), ms=7, mec=plots.colour("paper"))
    told = _absolute(metric.unit, currency)
    axes.yaxis.set_major_formatter(lambda x, _: _tick(x, metric.unit))
    axes.set_ylabel(_unit(metric.unit, currency))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("days since first exposure")
    first, last = known[0][1].absolute or 0.0, known[-1][1].absolute or 0.0
    return Picture(
        name=f"novelty-{i + 1}",
        svg=plots.svg(made, f"novelty-{i + 1}"),
        alt=f"From {told(first)} on day {known[0][0]} to {told(last)} on day {known[-1][0]}; trend: {one.trend}",
        caption=f"{_level(found)} intervals, of each day by itself.",
    )


def _rows(found: Analysis, metric: MetricEffects) -> list[Interval]:
    rows = []
    for i, effect in enumerate(metric.effects):
        if effect.relative is None or effect.relative_low is None or effect.relative_high is None:
            continue
        seen = held(found.paths[i].looks[-1]) if metric.role == "primary" and found.paths[i].looks else None
        which = f" · {effect.variant}" if len(found.variants) > 1 else ""
        rows.append(
            Interval(
                label=f"{metric.title}{which}\n({metric.role}, {metric.better} is better)",
                value=effect.relative,
                low=effect.relative_low,
                high=effect.relative_high,
                wide_low=seen.low if seen is not None and seen.relative else None,
                wide_high=seen.high if seen is not None and seen.relative else None,
                series=i,
            )
        )
    return rows


def _segment_row(found: Analysis, effect: Effect, relative: bool) -> Interval:
    value, low, high = (
        (effect.relative, effect.relative_low, effect.relative_high)
        if relative
        else (effect.absolute, effect.absolute_low, effect.absolute_high)
    )
    assert effect.segment is not None
    assert value is not None
    which = f" · {effect.variant}" if len(found.variants) > 1 else ""
    label = f"{effect.segment[1]}{which}\n({effect.n:,} units)"
    return Interval(label=label, value=value, low=low, high=high, series=found.variants.index(effect.variant))


def cut_at(rows: Sequence[Interval]) -> float | None:
    """Where the axis is cut, if one interval is much wider than the others; None: nowhere."""
    ends = [max(abs(e) for e in (row.low, row.high, row.wide_low, row.wide_high) if e is not None) for row in rows]
    values = max(abs(row.value) for row in rows)
    usual = max(CUT * median(ends), 1.15 * values, 1.1 * ends[0])
    return usual if len(rows) >= FEWEST_TO_CUT and max(ends) > usual else None


def _draw_sequence(axes: Any, looks: Sequence[Look], i: int) -> None:
    at = [look.at for look in looks]
    always = [look for look in looks if look.always_low is not None]
    axes.axhline(0, color=plots.colour("quiet"), lw=1.2, ls="--")
    if always:
        low, high = [look.always_low for look in always], [look.always_high for look in always]
        when = [look.at for look in always]
        axes.fill_between(when, low, high, color=plots.series(i), alpha=0.18, lw=0)
        for end in (low, high):
            axes.plot(when, end, color=plots.series(i), lw=1)
    values = [look.effect.absolute for look in looks]
    axes.plot(at, values, color=plots.series(i), marker=plots.marker(i), ms=5, lw=1.8)


def _draw_boundaries(axes: Any, looks: Sequence[Look], bounded: Sequence[Look], i: int) -> None:
    at = [look.at for look in bounded]
    bounds = [look.bound or 0.0 for look in bounded]
    for sign in (1, -1):
        line = [sign * bound for bound in bounds]
        axes.plot(at, line, color=plots.colour("ink"), lw=1.4, marker="_", ms=8)
    seen = [look for look in looks if look.z is not None]
    axes.plot(
        [look.at for look in seen], [look.z for look in seen], color=plots.series(i), marker=plots.marker(i), ms=5
    )
    axes.axhline(0, color=plots.colour("quiet"), lw=1.2, ls="--")
    largest = max(abs(look.z or 0.0) for look in seen)
    axes.set_ylim(*(side * 1.15 * max(largest, min(max(bounds), 2 * min(bounds))) for side in (-1, 1)))
    plots.title(axes, "Test statistic between its boundaries")
    axes.set_ylabel("z")


def _planned(
    found: Analysis, weights: dict[int, dict[str, float]], name: str, days: Sequence[str], total: Sequence[int]
) -> list[float]:
    """The share so far that the variant was to get, by the weights of each unit's phase."""
    want = accumulate(
        sum(one.n * weights.get(one.phase, {}).get(name, 0.0) for one in found.exposures if one.day == day)
        for day in days
    )
    return [a / b for a, b in zip(want, total, strict=True)]


def _path_in_words(found: Analysis, one: Path, told: Callable[[float], str]) -> str:
    last = one.looks[-1]
    words = f"{len(one.looks)} looks at {one.variant} against {found.control}"
    if last.effect.absolute is not None:
        words += f"; the last says {told(last.effect.absolute)}"
    if last.always_low is not None and last.always_high is not None:
        words += f", between {told(last.always_low)} and {told(last.always_high)} however often one looks"
    return words + (f"; decided {one.outcome} on {one.decided_at:%Y-%m-%d}" if one.decided_at else "; not decided")


def _path_caption(one: Path, *, bounded: bool) -> str:
    words = "The band is a confidence sequence: it holds at all looks together, so that harm may be seen at any time."
    if bounded:
        words += " Below, the group-sequential boundaries of the planned looks: beyond them it is decided."
    if one.decided_at is not None:
        words += f" Vertical line: decided on {one.decided_at:%Y-%m-%d} by the {one.decided_by}."
    return words


def _told(row: Interval, told: Callable[[float | None], str] = amounts.change) -> str:
    return f"{told(row.value)}, between {told(row.low)} and {told(row.high)}"


def _absolute(unit: str, currency: str) -> Callable[[float | None], str]:
    def told(value: float | None) -> str:
        return "0" if value == 0 else amounts.difference(value, unit, currency)

    return told


def _tick(value: float, unit: str) -> str:
    """Shares in percent, or points; the axis says which."""
    return amounts.tick(100 * value) if unit in ("share", "customers") else amounts.tick(value)


def _unit(unit: str, currency: str) -> str:
    words = {"share": "percentage points", "customers": "percentage points", "currency": currency, "ms": "milliseconds"}
    return words.get(unit, unit)


def _level(found: Analysis) -> str:
    return f"{100 * (1 - found.alpha):g}%"
