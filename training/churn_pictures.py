"""Pictures of churn: reliability of each horizon, and purchases predicted against those that came."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.models.churn_horizons import ChurnFit
from training.plots import new_figure
from training.value import ValueReport


def churn_figures(fit: ChurnFit, value: ValueReport | None) -> dict[str, Any]:
    found = {"reliability_by_horizon": horizons_figure(fit)}
    if value is not None:
        found["purchases_held_out"] = held_out_figure(value)
    return found


def horizons_figure(fit: ChurnFit) -> Any:
    figure, axes = new_figure("Reliability by horizon on its test part", "mean probability", "rate of silence")
    axes.plot([0, 1], [0, 1], color="grey", lw=1, ls=":")
    for one in fit.horizons:
        table = one.reliability
        error = 1.96 * np.sqrt(table["rate"] * (1 - table["rate"]) / table["n_rows"])
        axes.errorbar(
            table["mean_p"], table["rate"], yerr=error, marker="o", capsize=2, label=f"{one.horizon_days} days"
        )
    axes.legend()
    return figure


def held_out_figure(value: ValueReport) -> Any:
    """Mean purchases in the days held out by the number of repeats before, with 95 % intervals of the actual mean."""
    title = f"Purchases in {value.days:.0f} days that were held out"
    figure, axes = new_figure(title, "repeated purchases before", "purchases per customer")
    table, at = value.table, np.arange(len(value.table))
    error = np.abs(table[["actual_low", "actual_high"]].to_numpy().T - table["actual"].to_numpy())
    axes.errorbar(at, table["actual"], yerr=error, marker="o", capsize=2, label="came")
    axes.plot(at, table["predicted"], marker="s", ls="--", label="BG/NBD predicted")
    axes.set_xticks(at, table["repeats"].tolist())
    axes.legend()
    return figure
