"""The best few of many scores, compiled: most chunks hold nothing better than what is held, and are passed over."""

from __future__ import annotations

import numpy as np

from training.compiled import unlocked

CHUNK = 64  # scores that are compared at once


@unlocked
def best_of_row(scores, rows, values):  # type: ignore[no-untyped-def]
    """The best k of scores (m,) into `rows` and `values` (k,), best first; of equal ones the first. At least k."""
    k, held, m = len(rows), 0, len(scores)
    for start in range(0, m, CHUNK):
        end = min(start + CHUNK, m)
        if held == k and not _any_above(scores[start:end], values[k - 1]):
            continue
        for j in range(start, end):
            score = scores[j]
            if held == k and not score > values[k - 1]:
                continue
            at = min(held, k - 1)
            while at > 0 and score > values[at - 1]:
                values[at], rows[at] = values[at - 1], rows[at - 1]
                at -= 1
            values[at], rows[at] = score, j
            held = min(held + 1, k)


@unlocked
def _any_above(chunk, least):  # type: ignore[no-untyped-def]
    """Without branches, so that several are compared at once."""
    found = np.int32(0)
    for j in range(len(chunk)):
        found |= np.int32(1) if chunk[j] > least else np.int32(0)
    return found > 0


@unlocked
def best_of_rows(scores, rows, values):  # type: ignore[no-untyped-def]
    """`best_of_row` of each row of scores (n, m) into `rows` and `values` (n, k)."""
    for i in range(len(scores)):
        best_of_row(scores[i], rows[i], values[i])
