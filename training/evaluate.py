"""How good probabilities are: discrimination, calibration, lift, and by how much they beat a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

P = NDArray[np.float64]
Y = NDArray[np.bool_]
Metric = Callable[[Y, P, P], float]  # labels, probabilities, row weights
ByWeight = Callable[[P], float]  # row weights


def auc(y: Y, p: P, w: P) -> float:
    """Chance that an accepted row is scored above one that is not, ties half; NaN with one class."""
    return _auc(y, p)(w)


def _auc(y: Y, p: P) -> ByWeight:
    order = np.argsort(p, kind="stable")
    y, p = y[order], p[order]
    group = np.concatenate([[0], np.cumsum(p[1:] != p[:-1])])

    def of(w: P) -> float:
        w = w[order]
        positive = np.bincount(group, weights=w * y)
        negative = np.bincount(group, weights=w * ~y)
        below = np.cumsum(negative) - negative
        total = positive.sum() * negative.sum()
        return float((positive * (below + negative / 2)).sum() / total) if total > 0 else float("nan")

    return of


def log_loss(y: Y, p: P, w: P) -> float:
    return _log_loss(y, p)(w)


def _log_loss(y: Y, p: P) -> ByWeight:
    p = np.clip(p, 1e-15, 1 - 1e-15)
    gained = np.where(y, np.log(p), np.log1p(-p))
    return lambda w: float(-(w * gained).sum() / w.sum())


def brier(y: Y, p: P, w: P) -> float:
    return _brier(y, p)(w)


def _brier(y: Y, p: P) -> ByWeight:
    missed = (p - y) ** 2
    return lambda w: float((w * missed).sum() / w.sum())


def ece(y: Y, p: P, w: P, n_bins: int = 10) -> float:
    """Expected calibration error: |mean probability - rate| over bins of equal numbers of rows, by their weight."""
    return _ece(y, p, n_bins)(w)


def _ece(y: Y, p: P, n_bins: int = 10) -> ByWeight:
    bins, over = _equal_bins(p, n_bins), p - y

    def of(w: P) -> float:
        weight = np.bincount(bins, weights=w, minlength=n_bins)
        gap = np.abs(np.bincount(bins, weights=w * over, minlength=n_bins))
        return float(gap.sum() / weight.sum())

    return of


def top_lift(y: Y, p: P, w: P, share: float = 0.1) -> float:
    """The rate among the `share` of rows scored highest, divided by the overall rate; NaN if nobody accepted."""
    return _top_lift(y, p, share)(w)


def _top_lift(y: Y, p: P, share: float = 0.1) -> ByWeight:
    order = np.argsort(-p, kind="stable")
    ordered_y = y[order]

    def of(w: P) -> float:
        ordered = w[order]
        inside = np.cumsum(ordered) <= share * w.sum()
        inside[0] = True
        overall = float((w * y).sum() / w.sum())
        weight = ordered[inside].sum()
        top = float((ordered * ordered_y)[inside].sum() / weight) if weight > 0 else float("nan")
        return top / overall if overall > 0 else float("nan")

    return of


METRICS: Mapping[str, Metric] = {"auc": auc, "log_loss": log_loss, "brier": brier, "ece": ece, "top_lift": top_lift}
# The same with rows sorted and binned once, for many weights of the same rows.
BY_WEIGHT: Mapping[str, Callable[[Y, P], ByWeight]] = {
    "auc": _auc, "log_loss": _log_loss, "brier": _brier, "ece": _ece, "top_lift": _top_lift,
}  # fmt: skip


def _equal_bins(p: P, n_bins: int) -> NDArray[np.int64]:
    """The bin of each row, 0 … n_bins - 1; equal values share a bin."""
    edges = np.quantile(p, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, p, side="left").astype(np.int64)


def metrics(y: Y, p: P) -> dict[str, float]:
    w = np.ones(len(y))
    return {name: of(y, p, w) for name, of in METRICS.items()}


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the 95 % interval of a bootstrap over customers."""

    estimate: float
    low: float
    high: float


def bootstrap(
    y: Y,
    p: P,
    baseline: P,
    clusters: NDArray[np.int64],
    rng: np.random.Generator,
    n_draws: int = 200,
) -> dict[str, Interval]:
    """Each metric, and its gain over the baseline as `<metric>_gain`, positive when the model is better.

    Customers are drawn, not rows, because the rows of one customer go together. `clusters` is 0 … n_customers - 1.
    """
    n = int(clusters.max()) + 1
    names = [*METRICS, *(f"{name}_gain" for name in METRICS)]
    draws = np.empty((n_draws, len(names)))
    of_model, of_baseline = (tuple(of(y, scores) for of in BY_WEIGHT.values()) for scores in (p, baseline))
    for draw in range(n_draws):
        w = np.bincount(rng.integers(0, n, n), minlength=n)[clusters].astype(np.float64)
        draws[draw] = _values(of_model, of_baseline, w)
    low, high = np.nanquantile(draws, [0.025, 0.975], axis=0) if np.isfinite(draws).any() else (draws[0], draws[0])
    estimate = _values(of_model, of_baseline, np.ones(len(y)))
    return {name: Interval(float(estimate[at]), float(low[at]), float(high[at])) for at, name in enumerate(names)}


def _values(of_model: Sequence[ByWeight], of_baseline: Sequence[ByWeight], w: P) -> list[float]:
    model, baseline = [of(w) for of in of_model], [of(w) for of in of_baseline]
    signs = [1.0 if name in ("auc", "top_lift") else -1.0 for name in METRICS]
    return model + [s * (m - b) for s, m, b in zip(signs, model, baseline, strict=True)]


def verdict(gain: Interval) -> str:
    """Whether the model beats its baseline: `beats`, `lost`, or `undecided` where the interval holds 0."""
    if gain.low > 0:
        return "beats"
    return "lost" if gain.high < 0 else "undecided"


def slices(y: Y, p: P, by: Mapping[str, Sequence[object]], at_least: int = 30) -> pd.DataFrame:
    """Metrics per value of each column in `by`, with `at_least` rows; the smaller ones go together as `(other)`."""
    rows = []
    for name, values in by.items():
        value = pd.Series(values, dtype=object).fillna("(none)").astype(str)
        count = value.map(value.value_counts())
        value = value.where(count >= at_least, "(other)")
        for one in sorted(value.unique()):
            inside = (value == one).to_numpy()
            found = metrics(y[inside], p[inside])
            rows.append(
                {
                    "slice": name,
                    "value": one,
                    "n_rows": int(inside.sum()),
                    "rate": float(y[inside].mean()),
                    "mean_p": float(p[inside].mean()),
                    **found,
                }
            )
    return pd.DataFrame(rows)


def reliability(y: Y, p: P, n_bins: int = 10) -> pd.DataFrame:
    """Mean probability against rate in bins of equal numbers of rows."""
    bins = _equal_bins(p, n_bins)
    frame = pd.DataFrame({"bin": bins, "mean_p": p, "rate": y.astype(float), "n_rows": 1})
    return frame.groupby("bin").agg({"mean_p": "mean", "rate": "mean", "n_rows": "sum"}).reset_index()
