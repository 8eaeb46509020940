"""The shortlist of a large catalogue: the offers that take part in a draw; the chance of all others is 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
SAMPLED = 16


def shortlist(
    eligible: Mask,
    cheap_score: Numbers,
    n: int,
    keep: Mask | None = None,
    *,
    priority: NDArray[np.int64] | None = None,
    is_new: Mask | None = None,
    new_quota: int = 0,
    turn: int = 0,
) -> Mask:
    """The `n` eligible offers of the highest priority and, within it, the highest cheap score; shape (n_offers,).

    Besides them stay: `keep` where eligible, which are offers that the slate may need whatever they score, and up to
    `new_quota` of the new ones, in a circle that begins at `turn`, so that over many decisions all of them have their
    chance. Of equal scores the first rows stay. `cheap_score` must be finite where eligible. Nothing is left out of a
    catalogue that has no more than `n` eligible offers.
    """
    if n < 1:
        raise ValueError(f"n == {n}, a shortlist has at least 1 offer")
    if np.count_nonzero(eligible) <= n:
        return eligible.copy()
    chosen = np.zeros(len(eligible), dtype=bool)
    for level in _levels(eligible, priority):
        left = n - int(np.count_nonzero(chosen))
        if left <= 0:
            break
        _take_best(level, cheap_score, left, chosen)
    if keep is not None:
        chosen |= keep & eligible
    if is_new is not None and new_quota > 0:
        _take_in_turn(np.flatnonzero(is_new & eligible & ~chosen), new_quota, turn, chosen)
    return chosen


def _levels(eligible: Mask, priority: NDArray[np.int64] | None) -> list[Mask]:
    """The eligible offers by priority, the highest first."""
    if priority is None or not priority.size or priority.min() == priority.max():
        return [eligible]
    return [eligible & (priority == level) for level in np.unique(priority[eligible])[::-1]]


def _take_best(level: Mask, scores: Numbers, n: int, chosen: Mask) -> None:
    if np.count_nonzero(level) <= n:
        chosen |= level
        return
    rows: Rows = _rows_from(level, scores, _likely_below_the_best(level, scores, n))
    if rows.size < n:
        rows = np.flatnonzero(level)
    held = scores[rows]
    least = np.partition(held, rows.size - n)[rows.size - n]
    above = rows[held > least]
    chosen[above] = True
    chosen[rows[held == least][: n - above.size]] = True


def _likely_below_the_best(level: Mask, scores: Numbers, n: int) -> float:
    """A score that the best `n` hardly ever fall below, from every 16th offer: what is less need not be sorted."""
    sample = scores[::SAMPLED][level[::SAMPLED]]
    rank = int(1.3 * n / SAMPLED) + SAMPLED
    if sample.size <= rank:
        return -np.inf
    return float(np.partition(sample, sample.size - rank)[sample.size - rank])


def _take_in_turn(rows: NDArray[np.intp], n: int, turn: int, chosen: Mask) -> None:
    if rows.size:
        first = turn % rows.size
        chosen[rows.take(np.arange(first, first + min(n, rows.size)), mode="wrap")] = True


@compiled
def _rows_from(level, scores, least):  # type: ignore[no-untyped-def]
    rows, n = np.empty(len(level), np.int64), 0
    for i in range(len(level)):
        rows[n] = i
        n += level[i] and scores[i] >= least
    return rows[:n]
