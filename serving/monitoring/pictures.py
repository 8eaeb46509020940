"""Pictures of what watching found: drift by feature, predictions then and now, reliability, acceptance over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.report import plots
from experiments.report.document import Picture
from features.events import US_PER_DAY, from_us
from training.evaluate import reliability
from training.monitoring.checks.predictions import p_accept_of
from training.monitoring.line import Line
from training.monitoring.seen import Seen

MOST_BARS = 12
MIN_ROWS = 50


def pictures(seen: Seen, lines: Sequence[Line]) -> dict[str, tuple[Picture, ...]]:
    """By the title of the section that they belong to; only those that there are figures for."""
    drawn = {
        "Drift of features": _drift([line for line in lines if line.check == "psi"]),
        "Drift of predictions": _predictions(seen),
        "Matured outcomes": _reliability(seen),
        "Acceptance by policy": _acceptance(seen),
    }
    return {name: (picture,) for name, picture in drawn.items() if picture is not None}


def _drift(lines: Sequence[Line]) -> Picture | None:
    """The features that moved most."""
    moved = sorted((line for line in lines if line.figure is not None), key=lambda line: -(line.figure or 0.0))[
        :MOST_BARS
    ]
    if not moved:
        return None
    made, (axes,) = plots.figure(0.9 + 0.24 * len(moved))
    values = [line.figure or 0.0 for line in moved]
    colours = [plots.series(1 if line.verdict == "crossed" else 0) for line in moved]
    axes.barh(range(len(moved)), values, color=colours, height=0.65)
    axes.set_yticks(range(len(moved)), [line.of for line in moved])
    axes.invert_yaxis()
    axes.set_xlim(0, max(*values, moved[0].bound or 0.0, 1e-3) * 1.15)
    if moved[0].bound is not None and np.isfinite(moved[0].bound):
        axes.axvline(moved[0].bound, color=plots.colour("quiet"), ls="--", lw=1.2, label="threshold")
        plots.legend(axes, loc="lower right")
    axes.set_xlabel("population stability index")
    plots.title(axes, "Features that moved most since the training")
    told = "; ".join(f"{line.of} {line.figure:.3f}" for line in moved[:5])
    return Picture(name="drift", svg=plots.svg(made, "drift"), alt=f"Stability index by feature: {told}")


def _predictions(seen: Seen) -> Picture | None:
    """The distribution of P(accept) of first offers, in the champion's first days and now."""
    if seen.champion is None:
        return None
    now = p_accept_of(seen.shown[seen.shown["release"] == seen.champion.number])
    if len(now) < MIN_ROWS:
        return None
    before = p_accept_of(seen.first_shown)
    made, (axes,) = plots.figure(2.6)
    edges = np.linspace(0.0, float(max(now.max(), before.max() if len(before) else 0.0)) + 1e-6, 31)
    for i, (name, p) in enumerate((("now", now), ("its first days", before))):
        if len(p) >= MIN_ROWS:
            share = np.histogram(p, edges)[0] / len(p)
            axes.stairs(share, edges, color=plots.series(i), lw=1.8, ls="-" if i == 0 else "--", label=name)
    axes.set_xlabel("P(accept) of the first offer, one per customer")
    axes.set_ylabel("share of customers")
    plots.title(axes, f"What release {seen.champion.number} says")
    plots.legend(axes)
    alt = f"Mean P(accept) {now.mean():.4f} now" + (f", {before.mean():.4f} in its first days" if len(before) else "")
    return Picture(name="predictions", svg=plots.svg(made, "predictions"), alt=alt)


def _reliability(seen: Seen) -> Picture | None:
    """Mean probability against rate, on matured outcomes of the champion."""
    rows = seen.outcomes
    if seen.champion is not None:
        rows = rows[rows["release"] == seen.champion.number]
    if len(rows) < MIN_ROWS or rows["accepted"].nunique() < 2:
        return None
    y, p = rows["accepted"].to_numpy(np.bool_), rows["p"].to_numpy(np.float64)
    table = reliability(y, p)
    made, (axes,) = plots.figure(3.0)
    error = 1.96 * np.sqrt(table["rate"] * (1 - table["rate"]) / table["n_rows"])
    top = float(max(table["mean_p"].max(), (table["rate"] + error).max())) * 1.05
    axes.plot([0, top], [0, top], color=plots.colour("quiet"), lw=1.2, ls="--", label="as promised")
    axes.errorbar(
        table["mean_p"], table["rate"], yerr=error, color=plots.series(0), marker="o", ms=5, capsize=2, lw=1.4,
        label="tenths of the impressions",
    )  # fmt: skip
    axes.set_xlabel("mean P(accept)")
    axes.set_ylabel("accepted")
    plots.title(axes, "Promised and kept, on matured outcomes")
    plots.legend(axes, loc="upper left")
    alt = f"Over {len(y):,} impressions P(accept) was {p.mean():.4f} on average and {y.mean():.4f} were accepted"
    return Picture(name="matured", svg=plots.svg(made, "matured"), alt=alt)


def _acceptance(seen: Seen) -> Picture | None:
    """Acceptance of first offers by day and policy."""
    rows = seen.outcomes[seen.outcomes["rank"] == 1]
    if len(rows) < MIN_ROWS:
        return None
    days = rows["us"].to_numpy(np.int64) // US_PER_DAY
    named = rows["policy"].where(~rows["at_random"], "at random").to_numpy(object)
    made, (axes,) = plots.figure(2.6)
    for i, policy in enumerate(sorted(set(named))):
        x, rate, error = _by_day(days[named == policy], rows["accepted"].to_numpy(np.bool_)[named == policy])
        axes.errorbar(
            x, rate, yerr=error, color=plots.series(i), marker=plots.marker(i), ms=5, lw=1.4, capsize=2, label=policy
        )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("accepted")
    axes.tick_params(axis="x", rotation=30)
    plots.title(axes, "Acceptance of first offers by day")
    plots.legend(axes)
    alt = f"{len(rows):,} first offers with a known outcome, {rows['accepted'].mean():.4f} accepted"
    return Picture(name="acceptance", svg=plots.svg(made, "acceptance"), alt=alt)


def _by_day(days: NDArray[np.int64], y: NDArray[np.bool_]) -> tuple[list[str], list[float], list[float]]:
    table = pd.DataFrame({"day": days, "y": y}).groupby("day")["y"].agg(["mean", "count"])
    error = 1.96 * np.sqrt(table["mean"] * (1 - table["mean"]) / table["count"])
    names = [from_us(int(day) * US_PER_DAY).strftime("%m-%d") for day in table.index]
    return names, table["mean"].tolist(), error.tolist()
