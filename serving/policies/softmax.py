"""The better an offer, the likelier: chances in proportion to the exponential of the score (Plackett-Luce)."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.policies.exploration import explored
from serving.policies.outlook import Outlook, Tuning


def softmax(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`.

    exp(score / (temperature x spread)), normalised: the best offer is exp(1 / temperature) times as likely as the
    worst. The spread is that of the whole slate, so that ranks drawn one after the other follow the Plackett-Luce
    law, which is also the law of the largest scores after adding Gumbel noise.
    Source: Plackett (1975), https://doi.org/10.2307/2346567; Kool et al. (2019), https://arxiv.org/abs/1903.06059
    """
    spread = spread_of(outlook.scores, eligible) if outlook.spread is None else outlook.spread
    chance: NDArray[np.float64] = np.zeros(len(outlook.scores))
    _share_by_weight(outlook.scores, eligible, spread, tuning.temperature, chance)
    return explored(chance, eligible, outlook, tuning)


@compiled
def spread_of(scores, eligible):  # type: ignore[no-untyped-def]
    """Best minus worst score of the eligible, shapes (n,), (n,); 0 if there is none."""
    low, high = np.inf, -np.inf
    for i in range(len(scores)):
        if eligible[i]:
            low, high = min(low, scores[i]), max(high, scores[i])
    return high - low if high >= low else 0.0


@compiled
def _share_by_weight(scores, eligible, spread, temperature, chance):  # type: ignore[no-untyped-def]
    best, total = -np.inf, 0.0
    for i in range(len(scores)):
        if eligible[i] and scores[i] > best:
            best = scores[i]
    for i in range(len(scores)):
        if eligible[i]:
            behind = (best - scores[i]) / spread if spread > 0.0 else 0.0
            chance[i] = np.exp(-behind / temperature)
            total += chance[i]
    for i in range(len(scores)):
        if eligible[i]:
            chance[i] /= total
