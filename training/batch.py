"""The best offers of many customers at once: blocks of scores, of which only the best are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from features.catalogue import Offer
from features.errors import BadInput
from training.best import best_of_rows
from training.scorers.base import FittedRecommender, RanksItself

NUMBERS = 5_000_000  # scores that a thread holds at a time: 20 MB


class Best(NamedTuple):
    """The best offers of each customer, best first; ties in the order of the catalogue."""

    rows: NDArray[np.int32]  # (n_customers, k) rows of the catalogue
    scores: NDArray[np.float32]  # (n_customers, k)


def top_k(
    scorer: FittedRecommender,
    customers: Sequence[str],
    features: Sequence[Mapping[str, Any]],
    offers: Sequence[Offer],
    k: int,
    n_threads: int = 2,
) -> Best:
    """By affinity, so that what was taken before comes last where offers may not be repeated.

    At most `k`, and not more than there are offers. Memory: 20 MB a thread beside the answer.
    """
    if k < 1:
        raise BadInput(f"k == {k}, must be at least 1", "k")
    if len(features) != len(customers):
        raise BadInput(f"{len(features)} features of {len(customers)} customers", "features")
    side = scorer.prepare(offers)
    k = min(k, len(offers))
    best = Best(np.empty((len(customers), k), np.int32), np.empty((len(customers), k), np.float32))
    if not k:
        return best

    def block(part: slice) -> None:
        if isinstance(scorer, RanksItself):
            scorer.best(customers[part], features[part], side, best.rows[part], best.scores[part])
            return
        scores = scorer.many(customers[part], features[part], side)
        best_of_rows(scores, best.rows[part], best.scores[part])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:  # ours are the threads
        for _ in pool.map(block, _blocks(len(customers), max(NUMBERS // len(offers), 1))):
            pass
    return best


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
