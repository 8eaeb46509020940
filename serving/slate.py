"""From chances to a list of offers: ranks drawn one after the other, without replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.rules import Taking

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
Chances = Callable[[Mask], NDArray[np.float64]]  # of a policy whose outlook, tuning and randomness are bound


@dataclass(frozen=True, slots=True)
class Pick:
    """One rank: the offer's row, and the chance it had given the ranks above."""

    row: int
    chance: float
    why: str | None = None  # "guaranteed" or "fallback" when the policy was overridden, else None
    best: bool = True  # it had the highest score among those it was drawn from
    random: bool = False  # it came out of the control share, which is drawn whatever the scores


def draw(chance: NDArray[np.float64], u: float) -> int:
    """The row picked by a uniform `u` in [0, 1); never one whose chance is 0. `chance` must sum to about 1."""
    cumulated = np.cumsum(chance)
    row = int(np.searchsorted(cumulated, u * cumulated[-1], side="right"))
    return min(row, int(np.flatnonzero(chance)[-1]))  # u * total may round up to the total


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
    share of the chances that the policy spreads evenly, see `control_share`: picks that came out of it are marked.
    """
    picks: list[Pick] = []
    free = eligible.copy() if rooms else eligible

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
    one_priority = bool(priority.size) and bool(priority.min() == priority.max())
    while len(picks) < limit and free.any():
        now = free if one_priority else free & (priority == priority[free].max())
        chance = chances(now)
        row = draw(chance, rng.random())
        random = rng.random() * float(chance[row]) < control / int(now.sum())
        take(Pick(row, float(chance[row]), best=bool(scores[row] == scores[now].max()), random=random))
    return picks
