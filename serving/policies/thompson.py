"""Each offer as often as it is the best among what the beliefs hold possible (Thompson sampling)."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.policies.exploration import explored
from serving.policies.greedy import best_only
from serving.policies.outlook import Outlook, Tuning
from serving.policies.race import wins

LEAST_DOUBT = 0.01  # of 1 - p: nobody is thought to accept more surely


def thompson(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. Without beliefs, scores are known exactly, and the best is shown.

    In each of `draws` draws every score moves with a factor drawn from its belief, and one offer is best; the chances
    are how often each was. They are an estimate, and it is the estimate that the offer is drawn from and that is
    logged: dividing by an estimate of another distribution than the one drawn from would bias what is learned.

    A belief takes acceptances for a Poisson count. What is accepted or not varies less, by 1 - p: so with chances of
    acceptance, shape and rate are divided by that, which leaves the mean and narrows the factor.
    """
    seed = rng.getrandbits(64)  # also where it is not needed: what comes after does not depend on beliefs being there
    if outlook.beliefs is None:
        return explored(best_only(outlook.scores, eligible), eligible, outlook, tuning)
    shape = outlook.beliefs.shape
    if outlook.p_accept is not None:
        shape = shape / np.maximum(1.0 - outlook.p_accept, LEAST_DOUBT)
    share = wins(outlook.scores, outlook.moved, shape, eligible, tuning.draws, seed)
    return explored(share, eligible, outlook, tuning)
