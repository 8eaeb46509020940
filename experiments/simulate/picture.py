"""A simulation as a picture: what each policy brought, and its difference to the first with both intervals."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from experiments.report.theme import COLOURS
from experiments.simulate.compared import Comparison
from features.errors import BadInput

SHOWN = ("value_per_visitor", "acceptance_rate", "regret")
ENDINGS = (".png", ".svg")
BLUE, GREY, INK = COLOURS["series-1"].light, COLOURS["control"].light, COLOURS["ink"].light


def check_ending(out: Path) -> None:
    if out.suffix not in ENDINGS:
        raise BadInput(f"--out is {out}, expected a file that ends in {' or '.join(ENDINGS)}", "out")


def draw(found: Comparison, titles: dict[str, str], units: dict[str, str], kind: str = "png") -> bytes:
    """One row of two panels per measure: levels, and differences to the first policy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_arms = len(found.arms)
    figure = Figure(figsize=(10, 1.2 + len(SHOWN) * (0.9 + 0.32 * n_arms)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(SHOWN), 2, squeeze=False)
    for row, name in zip(axes, SHOWN, strict=True):
        _levels(row[0], found, name, f"{titles[name]}, {units[name]}")
        _differences(row[1], found, name, f"minus {found.arms[0]}, {units[name]}")
    axes[0, 1].legend(loc="best", fontsize=8, frameon=False)
    figure.suptitle(f"{found.n_visitors:,} visitors, the same visits and luck for every policy", fontsize=11)
    held = BytesIO()
    figure.savefig(held, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    return held.getvalue()


def _levels(axis: Any, found: Comparison, name: str, title: str) -> None:
    for one in found.estimates:
        if one.measure != name or one.estimate is None:
            continue
        at = found.arms.index(one.arm)
        axis.plot([one.low, one.high], [at, at], color=BLUE, lw=2)
        axis.plot(one.estimate, at, "o", color=BLUE)
    _frame(axis, found.arms, title)


def _differences(axis: Any, found: Comparison, name: str, title: str) -> None:
    known = [one for one in found.differences if one.measure == name and one.absolute is not None]
    for n, one in enumerate(known):
        at = found.arms.index(one.arm)
        apart = [one.independent_low, one.independent_high]
        axis.plot(apart, [at + 0.16] * 2, color=GREY, lw=2, label="independent runs" if n == 0 else None)
        axis.plot([one.low, one.high], [at, at], color=BLUE, lw=3, label="the same luck" if n == 0 else None)
        axis.plot(one.absolute, at, "o", color=BLUE)
    axis.axvline(0, color=INK, lw=0.8)
    _frame(axis, found.arms, title)


def _frame(axis: Any, arms: Sequence[str], title: str) -> None:
    axis.set_yticks(range(len(arms)), arms, fontsize=9)
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.set_title(title, fontsize=9, loc="left")
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
