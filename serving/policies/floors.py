"""What policies give away to explore, a control share for any offer and a budget for new ones; and the draw itself.

With K offers that compete and N new ones: (1 - epsilon - budget) x core + epsilon / K for each that competes
+ budget / N for each new one. There is no budget where none or all are new. New offers that do not compete, as they
are too bad for the shortlist of a large catalogue, live on the budget alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]


class Drawn(NamedTuple):
    """What came out of one draw. Row -1: none has a chance."""

    row: int
    chance: float
    control: float  # the part of the chance that is the control's
    n: int  # of how many it was drawn
    best: bool  # no other that competes has a higher score


def draw(chance: Numbers, u: float) -> int:
    """The row picked by a uniform `u` in [0, 1), -1 if no offer has a chance; never one whose chance is 0.

    `chance` must sum to about 1.
    """
    return int(_drawn(chance, u))


def rows_of(mask: Mask) -> Rows:
    """Where it is True, in order."""
    rows = np.empty(len(mask), np.int64)
    return rows[: _rows(mask, rows)]


@compiled
def floors(n, n_new, n_alone, epsilon, budget):  # type: ignore[no-untyped-def]
    """What is left for the core, what each that competes gets, and what each new one. Of `n` that compete and
    `n_alone` that live on the budget, `n_new` are new."""
    if n == 0:
        return 0.0, 0.0, 1.0 / n_new if n_new > 0 else 0.0
    if n_new == 0 or n_new == n + n_alone:
        budget = 0.0
    return max(1.0 - epsilon - budget, 0.0), epsilon / n, budget / n_new if budget > 0.0 else 0.0


@compiled
def mix(chance, eligible, competes, is_new, epsilon, budget):  # type: ignore[no-untyped-def]
    """Turns the core into chances, in place; shapes (n_offers,). How many are eligible, and the control's part."""
    n, n_new, n_alone = 0, 0, 0
    for i in range(len(chance)):
        n += eligible[i] & competes[i]
        n_alone += eligible[i] & ~competes[i] & is_new[i]
        n_new += eligible[i] & is_new[i]
    kept, floor, share = floors(n, n_new, n_alone, epsilon, budget)
    for i in range(len(chance)):
        if eligible[i]:
            chance[i] = mixed(chance[i], competes[i], is_new[i], kept, floor, share)
    return n + n_alone, floor


@compiled
def mixed(core, competes, is_new, kept, floor, share):  # type: ignore[no-untyped-def]
    """The chance of one offer."""
    return (kept * core + floor if competes else 0.0) + (share if is_new else 0.0)


@compiled
def draw_best(scores, rows, free, priority, competes, is_new, epsilon, budget, u):  # type: ignore[no-untyped-def]
    """The same numbers in the same order as `front`, a core of 1 / n for each of the n best, `mix` and `draw`."""
    highest = np.iinfo(np.int64).min
    best, n, n_best, n_new, n_alone = -np.inf, 0, 0, 0, 0
    for i in rows:
        if not free[i] or priority[i] < highest:
            continue
        if priority[i] > highest:
            highest = priority[i]
            best, n, n_best, n_new, n_alone = -np.inf, 0, 0, 0, 0
        n_new += is_new[i]
        if not competes[i]:
            n_alone += is_new[i]
            continue
        n += 1
        if scores[i] > best:
            best, n_best = scores[i], 1
        elif scores[i] == best:
            n_best += 1
    if n + n_alone == 0:
        return -1, 0.0, 0.0, 0, False
    kept, floor, share = floors(n, n_new, n_alone, epsilon, budget)
    of_best = 1.0 / n_best if n_best > 0 else 0.0
    passed, last, of_last = 0.0, -1, 0.0
    for i in rows:
        if not free[i] or priority[i] != highest:
            continue
        chance = mixed(of_best if scores[i] == best else 0.0, competes[i], is_new[i], kept, floor, share)
        if chance > 0.0:
            last, of_last = i, chance
            passed += chance
            if passed > u:
                break
    competing = last >= 0 and competes[last]
    return last, of_last, floor if competing else 0.0, n + n_alone, competing and scores[last] == best


@compiled
def front(rows, free, priority, competes, is_new, scores, among):  # type: ignore[no-untyped-def]
    """Marks in `among` those of the free rows that have the highest priority, and compete or are new; and the best
    score of those that compete."""
    highest, best = np.iinfo(np.int64).min, -np.inf
    for i in rows:
        if free[i] and priority[i] > highest:
            highest = priority[i]
    among[:] = False
    for i in rows:
        if free[i] and priority[i] == highest:
            among[i] = competes[i] | is_new[i]
            if competes[i]:
                best = max(best, scores[i])
    return best


@compiled
def _drawn(chance, u):  # type: ignore[no-untyped-def]
    passed, last = 0.0, -1
    for i in range(len(chance)):
        if chance[i] > 0.0:
            last = i
            passed += chance[i]
            if passed > u:
                break
    return last  # where rounding left the sum below u


@compiled
def _rows(mask, rows):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(len(mask)):  # without branches, which would be guessed wrongly
        rows[n] = i
        n += mask[i]
    return n
