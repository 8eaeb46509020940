"""The best offers that may be ranked for each customer: blocks of affinities, of which only the best are kept."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.best import best_of_rows
from training.evaluation.judged import Judged
from training.scorers import FittedRecommender

NUMBERS = 5_000_000  # affinities that a thread holds at a time: 20 MB
NOTHING = -1  # fills a list that is longer than what may be ranked


def ranked_lists(scorer: FittedRecommender, judged: Judged, depth: int, n_threads: int = 2) -> NDArray[np.int32]:
    """(n, depth) offer rows, best first, ties in row order; `NOTHING` where a customer has nothing left to rank.

    `ValueError` where an affinity is not finite.
    """
    past = judged.past
    side: Any = scorer.prepare(past.offers)
    lists = np.full((len(judged), depth), NOTHING, np.int32)
    start, excluded = judged.excluded

    def block(part: slice) -> None:
        rows = judged.rows[part].tolist()
        scores = scorer.many([past.customers[row] for row in rows], [past.profiles[row] for row in rows], side)
        if not np.isfinite(scores).all():
            raise ValueError(f"{type(scorer).__name__} gave affinities that are not finite")
        bounds = start[part.start : part.stop + 1]
        lists[part] = top_k(scores, depth, bounds - bounds[0], excluded[bounds[0] : bounds[-1]])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(block, _blocks(len(judged), max(NUMBERS // max(len(past.offers), 1), 1))):
            pass
    return lists


def top_k(
    scores: NDArray[np.float32], k: int, start: NDArray[np.int64], banned: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(n, k) rows of each customer's highest finite scores (n, n_offers), best first; `NOTHING` where none is left.

    `banned[start[i] : start[i + 1]]` are not ranked for customer i.
    """
    scores = np.array(scores, np.float32)
    scores[np.repeat(np.arange(len(scores)), np.diff(start)), banned] = -np.inf
    shown = min(k, scores.shape[1])
    rows, values = np.empty((len(scores), shown), np.int32), np.empty((len(scores), shown), np.float32)
    if shown:
        best_of_rows(scores, rows, values)
    out = np.full((len(scores), k), NOTHING, np.int32)
    out[:, :shown] = np.where(np.isneginf(values), NOTHING, rows)
    return out


def _blocks(n: int, size: int) -> Iterator[slice]:
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))
