"""Products of factors, compiled: on one thread, so that two workers on two cores do not wait for each other's BLAS."""

from __future__ import annotations

import numpy as np

from training.compiled import compiled, reordered


@reordered
def taste_of(token_factors, tokens, customer_factors, row, factors, biases):  # type: ignore[no-untyped-def]
    """Offers' factors (n, k) times the customer's (k,), plus biases (n,). The customer's are the sum of the tokens'
    factors, and its own if `row` is not -1."""
    n, k = factors.shape
    vector, out = np.zeros(k, np.float32), np.empty(n, np.float32)
    for token in tokens:
        for j in range(k):
            vector[j] += token_factors[token, j]
    if row >= 0:
        for j in range(k):
            vector[j] += customer_factors[row, j]
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
