"""From chances to a list of offers: ranks drawn one after the other, without replacement."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]
Chances = Callable[[Scores, Mask], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Pick:
    """One rank: the offer's row, and the chance it had given the ranks above."""

    row: int
    chance: float
    why: str | None = None  # "guaranteed" or "fallback" when the policy was overridden, else None
    best: bool = True  # it had the highest score among those it was drawn from


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
    rng: random.Random,
    *,
    priority: NDArray[np.int64],
    category: NDArray[np.int64],
    max_per_category: int | None = None,
    guaranteed: tuple[int, ...] = (),
) -> list[Pick]:
    """Up to `limit` offers in rank order. `eligible` is consumed: rows that are picked become False.

    Guaranteed rows come first if eligible. Then, at each rank, the policy chooses among the eligible offers of the
    highest priority that is left. `category` holds codes, -1 for none; offers without one have no category limit.
    """
    picks: list[Pick] = []
    blocked = np.zeros(len(scores), dtype=bool)
    used: dict[int, int] = {}

    def take(pick: Pick) -> None:
        picks.append(pick)
        eligible[pick.row] = False
        code = int(category[pick.row])
        used[code] = used.get(code, 0) + 1
        if max_per_category is not None and code >= 0 and used[code] >= max_per_category:
            blocked[category == code] = True

    for row in guaranteed:
        if len(picks) < limit and eligible[row] and not blocked[row]:
            take(Pick(row, 1.0, why="guaranteed"))
    while len(picks) < limit:
        free = eligible & ~blocked
        if not free.any():
            break
        free &= priority == priority[free].max()
        chance = chances(scores, free)
        row = draw(chance, rng.random())
        take(Pick(row, float(chance[row]), best=bool(scores[row] == scores[free].max())))
    return picks
