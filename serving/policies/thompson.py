"""Each offer as often as it is the best among what the beliefs hold possible (Thompson sampling)."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.policies.exploration import explored
from serving.policies.greedy import best_only
from serving.policies.outlook import Outlook, Tuning


def thompson(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. Estimated by `draws` draws of all scores from the beliefs."""
    if outlook.beliefs is None or not eligible.any():
        return explored(best_only(outlook.scores, eligible), eligible, outlook, tuning)
    rows = np.flatnonzero(eligible)
    shape = outlook.beliefs.shape[rows]
    noise = np.random.Generator(np.random.Philox(rng.getrandbits(64))).standard_gamma(shape, (tuning.draws, rows.size))
    scores = outlook.scores[rows] + outlook.moved[rows] * (noise / shape - 1.0)
    best = scores == scores.max(axis=1, keepdims=True)
    chance = np.zeros(len(eligible))
    chance[rows] = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return explored(chance, eligible, outlook, tuning)
