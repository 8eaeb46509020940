"""Figures by segment: new, light and heavy customers; new and old offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.evaluation.intervals import mean_intervals
from training.evaluation.judged import NEW_OFFER_DAYS

if TYPE_CHECKING:
    from training.evaluation.ranking import RankingReport

SHOWN = (("ndcg", 10), ("recall", 10))
DEFINITIONS = {
    ("customers", "all"): "everybody who was judged",
    ("customers", "new"): "took nothing before",
    ("customers", "light"): "took up to the median number of different offers before, of those who took any",
    ("customers", "heavy"): "took more different offers before than that median",
    ("offers", "new"): f"took an offer first taken in the {NEW_OFFER_DAYS} days before the cut-off, or not yet",
    ("offers", "old"): f"took an offer first taken more than {NEW_OFFER_DAYS} days before the cut-off",
}
EVERYBODY = "here everybody who was judged"


def customer_segments(n_taken: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """new: took nothing before; light: up to the median number of different offers of those who did; heavy: more."""
    known = n_taken > 0
    middle = float(np.median(n_taken[known])) if known.any() else 0.0
    return {"new": ~known, "light": known & (n_taken <= middle), "heavy": n_taken > max(middle, 0.0)}


def segment_table(report: RankingReport, against: RankingReport | None = None, seed: int = 0) -> pd.DataFrame:
    """One row per segment that holds somebody: n, each figure with its interval, and the difference to `against`.

    `definition` says who is in it, and when that is everybody. The offers' segments keep the whole catalogue in the
    ranking and ask only for the relevant offers of that kind.
    """
    rows = []
    parts: dict[str, NDArray[np.bool_]] = {"all": np.ones(len(report), np.bool_), **report.segments}
    for name, inside in parts.items():
        if inside.any():
            rows.append(_row("customers", name, _columns(report)[inside], _other(against, None, inside), seed))
    for name in report.on_offers:
        columns = _columns(report, name)
        there: NDArray[np.bool_] = ~np.isnan(columns[:, 0])
        if there.any():
            rows.append(_row("offers", name, columns[there], _other(against, name, there), seed))
    return pd.DataFrame([row | {"definition": _definition(row, len(report))} for row in rows])


def _definition(row: dict[str, object], n_judged: int) -> str:
    said = DEFINITIONS[str(row["slice"]), str(row["value"])]
    return f"{said}; {EVERYBODY}" if row["n_customers"] == n_judged and row["value"] != "all" else said


def _columns(report: RankingReport, kind: str | None = None) -> NDArray[np.float64]:
    values = report.values if kind is None else report.on_offers[kind]
    return np.stack([values[metric][:, report.cutoffs.index(k)] for metric, k in SHOWN], axis=1)


def _other(against: RankingReport | None, kind: str | None, inside: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    return None if against is None else _columns(against, kind)[inside]


def _row(
    of: str, value: str, columns: NDArray[np.float64], other: NDArray[np.float64] | None, seed: int
) -> dict[str, object]:
    row: dict[str, object] = {"slice": of, "value": value, "n_customers": len(columns)}
    found = mean_intervals(columns, np.random.default_rng(seed))
    for (metric, k), interval in zip(SHOWN, found, strict=True):
        name = f"{metric}_at_{k}"
        row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if other is not None:
        gains = mean_intervals(columns - other, np.random.default_rng(seed))
        for at, ((metric, k), gain) in enumerate(zip(SHOWN, gains, strict=True)):
            name = f"{metric}_at_{k}"
            row |= {
                f"baseline_{name}": float(other[:, at].mean()),
                f"{name}_gain": gain.estimate, f"{name}_gain_low": gain.low, f"{name}_gain_high": gain.high,
            }  # fmt: skip
    return row
