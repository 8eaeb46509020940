"""Pictures of an off-policy evaluation: the estimates with their intervals, and how the weights are spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.diagnostics import LEAST_EFFECTIVE
from experiments.offpolicy.evaluation import Evaluation
from experiments.report import plots
from experiments.report.document import Picture
from experiments.report.plots import Interval

MOST_POINTS = 200  # of a curve: more cannot be seen


def pictures(found: Evaluation, weights: NDArray[np.float64], unit: str) -> tuple[Picture, ...]:
    """What can be drawn."""
    drawn = [estimates(found, unit), spread_of_weights(found, weights)]
    return tuple(one for one in drawn if one is not None)


def estimates(found: Evaluation, unit: str) -> Picture | None:
    """Each estimator with both intervals, beside what was logged; None if nothing could be computed."""
    rows = [
        Interval(
            label=one.estimator,
            value=one.value,
            low=one.low,
            high=one.high,
            wide_low=one.bootstrap_low,
            wide_high=one.bootstrap_high,
        )
        for one in found.estimates
        if one.value is not None
    ]
    if not rows:
        return None
    logged = found.logged.value
    made = plots.forest(
        rows,
        "Value by estimator" + ("" if found.overlap.permits else " (overlap permits no verdict)"),
        f"value per choice, {unit}",
        lambda x: f"{x:.4g}",
        reference=None if logged is None else (logged, "as logged"),
    )
    level = f"{1 - found.alpha:.0%}"
    caption = f"Thick: the asymptotic {level} interval; thin: resampled."
    return Picture(
        name="estimates",
        svg=plots.svg(made, "estimates"),
        alt="; ".join(f"{row.label}: {row.value:.4g}" for row in rows)
        + ("" if logged is None else f"; as logged: {logged:.4g}"),
        caption=caption + ("" if logged is None else " Dashed: as logged."),
    )


def spread_of_weights(found: Evaluation, weights: NDArray[np.float64]) -> Picture:
    """How much of the weight the heaviest rows hold."""
    made, (axes,) = plots.figure(3.2)
    held = np.cumsum(np.sort(weights)[::-1])
    total = float(held[-1])
    share = held / total if total > 0.0 else held
    shown = np.unique(np.linspace(0, len(held) - 1, MOST_POINTS).astype(int))
    plots.title(axes, f"{found.n_rows:,} rows are worth {found.overlap.effective_rows:,.0f}")
    axes.plot((shown + 1) / len(held), share[shown], color=plots.series(0), lw=1.8)
    axes.plot([0, 1], [0, 1], color=plots.colour("quiet"), lw=1, ls=":")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda x, _: f"{x:.0%}")
    axes.set_xlabel("share of rows, heaviest first")
    axes.set_ylabel("share of the weight")
    tenth = float(np.interp(0.1, (np.arange(len(share)) + 1) / len(share), share))
    return Picture(
        name="weights",
        svg=plots.svg(made, "weights"),
        alt=f"The heaviest tenth of the rows holds {tenth:.0%} of the weight",
        caption=f"At least {LEAST_EFFECTIVE:.0f} effective rows are needed. Dotted: all rows weigh the same.",
    )
