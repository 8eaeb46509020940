"""Intervals of an estimate that is a ratio of two sums over rows: asymptotic, and by resampling units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Units = NDArray[np.int64]


class Terms(NamedTuple):
    """Per row, shapes (n,): an estimate is the sum of `num` by the sum of `den`."""

    num: Numbers
    den: Numbers

    @property
    def value(self) -> float:
        """NaN when nothing of the log counts."""
        total = float(self.den.sum())
        return float(self.num.sum()) / total if total > 0.0 else float("nan")


def influence(terms: Terms) -> Numbers:
    """What each row moves the estimate by, times n; (n,), with mean 0. Source: the delta method for a ratio."""
    mean = float(terms.den.mean())
    moved: Numbers = (terms.num - terms.value * terms.den) / (mean if mean > 0.0 else np.nan)
    return moved


def standard_error(moved: Numbers, units: Units, n_units: int) -> float:
    """Of a mean of rows that belong to units, (n,), (n,) -> standard error; NaN with fewer than two units."""
    if n_units < 2:
        return float("nan")
    sums = np.bincount(units, weights=moved, minlength=n_units)
    return float(np.sqrt(sums @ sums * n_units / (n_units - 1.0)) / len(moved))


def around(value: float, se: float, alpha: float, n_units: int) -> tuple[float, float]:
    """The interval of an estimate that is about normal, wider where few units say how it varies (Student's t)."""
    from scipy.special import stdtrit

    if n_units < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(n_units - 1, 1.0 - alpha / 2.0)) * se
    return value - half, value + half


def bootstrapped(
    terms: Mapping[str, Terms], units: Units, n_units: int, rng: np.random.Generator, n_samples: int
) -> dict[str, Numbers]:
    """Estimates from samples of the units with replacement, by name, each (n_samples,); the same samples for all."""
    names = list(terms)
    sums = np.column_stack(
        [np.bincount(units, weights=one, minlength=n_units) for name in names for one in terms[name]]
    )
    drawn = np.empty((n_samples, sums.shape[1]))
    for i in range(n_samples):
        drawn[i] = np.bincount(rng.integers(0, n_units, n_units), minlength=n_units) @ sums
    with np.errstate(divide="ignore", invalid="ignore"):  # a sample may hold nothing that counts: NaN
        return {name: drawn[:, 2 * i] / drawn[:, 2 * i + 1] for i, name in enumerate(names)}


def percentiles(samples: Numbers, alpha: float) -> tuple[float, float]:
    """The middle of what was drawn, without what could not be computed; NaN if that is all."""
    known = samples[np.isfinite(samples)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [alpha / 2.0, 1.0 - alpha / 2.0])
    return float(low), float(high)
