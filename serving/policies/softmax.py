"""The better an offer, the likelier: chances in proportion to the exponential of the score (Plackett-Luce)."""

from __future__ import annotations

from random import Random
from typing import ClassVar

import numpy as np

from serving.compiled import compiled
from serving.policies.floors import Mask, Numbers
from serving.policies.outlook import Outlook, Tuning
from serving.policies.policy import Policy


class Softmax(Policy):
    """exp(score / (temperature x spread)), normalised: the best offer is exp(1 / temperature) times as likely as the
    worst. The spread is that of the whole slate, so that ranks drawn one after the other follow the Plackett-Luce
    law, which is also the law of the largest scores after adding Gumbel noise.
    Source: Plackett (1975), https://doi.org/10.2307/2346567; Kool et al. (2019), https://arxiv.org/abs/1903.06059
    """

    name: ClassVar[str] = "softmax"

    def __init__(self, outlook: Outlook, taking_part: Mask, tuning: Tuning, rng: Random) -> None:
        super().__init__(outlook, taking_part, tuning, rng)
        self._spread = _spread_of(outlook.scores, taking_part, self.competes)

    def core(self, eligible: Mask) -> Numbers:
        chance: Numbers = np.zeros(len(self.outlook.scores))
        _share_by_weight(self.outlook.scores, eligible, self._spread, self.tuning.temperature, chance)
        return chance


@compiled
def _spread_of(scores, taking_part, competes):  # type: ignore[no-untyped-def]
    """Best minus worst score of those that compete, shapes (n,), (n,); 0 if there is none."""
    low, high = np.inf, -np.inf
    for i in range(len(scores)):
        if taking_part[i] and competes[i]:
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
