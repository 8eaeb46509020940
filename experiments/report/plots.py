"""What pictures of reports have in common: size, colours by their role, and SVG text that stays text.

Colours are the light ones of `theme.COLOURS`; a page puts its own in their place.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from experiments.report.theme import COLOURS, SERIES

WIDTH = 4.9  # inches; a page shows it from a phone's width to 160 % of that
MARKERS = ("o", "s", "^", "D", "v")  # as many as series: colour alone tells nothing apart
FONT_SIZE = 9.5
SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One row of a forest plot. None is not drawn."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    wide_low: float | None = None  # a second, wider interval, drawn thin
    wide_high: float | None = None
    series: int = 0


def colour(name: str) -> str:
    return COLOURS[name].light


def series(i: int) -> str:
    """The colour of the i-th series; after the fifth they begin again, with the markers."""
    return colour(SERIES[i % len(SERIES)])


def marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]


def figure(height: float, rows: int = 1, ratios: Sequence[float] | None = None) -> tuple[Any, list[Any]]:
    """A figure of `height` inches with that many axes below each other. Without pyplot, which keeps global state."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasSVG(made)
    made.patch.set_alpha(0)
    axes = made.subplots(rows, 1, squeeze=False, sharex=rows > 1, height_ratios=ratios)[:, 0]
    for one in axes:
        one.patch.set_alpha(0)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            one.spines[side].set_color(colour("quiet"))
        one.tick_params(colors=colour("quiet"), labelcolor=colour("ink"), labelsize=FONT_SIZE - 1)
        one.grid(color=colour("line"), lw=0.7)
        one.set_axisbelow(True)
        for axis in (one.xaxis, one.yaxis):
            axis.label.set_color(colour("quiet"))
            axis.label.set_fontsize(FONT_SIZE - 1)
    return made, list(axes)


def title(axes: Any, text: str) -> None:
    told = fill(text, 44)
    axes.set_title(told, loc="left", fontsize=FONT_SIZE, color=colour("ink"), fontweight="bold")


def legend(axes: Any, **more: Any) -> None:
    axes.legend(frameon=False, fontsize=FONT_SIZE - 1, labelcolor=colour("ink"), **more)


def svg(made: Any, name: str) -> str:
    """The figure as SVG; the same figure gives the same text."""
    from matplotlib import rc_context

    kept = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        made.savefig(kept, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", kept.getvalue(), flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", SANS.replace('"', "'"), text)
    return text[text.index("<svg") :]


def forest(
    rows: Sequence[Interval],
    heading: str,
    x_label: str,
    told: Callable[[float], str],
    *,
    reference: tuple[float, str] | None = (0.0, "no change"),
    limit: float | None = None,
) -> Any:
    """Estimates with their intervals, the first on top, each beside its figure. `limit` cuts the axis on both sides of
    the reference; an interval that goes on has an arrow.
    """
    labels = [fill_lines(row.label) for row in rows]
    lines = max(label.count("\n") + 1 for label in labels)
    made, (axes,) = figure(1.0 + max(0.4, 0.1 + 0.15 * lines) * len(rows))
    made.suptitle(fill(heading, 52), x=0.01, ha="left", fontsize=FONT_SIZE, color=colour("ink"), fontweight="bold")
    if reference is not None:
        axes.axvline(reference[0], color=colour("quiet"), lw=1.2, ls="--", label=reference[1])
    if limit is not None:
        centre = reference[0] if reference is not None else 0.0
        axes.set_xlim(centre - limit, centre + limit)
    for y, row in enumerate(rows):
        _interval(axes, y, row)
    low, high = axes.get_xlim()
    for y, row in enumerate(rows):
        for end, arrow, at in ((row.low, "<", low), (row.high, ">", high)):
            if end is not None and not low <= end <= high:
                axes.plot(at, y, arrow, color=series(row.series), ms=6, clip_on=False)
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(_locator())
    axes.xaxis.set_major_formatter(lambda x, _: told(x))
    return made


def fill_lines(text: str) -> str:
    """Each line no longer than a label may be."""
    return "\n".join(fill(line, 26) for line in text.split("\n"))


def _interval(axes: Any, y: int, row: Interval) -> None:
    shade = series(row.series)
    if row.wide_low is not None and row.wide_high is not None:
        axes.plot([row.wide_low, row.wide_high], [y, y], color=shade, lw=1.2, solid_capstyle="butt")
        axes.plot([row.wide_low, row.wide_high], [y, y], "|", color=shade, ms=7)
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [y, y], color=shade, lw=4, solid_capstyle="butt")
    axes.plot(row.value, y, marker(row.series), color=shade, ms=8, mec=colour("paper"), mew=1.2)


def days_axis(axes: Any) -> None:
    """Dates that do not run into each other."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)
