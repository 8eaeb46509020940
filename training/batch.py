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
from training.compiled import unlocked
from training.scorers.base import FittedRecommender

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
        scores = scorer.many(customers[part], features[part], side)
        best_of_rows(scores, best.rows[part], best.scores[part])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(n_threads) as pool:  # ours are the threads
        for _ in pool.map(block, _blocks(len(customers), max(NUMBERS // len(offers), 1))):
            pass
    return best


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


@unlocked
def best_of_rows(scores, rows, values):  # type: ignore[no-untyped-def]
    """The best k of each row of scores (n, m) into `rows` and `values` (n, k), best first; of equal ones the first."""
    k = rows.shape[1]
    for i in range(len(scores)):
        held = 0
        for j in range(scores.shape[1]):
            score = scores[i, j]
            if held == k and not score > values[i, k - 1]:
                continue
            at = min(held, k - 1)
            while at > 0 and score > values[i, at - 1]:
                values[i, at], rows[i, at] = values[i, at - 1], rows[i, at - 1]
                at -= 1
            values[i, at], rows[i, at] = score, j
            held = min(held + 1, k)
