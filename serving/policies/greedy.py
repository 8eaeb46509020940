"""Always the best offer; equal ones share the chance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from serving.compiled import compiled
from serving.policies.floors import Mask, Numbers
from serving.policies.policy import Policy


class Greedy(Policy):
    """It never explores, whatever the tuning."""

    name: ClassVar[str] = "greedy"
    explores: ClassVar[bool] = False
    only_best: ClassVar[bool] = True

    def core(self, eligible: Mask) -> Numbers:
        return best_only(self.outlook.scores, eligible)


def best_only(scores: Numbers, eligible: Mask) -> Numbers:
    """One over the number of best offers for each of these, 0 for the others; (n,), (n,) -> (n,)."""
    chance: Numbers = np.zeros(len(scores))
    _share_among_best(scores, eligible, chance)
    return chance


@compiled
def _share_among_best(scores, eligible, chance):  # type: ignore[no-untyped-def]
    best, n_best = -np.inf, 0
    for i in range(len(scores)):
        if eligible[i]:
            if scores[i] > best:
                best, n_best = scores[i], 1
            elif scores[i] == best:
                n_best += 1
    for i in range(len(scores)):
        if eligible[i] and scores[i] == best:
            chance[i] = 1.0 / n_best
