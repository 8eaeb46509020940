"""Pictures of a weekly digest: what changed, customers by day, and segments beside what was expected of them."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.digest.digest import Digest
from experiments.digest.likings import Liking
from experiments.report import amounts, plots
from experiments.report.document import Picture
from experiments.report.plots import Interval

WIDEST = 5.0  # times the median interval; beyond it, one noisy measure would leave the others no room


def changes_picture(digest: Digest) -> Picture | None:
    """Relative changes against the week before with their intervals; None if no measure has one."""
    rows = [
        Interval(label=one.title, value=c.relative, low=c.relative_low, high=c.relative_high)
        for one in digest.measures
        if (c := one.change) is not None and c.relative is not None and c.relative_low is not None
    ]
    if not rows:
        return None
    limit = _limit(rows)
    made = plots.forest(
        rows,
        "Change against the week before",
        "relative change, 95% intervals",
        lambda x: amounts.change(x) if x else "0%",
        limit=limit,
    )
    cut = any(limit is not None and max(abs(row.low or 0.0), abs(row.high or 0.0)) > limit for row in rows)
    return Picture(
        name="changes",
        svg=plots.svg(made, "changes"),
        alt="; ".join(f"{row.label} {_told(row)}" for row in rows),
        caption="An arrow: the interval goes on beyond the picture." if cut else "",
    )


def days_picture(digest: Digest) -> Picture | None:
    """Active customers by weekday, this week and the one before."""
    now = [(i, day.active) for i, day in enumerate(digest.days) if day.active is not None]
    before = [(i, day.active_before) for i, day in enumerate(digest.days) if day.active_before is not None]
    if not now:
        return None
    made, (axes,) = plots.figure(2.7)
    plots.title(axes, "Active customers a day")
    if before:
        axes.plot(*zip(*before, strict=True), color=plots.colour("control"), marker="s", ms=5, lw=1.6, ls="--",
                  label="the week before")  # fmt: skip
    axes.plot(*zip(*now, strict=True), color=plots.series(0), marker="o", ms=6, lw=2, label=digest.week)
    axes.set_xticks(range(7), ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("customers")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
    plots.legend(axes, ncols=2)
    return Picture(
        name="days",
        svg=plots.svg(made, "days"),
        alt="Active customers from Monday on: " + ", ".join(f"{n:,}" for _, n in now)
        + ("; the week before: " + ", ".join(f"{n:,}" for _, n in before) if before else ""),
    )  # fmt: skip


def likings_picture(digest: Digest, shown: Sequence[Liking]) -> Picture | None:
    """How far each segment is from what was expected, in points."""
    if not shown:
        return None
    rows = [
        Interval(
            label=f"{one.segment} {one.value}\n{_short(digest.offer_names.get(one.offer_id, one.offer_id))}",
            value=one.difference,
            low=one.low,
            high=one.high,
            series=0 if one.difference > 0 else 1,
        )
        for one in shown
    ]
    made = plots.forest(
        rows,
        "Acceptance beyond what was expected",
        "percentage points; 95% intervals of each look alone",
        lambda x: amounts.difference(x, "share").removesuffix(" points") if x else "0",
        reference=(0.0, "as expected"),
    )
    return Picture(
        name="likings",
        svg=plots.svg(made, "likings"),
        alt="; ".join(f"{one.segment} {one.value}: {amounts.difference(one.difference, 'share')}" for one in shown),
    )


def _limit(rows: Sequence[Interval]) -> float | None:
    reach = sorted(max(abs(row.low or 0.0), abs(row.high or 0.0)) for row in rows)
    widest = WIDEST * reach[len(reach) // 2]
    return widest if reach[-1] > widest > 0 else None


def _told(row: Interval) -> str:
    held = "" if row.low is None or row.high is None else f" ({amounts.change(row.low)} to {amounts.change(row.high)})"
    return f"{amounts.change(row.value)}{held}"


def _short(text: str, most: int = 30) -> str:
    """With both ends: names of offers often differ in the last words only."""
    return text if len(text) <= most else f"{text[: most // 3]}…{text[-(most - most // 3 - 1) :]}"
