"""What a policy is: chances over the offers that are left at a rank, and a draw from exactly these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from random import Random
from typing import ClassVar

import numpy as np

from serving.arrays import read_only
from serving.policies.floors import Drawn, Mask, Numbers, Rows, draw, draw_best, front, mix
from serving.policies.outlook import Outlook, Tuning


class Policy(ABC):
    """One placement's draw. `taking_part`, shape (n,), are the offers of the first rank.

    `rng` is consumed by policies that estimate their chances by sampling; the same state gives the same chances.
    """

    name: ClassVar[str]
    explores: ClassVar[bool] = True  # it gives away a control share and a budget for new offers
    ranks: ClassVar[bool] = True  # it goes by worth, so that priorities, guaranteed slots and a shortlist apply
    only_best: ClassVar[bool] = False  # its core is all with the best: a draw needs no list of chances

    def __init__(self, outlook: Outlook, taking_part: Mask, tuning: Tuning, rng: Random) -> None:
        self.outlook, self.tuning, self.rng = outlook, tuning, rng
        self.epsilon, self.budget = (tuning.epsilon, tuning.new_offer_share) if self.explores else (0.0, 0.0)
        n = len(outlook.scores)
        self.is_new = _mask(outlook.is_new, n, False)
        self.competes = _mask(outlook.competes, n, True)

    @abstractmethod
    def core(self, eligible: Mask) -> Numbers:
        """What it would do without exploring: chances that sum to 1 over the eligible, 0 where not; a new array."""
        ...

    def __call__(self, eligible: Mask) -> Numbers:
        """The chance of each offer, shape (n,): 0 where not eligible; they sum to 1, or to 0 if none is."""
        return self._chances(eligible)[0]

    def draw(self, rows: Rows, free: Mask, priority: Rows, u: float) -> Drawn:
        """What a uniform `u` in [0, 1) picks from the chances of the free offers of the highest priority.

        `rows` are, in order, at least all that are free: what was found at an earlier rank.
        """
        if self.only_best:
            given = self.competes, self.is_new, self.epsilon, self.budget, u
            return Drawn(*draw_best(self.outlook.scores, rows, free, priority, *given))
        among = np.empty(len(free), np.bool_)
        best = front(rows, free, priority, self.competes, self.is_new, self.outlook.scores, among)
        chance, n, floor = self._chances(among)
        row = draw(chance, u)
        if row < 0:
            return Drawn(row, 0.0, 0.0, n, False)
        competes = self.competes.item(row)
        is_best = competes and self.outlook.scores.item(row) == best
        return Drawn(row, chance.item(row), floor if competes else 0.0, n, is_best)

    def _chances(self, eligible: Mask) -> tuple[Numbers, int, float]:
        """And how many there are, and the control's part in each that competes."""
        chance = self.core(eligible if self.outlook.competes is None else eligible & self.competes)
        n, floor = mix(chance, eligible, self.competes, self.is_new, self.epsilon, self.budget)
        return chance, n, floor


def _mask(mask: Mask | None, n: int, everywhere: bool) -> Mask:
    """Of one type to compiled loops: not to be written to."""
    if mask is None:
        return _full(n, everywhere)
    return read_only(mask.view()) if mask.flags.writeable else mask


@lru_cache(maxsize=64)
def _full(n: int, value: bool) -> Mask:
    return read_only(np.full(n, value))
