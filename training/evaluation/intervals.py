"""Means over customers with bootstrap intervals: the same draws of customers for every figure, so that they compare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.evaluate import Interval

N_DRAWS = 500


def mean_intervals(
    values: NDArray[np.float64], rng: np.random.Generator, n_draws: int = N_DRAWS
) -> tuple[Interval, ...]:
    """One 95 % interval per column of (n_customers, n_figures); all NaN without customers.

    A customer with NaN in a column, to whom the figure does not apply, is left out of that column.
    """
    n, width = values.shape
    if not n:
        return tuple(Interval(float("nan"), float("nan"), float("nan")) for _ in range(width))
    there = np.isfinite(values)
    filled, counted = np.where(there, values, 0.0), there.astype(np.float64)
    totals, counts = np.empty((n_draws, width)), np.empty((n_draws, width))
    for draw in range(n_draws):
        weight = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        totals[draw], counts[draw] = weight @ filled, weight @ counted
    draws = _divided(totals, counts)
    estimates = _divided(filled.sum(axis=0), counted.sum(axis=0))
    return tuple(_interval(float(estimates[at]), draws[:, at]) for at in range(width))


def mean_interval(values: NDArray[np.float64], rng: np.random.Generator, n_draws: int = N_DRAWS) -> Interval:
    """The mean of one value per customer, with its 95 % interval."""
    return mean_intervals(values[:, None], rng, n_draws)[0]


def _divided(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.full(total.shape, np.nan)
    np.divide(total, count, out=found, where=count > 0)
    return found


def _interval(estimate: float, draws: NDArray[np.float64]) -> Interval:
    drawn = draws[np.isfinite(draws)]
    if not len(drawn):
        return Interval(estimate, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))
