"""From chances to a list of offers: ranks drawn one after the other, without replacement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, chances_of, control_share
from serving.policies.best_first import BestFirst, rows_of
from serving.policies.outlook import Outlook, Tuning
from serving.rules import Taking
from serving.rules.masks import copied

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
NO_ROWS = np.zeros(0, np.int64)
NO_CHANCE = "no offer has a chance: the scores of eligible offers must be finite"
Chances = Callable[[Mask], NDArray[np.float64]]  # of a policy with all bound but the offers left: `chances_of`


class Pick(NamedTuple):
    """One rank: the offer's row, and the chance it had given the ranks above."""

    row: int
    chance: float
    why: str | None = None  # "guaranteed" or "fallback" when the policy was overridden, else None
    best: bool = True  # it had the highest score among those it was drawn from
    random: bool = False  # it came out of the control share, which is drawn whatever the scores


def draw(chance: NDArray[np.float64], u: float) -> int:
    """The row picked by a uniform `u` in [0, 1); never one whose chance is 0. `chance` must sum to about 1.

    `ValueError` if no offer has a chance, which a policy says only of scores that are not finite.
    """
    row = int(_drawn(chance, u))
    if row < 0:
        raise ValueError(NO_CHANCE)
    return row


def fill(
    scores: Scores,
    eligible: Mask,
    limit: int,
    chances: Chances,
    rng: Random,
    *,
    priority: NDArray[np.int64],
    rooms: Sequence[Taking] = (),
    guaranteed: Sequence[int] = (),
    control: float = 0.0,
) -> list[Pick]:
    """Up to `limit` offers in rank order. `eligible` is consumed: rows that are picked become False.

    Guaranteed rows come first if eligible. Then, at each rank, the policy chooses among the eligible offers of the
    highest priority that is left and that every room still has a place for. Rooms are consumed too. `control` is the
    share of its draws that the policy spreads evenly, see `control_share`: picks that came out of it are marked.
    """
    picks: list[Pick] = []
    free = copied(eligible) if rooms else eligible

    def take(pick: Pick) -> None:
        picks.append(pick)
        eligible[pick.row] = free[pick.row] = False
        for room in rooms:
            closed = room.take(pick.row)
            if closed is not None:
                free[closed] = False

    for row in guaranteed:
        if len(picks) < limit and free[row]:
            take(Pick(row, 1.0, why="guaranteed"))
    at_once = isinstance(chances, BestFirst)
    rows, front = rows_of(free) if at_once else NO_ROWS, np.empty(0 if at_once else len(free), np.bool_)
    while len(picks) < limit:
        if isinstance(chances, BestFirst):
            row, chance, n, best = chances.draw(rows, free, priority, rng.random())
            if n == 0:
                break
            if row < 0:
                raise ValueError(NO_CHANCE)
        else:
            n, highest = _take_front(free, priority, scores, front)
            if n == 0:
                break
            among = chances(front)
            row = draw(among, rng.random())
            chance, best = float(among[row]), bool(scores[row] == highest)
        # Of this offer's chance, control / n came from the control: drawn in two steps, for the same joint law.
        random = rng.random() * chance < control / n
        take(Pick(row, chance, best=best, random=random))
    return picks


def warm(policies: Iterable[str] = tuple(POLICIES)) -> None:
    """Compile policies and the draw, or load them from the machine's cache, so that no decision waits for it."""
    scores, tuning = np.array([3.0, 2.0, 1.0]), Tuning()
    outlook = Outlook(scores, scores, Beliefs.none(3, 20.0), np.array([True, False, False]))
    for name in policies:
        rng, eligible = Random(0), np.ones(3, bool)
        chances = chances_of(name, outlook, eligible, tuning, rng)
        fill(scores, eligible, 2, chances, rng, priority=np.zeros(3, np.int64), control=control_share(name, tuning))


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
def _take_front(free, priority, scores, front):  # type: ignore[no-untyped-def]
    """Mark in `front` the free offers of the highest priority; how many they are, and the best score among them."""
    highest, n, best = np.iinfo(np.int64).min, 0, -np.inf
    for i in range(len(free)):
        if free[i] and priority[i] > highest:
            highest = priority[i]
    for i in range(len(free)):
        front[i] = free[i] and priority[i] == highest
        if front[i]:
            n += 1
            best = max(best, scores[i])
    return n, best
