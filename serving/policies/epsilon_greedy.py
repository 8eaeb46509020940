"""Mostly the best offer, and with chance epsilon any eligible one."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.policies.outlook import Outlook, Tuning


def epsilon_greedy(
    outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random
) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. Equal best scores share the greedy part."""
    return greedily(outlook.scores, eligible, tuning.epsilon)


def greedily(scores: NDArray[np.float64], eligible: NDArray[np.bool_], epsilon: float) -> NDArray[np.float64]:
    """Shapes (n,), (n,) -> (n,). `scores` must be finite where eligible.

    Zero where not eligible; sums to 1, or to 0 when nothing is eligible.
    """
    rows = np.flatnonzero(eligible)
    chance = np.zeros(len(scores))
    if rows.size:
        best = rows[scores[rows] == scores[rows].max()]  # ties share the greedy part
        chance[rows] = epsilon / rows.size
        chance[best] += (1.0 - epsilon) / best.size
    return chance
