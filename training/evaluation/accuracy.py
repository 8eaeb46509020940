"""NDCG, recall, precision, average precision and reciprocal rank of ranked lists, customer by customer, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled

ACCURACY = ("ndcg", "recall", "precision", "map", "mrr")  # in the order of `accuracy`'s first axis


def accuracy(
    lists: NDArray[np.int32],
    start: NDArray[np.int64],
    relevant: NDArray[np.int32],
    cutoffs: NDArray[np.int64],
    n_offers: int,
) -> NDArray[np.float64]:
    """(n_metrics, n_customers, n_cutoffs), in the order of `ACCURACY`; NaN for a customer without relevant offers.

    `lists` (n_customers, k) are offer rows, best first, -1 where a list ends; `relevant[start[i] : start[i + 1]]` are
    what customer i took, each once. Relevance is binary. At cut-off k: the ideal list of NDCG has all relevant offers
    first; recall divides by all relevant offers, precision by k, average precision by the smaller of k and the number
    of relevant offers. A list shorter than k ends where it ends.
    """
    found: NDArray[np.float64] = _accuracy(lists, start, relevant, cutoffs, n_offers)
    return found


@compiled
def _accuracy(lists, start, relevant, cutoffs, n_offers):  # type: ignore[no-untyped-def]
    n, depth = lists.shape
    out = np.empty((5, n, len(cutoffs)))
    wanted = np.zeros(n_offers, np.bool_)
    discount = 1.0 / np.log2(np.arange(2.0, max(depth, cutoffs.max()) + 2.0))
    ideal = np.cumsum(discount)
    for i in range(n):
        mine = relevant[start[i] : start[i + 1]]
        if len(mine) == 0:
            out[:, i, :] = np.nan
            continue
        wanted[mine] = True
        gain, hits, precisions, first = 0.0, 0, 0.0, 0.0
        place = 0
        for c in range(len(cutoffs)):
            k = cutoffs[c]
            while place < min(k, depth):
                offer = lists[i, place]
                if offer >= 0 and wanted[offer]:
                    gain += discount[place]
                    hits += 1
                    precisions += hits / (place + 1.0)
                    if hits == 1:
                        first = 1.0 / (place + 1.0)
                place += 1
            best = min(k, len(mine))
            out[0, i, c] = gain / ideal[best - 1]
            out[1, i, c] = hits / len(mine)
            out[2, i, c] = hits / k
            out[3, i, c] = precisions / best
            out[4, i, c] = first
        wanted[mine] = False
    return out
