"""Each offer as often as it is the best among what the beliefs hold possible (Thompson sampling)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from serving.policies.floors import Mask, Numbers
from serving.policies.greedy import best_only
from serving.policies.policy import Policy
from serving.policies.race import wins

LEAST_DOUBT = 0.01  # of 1 - p: nobody is thought to accept more surely


class Thompson(Policy):
    """Without beliefs, scores are known exactly, and the best is shown.

    In each of `draws` draws every score moves with a factor drawn from its belief, and one offer is best; the chances
    are how often each was. They are an estimate, and it is the estimate that the offer is drawn from and that is
    logged: dividing by an estimate of another distribution than the one drawn from would bias what is learned.

    A belief takes acceptances for a Poisson count. What is accepted or not varies less, by 1 - p: so with chances of
    acceptance, shape and rate are divided by that, which leaves the mean and narrows the factor.
    """

    name: ClassVar[str] = "thompson"

    def core(self, eligible: Mask) -> Numbers:
        seed = self.rng.getrandbits(64)  # also where it is not needed: what comes after does not depend on beliefs
        outlook = self.outlook
        if outlook.beliefs is None:
            return best_only(outlook.scores, eligible)
        shape = outlook.beliefs.shape
        if outlook.p_accept is not None:
            shape = shape / np.maximum(1.0 - outlook.p_accept, LEAST_DOUBT)
        return wins(outlook.scores, outlook.moved, shape, eligible, self.tuning.draws, seed)
