"""Pictures of a fitted model for its MLflow run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.models.classifier_fit import ClassifierFit


def new_figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    """A figure and its axes, without pyplot, which keeps global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def classifier_figures(fit: ClassifierFit) -> dict[str, Any]:
    return {
        "precision_recall": precision_recall(fit.y, {"model": fit.p, "baseline": fit.baseline_p}),
        "reliability": reliability_figure(fit.reliability),
        "lift": lift_figure(fit.y, {"model": fit.p, "baseline": fit.baseline_p}),
    }


def precision_recall(y: NDArray[np.bool_], scores: dict[str, NDArray[np.float64]]) -> Any:
    figure, axes = new_figure("Precision and recall on the test part", "recall", "precision")
    for name, p in scores.items():
        hits = np.cumsum(y[np.argsort(-p, kind="stable")])
        axes.plot(hits / max(int(y.sum()), 1), hits / np.arange(1, len(y) + 1), label=name)
    axes.axhline(float(y.mean()), color="grey", lw=1, ls=":", label="rate")
    axes.set_ylim(0, 1.02)
    axes.legend()
    return figure


def reliability_figure(table: pd.DataFrame) -> Any:
    figure, axes = new_figure("Reliability on the test part", "mean probability", "rate")
    top = max(float(table["mean_p"].max()), float(table["rate"].max())) * 1.05
    axes.plot([0, top], [0, top], color="grey", lw=1, ls=":")
    error = 1.96 * np.sqrt(table["rate"] * (1 - table["rate"]) / table["n_rows"])
    axes.errorbar(table["mean_p"], table["rate"], yerr=error, marker="o", capsize=2)
    return figure


def lift_figure(y: NDArray[np.bool_], scores: dict[str, NDArray[np.float64]]) -> Any:
    figure, axes = new_figure("Lift on the test part", "share of rows, best first", "rate among them / overall rate")
    share = np.arange(1, len(y) + 1) / len(y)
    shown = share >= min(0.01, share[-1])
    for name, p in scores.items():
        rate = np.cumsum(y[np.argsort(-p, kind="stable")]) / np.arange(1, len(y) + 1)
        axes.plot(share[shown], rate[shown] / max(float(y.mean()), 1e-12), label=name)
    axes.axhline(1.0, color="grey", lw=1, ls=":")
    axes.legend()
    return figure
