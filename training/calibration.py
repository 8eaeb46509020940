"""Maps from a model's log-odds to probabilities, kept only where they make the probabilities better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluate import log_loss
from training.scorers import Calibration

MIN_GAIN = 1e-3  # share of the log loss that a map must save on rows it was not fitted on
MIN_ROWS = 200


def fit_calibration(kind: str, raw: NDArray[np.float64], y: NDArray[np.bool_]) -> Calibration:
    if kind == "sigmoid":
        return _sigmoid(raw, y)
    return _isotonic(raw, y) if kind == "isotonic" else Calibration()


def _sigmoid(raw: NDArray[np.float64], y: NDArray[np.bool_]) -> Calibration:
    """Platt's two parameters by maximum likelihood, falling back to the identity where the slope turns negative."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(raw[:, None], y)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration("sigmoid", slope, intercept) if slope > 0 else Calibration()


def _isotonic(raw: NDArray[np.float64], y: NDArray[np.bool_]) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, y)
    x, p = fitted.X_thresholds_.astype(np.float64), fitted.y_thresholds_.astype(np.float64)
    # The ends come from few rows: half an observation keeps them away from 0 and 1.
    return Calibration("isotonic", x=x, y=np.clip(p, 0.5 / len(y), 1.0 - 0.5 / len(y)))


def choose_calibration(
    raw: NDArray[np.float64], y: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> tuple[Calibration, dict[str, float]]:
    """The map that saves most log loss, and each map's log loss on rows it was not fitted on.

    Two halves of the customers judge each other's maps; the winner is then fitted on all rows. No map, if none saves
    `MIN_GAIN` of the log loss, or there are too few rows.
    """
    half = clusters % 2 == 0
    losses = {}
    for kind in ("none", "sigmoid", "isotonic"):
        parts = [(half, ~half), (~half, half)]
        if kind != "none" and (len(y) < MIN_ROWS or any(len(np.unique(y[fit])) < 2 for fit, _ in parts)):
            continue
        p = np.empty(len(y))
        for fit, judge in parts:
            p[judge] = fit_calibration(kind, raw[fit], y[fit])(raw[judge])
        losses[kind] = log_loss(y, p, np.ones(len(y)))
    best = min(losses, key=lambda kind: losses[kind])
    if losses["none"] - losses[best] < MIN_GAIN * losses["none"]:
        best = "none"
    return fit_calibration(best, raw, y), losses
