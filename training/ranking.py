"""How well a recommender ranks the whole catalogue for the customers of a later time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.interactions import Interactions
from training.scorers import RecommenderScorer

CUTOFFS = (1, 3, 5, 10, 20, 50)


@dataclass(frozen=True)
class Ranking:
    """Per evaluated customer, so that means, slices and intervals come from the same rows."""

    cutoffs: tuple[int, ...]
    ndcg: NDArray[np.float64]  # (n_customers, n_cutoffs)
    recall: NDArray[np.float64]  # (n_customers, n_cutoffs)
    known: NDArray[np.bool_]  # (n_customers,) whether the customer has interactions in the past part

    def metrics(self) -> dict[str, float]:
        """Means over customers; empty if nobody could be evaluated."""
        if not len(self.known):
            return {}
        found: dict[str, float] = {}
        for at, k in enumerate(self.cutoffs):
            found[f"ndcg_at_{k}"] = float(self.ndcg[:, at].mean())
            found[f"recall_at_{k}"] = float(self.recall[:, at].mean())
        return found


def rank_metrics(ranked: NDArray[np.bool_], n_relevant: int, cutoffs: Sequence[int]) -> tuple[list[float], list[float]]:
    """NDCG and recall at each cutoff; `ranked` says whether the offer at each rank is relevant.

    Relevance is binary; the ideal list has all relevant offers first. Recall divides by all relevant offers.
    """
    discount = 1.0 / np.log2(np.arange(2, len(ranked) + 2))
    gain = np.cumsum(ranked * discount)
    hits = np.cumsum(ranked)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, max(n_relevant, 1) + 2)))
    ndcg, recall = [], []
    for k in cutoffs:
        at = min(k, len(ranked)) - 1
        ndcg.append(float(gain[at] / ideal[min(k, n_relevant) - 1]))
        recall.append(float(hits[at] / n_relevant))
    return ndcg, recall


def rank(
    scorer: RecommenderScorer,
    past: Interactions,
    future: Interactions,
    *,
    repeats: bool,
    cutoffs: Sequence[int] = CUTOFFS,
    at_most: int | None = None,
) -> Ranking:
    """Rank all offers for every customer of `future`, through the very scorer that serves.

    Without `repeats` offers taken in `past` are neither ranked nor relevant. `at_most` customers are judged, evenly
    spread over the customer axis, so that early stopping stays cheap.
    """
    start, taken = past.taken()
    first, wanted = future.taken()
    judged = np.flatnonzero(np.diff(first))
    if at_most is not None and len(judged) > at_most:
        judged = judged[np.linspace(0, len(judged) - 1, at_most).astype(int)]
    side = scorer.prepare(past.offers)
    deepest = min(max(cutoffs), len(past.offers))
    ndcg, recall, known = [], [], []
    for customer in judged.tolist():
        had = taken[start[customer] : start[customer + 1]]
        relevant = wanted[first[customer] : first[customer + 1]]
        if not repeats:
            relevant = relevant[~np.isin(relevant, had)]
        if not len(relevant):
            continue
        scores = scorer.affinity(past.customers[customer], past.profiles[customer], side).astype(np.float64)
        if not repeats:
            scores[had] = -np.inf
        of_customer = rank_metrics(np.isin(top(scores, deepest), relevant), len(relevant), cutoffs)
        ndcg.append(of_customer[0])
        recall.append(of_customer[1])
        known.append(len(had) > 0)
    shape = (len(known), len(cutoffs))
    return Ranking(
        tuple(cutoffs),
        np.array(ndcg, dtype=np.float64).reshape(shape),
        np.array(recall, dtype=np.float64).reshape(shape),
        np.array(known, dtype=np.bool_),
    )


def n_judgeable(past: Interactions, future: Interactions, *, repeats: bool) -> int:
    """How many customers `rank` would judge."""
    n_offers = max(len(past.offers), 1)
    wanted = np.unique(future.customer.astype(np.int64) * n_offers + future.offer)
    if not repeats:
        wanted = np.setdiff1d(wanted, past.customer.astype(np.int64) * n_offers + past.offer)
    return len(np.unique(wanted // n_offers))


def top(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Rows of the k highest scores, best first; ties in row order."""
    if k < len(scores):
        at_least = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows = np.flatnonzero(scores >= at_least)
        return rows[np.argsort(-scores[rows], kind="stable")][:k]
    return np.argsort(-scores, kind="stable")
