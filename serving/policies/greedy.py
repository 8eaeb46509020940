"""Always the best offer; equal ones share the chance."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.policies.outlook import Outlook, Tuning


def greedy(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. It never explores, whatever the tuning."""
    return best_only(outlook.scores, eligible)


def best_only(scores: NDArray[np.float64], eligible: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One over the number of best offers for each of these, 0 for the others; (n,), (n,) -> (n,)."""
    chance: NDArray[np.float64] = np.zeros(len(scores))
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
