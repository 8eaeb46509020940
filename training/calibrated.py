"""From log-odds to probabilities, compiled: one loop, which keeps Python's lock."""

from __future__ import annotations

import numpy as np

from training.compiled import compiled

# exp(x) = 2^k exp(x - k ln 2), in arithmetic that a processor does for four numbers at once. Source: Cody and Waite,
# Software Manual for the Elementary Functions (1980), 6; ln 2 in two parts, of which k times the first is exact.
LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
SHIFT = 1.5 * 2.0**52
FAR = 700.0  # exp of more would be inf; the probability is 0 or 1 long before


@compiled
def sigmoid(raw, slope, intercept, smallest, p):  # type: ignore[no-untyped-def]
    """Writes the logistic function of slope x raw + intercept, within [smallest, 1 - smallest]; shapes (n,)."""
    n = len(raw)
    power = np.empty(n)
    bits = power.view(np.int64)
    for i in range(n):
        x = -(slope * raw[i] + intercept)
        x = FAR if x > FAR else (-FAR if x < -FAR else x)  # NaN stays NaN
        power[i] = x * LOG2_E + SHIFT  # of which the lowest bits are the nearest whole number
        k = power[i] - SHIFT
        p[i] = _exp_near_0((x - k * LN2_HIGH) - k * LN2_LOW)
    for i in range(n):
        bits[i] = (bits[i] + 1023) << 52  # 2^k, by its exponent alone
    for i in range(n):
        p[i] = _within(1.0 / (1.0 + p[i] * power[i]), smallest)


@compiled
def _exp_near_0(r):  # type: ignore[no-untyped-def]
    """Taylor's series, for |r| <= ln 2 / 2: the next term is below 1e-16."""
    s = 1.0 + r * (1 / 12) * (1.0 + r * (1 / 13))
    s = 1.0 + r * (1 / 9) * (1.0 + r * (1 / 10) * (1.0 + r * (1 / 11) * s))
    s = 1.0 + r * (1 / 6) * (1.0 + r * (1 / 7) * (1.0 + r * (1 / 8) * s))
    s = 1.0 + r * (1 / 3) * (1.0 + r * (1 / 4) * (1.0 + r * (1 / 5) * s))
    return 1.0 + r * (1.0 + r * 0.5 * s)


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
