"""The sum of what several recommenders say, compiled."""

from __future__ import annotations

import numpy as np

from training.compiled import compiled, unlocked

SAME = 1e-6  # a spread of so much of the mean is the rounding of float32


@compiled
def add_part(out, scores, linear, root):  # type: ignore[no-untyped-def]
    """Adds one recommender's scores (n,), in standard deviations over the catalogue, and their signed roots."""
    n = len(scores)
    mean = 0.0
    for i in range(n):
        mean += scores[i]
    mean /= max(n, 1)
    square = 0.0
    for i in range(n):
        square += (scores[i] - mean) ** 2
    if square <= n * (SAME * mean) ** 2:  # the same to all offers, but for rounding: it says nothing
        return
    by = np.sqrt(n / square)
    for i in range(n):
        z = (scores[i] - mean) * by
        out[i] += linear * z + root * np.sign(z) * np.sqrt(np.abs(z))


@unlocked
def add_part_of_many(out, scores, which, linear, root):  # type: ignore[no-untyped-def]
    """`add_part` to each row of `out` (n_customers, n), with the weights `which` (n_customers,) names."""
    for i in range(len(out)):
        add_part(out[i], scores[i], linear[which[i]], root[which[i]])
