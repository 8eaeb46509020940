"""The best offers of many customers at once: one pass over a block of scores, compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled

NOBODY = -1  # fills a list that is longer than what may be ranked


def top_k(
    scores: NDArray[np.float32], k: int, start: NDArray[np.int64], banned: NDArray[np.int32]
) -> NDArray[np.int32]:
    """(n, k) rows of each customer's highest scores, best first, ties in row order; `NOBODY` where nothing is left.

    `scores` (n, n_offers) must be finite; `banned[start[i] : start[i + 1]]` are not ranked for customer i.
    """
    found: NDArray[np.int32] = _top_k(np.ascontiguousarray(scores, np.float32), k, start, banned)
    return found


@compiled
def _top_k(scores, k, start, banned):  # type: ignore[no-untyped-def]
    n, m = scores.shape
    out = np.full((n, k), NOBODY, np.int32)
    skip = np.zeros(m, np.bool_)
    kept, at = np.empty(k, np.float32), np.empty(k, np.int32)
    for i in range(n):
        for b in range(start[i], start[i + 1]):
            skip[banned[b]] = True
        size = 0
        for offer in range(m):
            score = scores[i, offer]
            if size == k and score <= kept[k - 1]:
                continue
            if skip[offer]:
                continue
            place = size if size < k else k - 1
            while place > 0 and kept[place - 1] < score:
                kept[place], at[place] = kept[place - 1], at[place - 1]
                place -= 1
            kept[place], at[place] = score, offer
            if size < k:
                size += 1
        for place in range(size):
            out[i, place] = at[place]
        for b in range(start[i], start[i + 1]):
            skip[banned[b]] = False
    return out
