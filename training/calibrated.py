"""From log-odds to probabilities, compiled: one loop, which keeps Python's lock."""

from __future__ import annotations

import math

import numpy as np

from training.compiled import compiled


@compiled
def sigmoid(raw, slope, intercept, smallest, p):  # type: ignore[no-untyped-def]
    """Writes the logistic function of slope x raw + intercept, within [smallest, 1 - smallest]; shapes (n,)."""
    for i in range(len(raw)):
        z = slope * raw[i] + intercept
        p[i] = _within(1.0 / (1.0 + math.exp(-z)), smallest)  # exp may be inf: then p is 0


@compiled
def between(raw, x, y, smallest, p):  # type: ignore[no-untyped-def]
    """Writes what `np.interp(raw, x, y)` gives, within [smallest, 1 - smallest]; shapes (n,), (m,), (m,)."""
    last = len(x) - 1
    for i in range(len(raw)):
        at = np.searchsorted(x, raw[i], side="right") - 1
        if np.isnan(raw[i]):
            p[i] = raw[i]
        elif at < 0:
            p[i] = _within(y[0], smallest)
        elif at >= last or x[at] == raw[i]:
            p[i] = _within(y[at], smallest)
        else:
            slope = (y[at + 1] - y[at]) / (x[at + 1] - x[at])
            p[i] = _within(slope * (raw[i] - x[at]) + y[at], smallest)


@compiled
def _within(p, smallest):  # type: ignore[no-untyped-def]
    """NaN stays NaN."""
    if p < smallest:
        return smallest
    if p > 1.0 - smallest:
        return 1.0 - smallest
    return p
