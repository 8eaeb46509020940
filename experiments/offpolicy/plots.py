"""Pictures of an off-policy evaluation: the estimates with their intervals, and how the weights are spread."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.diagnostics import LEAST_EFFECTIVE
from experiments.offpolicy.evaluation import Evaluation


def figures(found: Evaluation, weights: NDArray[np.float64], unit: str) -> dict[str, Any]:
    """Matplotlib figures by title."""
    return {"estimates": estimates(found, unit), "weights": spread_of_weights(found, weights)}


def png(figure: Any) -> bytes:
    kept = io.BytesIO()
    figure.savefig(kept, format="png", dpi=110)
    return kept.getvalue()


def estimates(found: Evaluation, unit: str) -> Any:
    """Each estimator with its interval, beside what was logged."""
    figure, axes = _figure("Value by estimator" + ("" if found.overlap.permits else " (overlap permits no verdict)"))
    shown = [one for one in found.estimates if one.value is not None]
    for y, one in enumerate(shown):
        assert one.value is not None
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [y, y], color="C0", lw=2)
        if one.bootstrap_low is not None and one.bootstrap_high is not None:
            axes.plot([one.bootstrap_low, one.bootstrap_high], [y + 0.18] * 2, color="C0", lw=1, alpha=0.5)
        axes.plot(one.value, y, "o", color="C0")
    if found.logged.value is not None:
        axes.axvline(found.logged.value, color="grey", lw=1, ls="--", label="as logged")
        if found.logged.low is not None and found.logged.high is not None:
            axes.axvspan(found.logged.low, found.logged.high, color="grey", alpha=0.15)
        axes.legend()
    axes.set_yticks(range(len(shown)), [one.estimator for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"value per choice, {unit}; thick: asymptotic interval, thin: resampled")
    return figure


def spread_of_weights(found: Evaluation, weights: NDArray[np.float64]) -> Any:
    """How much of the weight the heaviest rows hold."""
    figure, axes = _figure(
        f"{found.n_rows:,} rows are worth {found.overlap.effective_rows:,.0f} "
        f"(at least {LEAST_EFFECTIVE:.0f} are needed)"
    )
    held = np.cumsum(np.sort(weights)[::-1])
    total = float(held[-1])
    share = held / total if total > 0.0 else held
    axes.plot(np.arange(1, len(held) + 1) / len(held), share)
    axes.plot([0, 1], [0, 1], color="grey", lw=1, ls=":")
    axes.set_xlabel("share of rows, heaviest first")
    axes.set_ylabel("share of the weight")
    return figure


def _figure(title: str) -> tuple[Any, Any]:
    """Without pyplot, which keeps global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title=title)
    axes.grid(alpha=0.3)
    return figure, axes
