"""The shortlist of a large catalogue: the offers that compete in a draw, beside which only new ones have a chance."""

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
    scores: Numbers,
    n: int,
    keep: Mask | None = None,
    *,
    priority: NDArray[np.int64] | None = None,
) -> Mask:
    """The `n` eligible offers of the highest priority and, within it, the highest score; shape (n_offers,).

    Besides them stays `keep` where eligible: offers that the slate may need whatever they score. Of equal scores the
    first rows stay. `scores` must be finite where eligible. Nothing is left out of a catalogue that has no more than
    `n` eligible offers.
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
        _take_best(level, scores, left, chosen)
    if keep is not None:
        chosen |= keep & eligible
    return chosen


def with_new(competing: Mask, eligible: Mask, is_new: Mask) -> Mask:
    """Those that compete, and all new ones that are eligible: they take part in the draw through the exploration
    budget, each with its exact chance; shape (n_offers,). Nobody joins where all that are there are new, as there is
    no budget then.
    """
    found = is_new & eligible
    found |= competing
    return competing if not np.any(found & ~is_new) else found


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


@compiled
def _rows_from(level, scores, least):  # type: ignore[no-untyped-def]
    rows, n = np.empty(len(level), np.int64), 0
    for i in range(len(level)):
        rows[n] = i
        n += level[i] and scores[i] >= least
    return rows[:n]
