"""How far a distribution has moved: stability index, Kolmogorov–Smirnov, shares of the missing and the unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
N_BINS = 10
MOST_CATEGORIES = 20  # of their own; rarer ones go together
SMALLEST_SHARE = 0.5  # of a row stands in for an empty bin: log(0) would be infinite


def psi(before: Sequence[int] | NDArray[np.int64], after: Sequence[int] | NDArray[np.int64]) -> float:
    """Population stability index of two histograms over the same bins, in nats.

    Sum over bins of (a - b) log(a / b), a and b the shares. Without any change its mean is about
    (bins - 1)(1/n + 1/m). Source: Siddiqi, Credit Risk Scorecards (2006), 8; below 0.1 is usually called stable, above
    0.2 or 0.25 a shift. `ValueError` where one side is empty.
    """
    b, a = np.asarray(before, float), np.asarray(after, float)
    if not b.sum() or not a.sum():
        raise ValueError("a histogram is empty")
    used = (b + a) > 0
    b, a = np.maximum(b[used], SMALLEST_SHARE), np.maximum(a[used], SMALLEST_SHARE)
    b, a = b / b.sum(), a / a.sum()
    return float(((a - b) * np.log(a / b)).sum())


def histograms(before: Numbers, after: Numbers, n_bins: int = N_BINS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts by the deciles of `before`; the missing have a bin of their own. Equal deciles are one."""
    known = before[~np.isnan(before)]
    edges = np.unique(np.quantile(known, np.arange(1, n_bins) / n_bins)) if len(known) else np.zeros(0)

    def counts(values: Numbers) -> NDArray[np.int64]:
        bins = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))
        return np.bincount(bins.astype(np.int64), minlength=len(edges) + 2)

    return counts(before), counts(after)


def category_histograms(
    before: Sequence[str | None], after: Sequence[str | None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of the commonest categories of both sides together, of all others, and of the missing."""
    both = Counter(value for value in [*before, *after] if value is not None)
    names = {
        name: at for at, (name, _) in enumerate(sorted(both.items(), key=lambda x: (-x[1], x[0]))[:MOST_CATEGORIES])
    }

    def counts(values: Sequence[str | None]) -> NDArray[np.int64]:
        other, missing = len(names), len(names) + 1
        bins = [missing if value is None else names.get(value, other) for value in values]
        return np.bincount(np.array(bins, np.int64), minlength=len(names) + 2)

    return counts(before), counts(after)


def ks(before: Numbers, after: Numbers) -> float:
    """The largest distance of the two empirical distribution functions, missing values left out; NaN where a side has
    none. Ties count as they are, as in counts that are mostly 0.
    """
    b, a = np.sort(before[~np.isnan(before)]), np.sort(after[~np.isnan(after)])
    if not len(b) or not len(a):
        return float("nan")
    at = np.concatenate([b, a])
    return float(
        np.abs(np.searchsorted(b, at, side="right") / len(b) - np.searchsorted(a, at, side="right") / len(a)).max()
    )


def null_rate(values: Sequence[object]) -> float:
    """Share of values that are None or NaN; NaN of none."""
    if not len(values):
        return float("nan")
    return sum(value is None or value != value for value in values) / len(values)


def unseen(values: Sequence[str | None], known: Collection[str]) -> tuple[float, list[str]]:
    """Share of values that are not `known`, the missing left out of both; and which they are, the commonest first."""
    new = Counter(value for value in values if value is not None and value not in known)
    n = sum(value is not None for value in values)
    return (sum(new.values()) / n if n else 0.0), [name for name, _ in new.most_common()]
