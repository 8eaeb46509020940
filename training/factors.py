"""Products of factors, compiled: on one thread, so that two workers on two cores do not wait for each other's BLAS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.compiled import compiled, reordered, unlocked


@reordered
def taste_of(token_factors, tokens, own, factors, biases):  # type: ignore[no-untyped-def]
    """Offers' factors (n, k) times the customer's (k,), plus biases (n,). The customer's are the sum of the tokens'
    factors, and its `own` (k,)."""
    n, k = factors.shape
    vector, out = np.zeros(k, np.float32), np.empty(n, np.float32)
    for token in tokens:
        for j in range(k):
            vector[j] += token_factors[token, j]
    for j in range(k):
        vector[j] += own[j]
    for i in range(n):
        total = np.float32(0.0)
        for j in range(k):
            total += factors[i, j] * vector[j]
        out[i] = total + biases[i]
    return out


@compiled
def boost(scores, row_of, taken, by):  # type: ignore[no-untyped-def]
    """Adds `by` to the scores of what was taken, where it is still on offer."""
    for i in range(len(taken)):
        row = row_of[taken[i]]
        if row >= 0:
            scores[row] += by[i]


@unlocked
def boost_many(scores, rows, row_of, start, taken, by):  # type: ignore[no-untyped-def]
    """`boost` of each row of scores (n_customers, n); `rows` are the customers', -1 if unknown."""
    for i in range(len(rows)):
        if rows[i] >= 0:
            part = slice(start[rows[i]], start[rows[i] + 1])
            boost(scores[i], row_of, taken[part], by[part])


def taken_last(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    row_of: NDArray[np.int32],
    start: NDArray[np.int64],
    taken: NDArray[np.int32],
) -> None:
    """What a customer took before, and is still on offer, gets the lowest of the customer's scores (n_customers, n)."""
    if scores.size:
        _set_taken(scores, scores.min(axis=1), rows, row_of, start, taken)


@unlocked
def _set_taken(scores, to, rows, row_of, start, taken):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        if rows[i] >= 0:
            for at in range(start[rows[i]], start[rows[i] + 1]):
                row = row_of[taken[at]]
                if row >= 0:
                    scores[i, row] = to[i]
