"""From chances to a list of offers: ranks drawn one after the other, without replacement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, policy_for
from serving.policies.floors import Drawn, rows_of
from serving.policies.outlook import Outlook, Tuning
from serving.rules import Taking
from serving.rules.masks import copied

Mask = NDArray[np.bool_]
NO_CHANCE = "no offer has a chance: the scores of eligible offers must be finite"


class Draws(Protocol):
    """What a slate needs of a policy."""

    def draw(self, rows: NDArray[np.int64], free: Mask, priority: NDArray[np.int64], u: float) -> Drawn: ...


class Pick(NamedTuple):
    """One rank: the offer's row, and the chance it had given the ranks above."""

    row: int
    chance: float
    why: str | None = None  # "guaranteed" or "fallback" when the policy was overridden, else None
    best: bool = True  # it had the highest score among those it was drawn from
    random: bool = False  # it came out of the control share, which is drawn whatever the scores


def fill(
    policy: Draws,
    eligible: Mask,
    limit: int,
    rng: Random,
    *,
    priority: NDArray[np.int64],
    rooms: Sequence[Taking] = (),
    guaranteed: Sequence[int] = (),
    rows: NDArray[np.int64] | None = None,
) -> list[Pick]:
    """Up to `limit` of the `eligible` offers, shape (n_offers,), in rank order; `rows` is where they are.

    Guaranteed rows come first if eligible. Then, at each rank, the policy draws among the eligible offers of the
    highest priority that is left and that every room still has a place for. Rooms are consumed. Picks that came out of
    the control share, which the policy spreads evenly, are marked. `ValueError` if no offer has a chance, which a
    policy says only of scores that are not finite.
    """
    picks: list[Pick] = []
    free = copied(eligible)

    def take(pick: Pick) -> None:
        picks.append(pick)
        free[pick.row] = False
        for room in rooms:
            closed = room.take(pick.row)
            if closed is not None:
                free[closed] = False

    for row in guaranteed:
        if len(picks) < limit and free[row]:
            take(Pick(row, 1.0, why="guaranteed"))
    rows = rows_of(eligible) if rows is None else rows
    while len(picks) < limit:
        row, chance, control, n, best = policy.draw(rows, free, priority, rng.random())
        if n == 0:
            break
        if row < 0:
            raise ValueError(NO_CHANCE)
        # So much of this offer's chance came from the control: drawn in two steps, for the same joint law.
        take(Pick(row, chance, best=best, random=rng.random() * chance < control))
    return picks


def warm(policies: Iterable[str] = tuple(POLICIES)) -> None:
    """Compile policies and the draw, or load them from the machine's cache, so that no decision waits for it."""
    scores, tuning = np.array([3.0, 2.0, 1.0]), Tuning()
    outlook = Outlook(scores, scores, Beliefs.none(3, 20.0), np.array([True, False, False]))
    for name in policies:
        rng, eligible = Random(0), np.ones(3, bool)
        policy = policy_for(name, outlook, eligible, tuning, rng)
        fill(policy, eligible, 2, rng, priority=np.zeros(3, np.int64))
