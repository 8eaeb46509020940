"""Mostly the best offer, and with chance epsilon any eligible one."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.policies.exploration import explored
from serving.policies.greedy import best_only
from serving.policies.outlook import Outlook, Tuning


def epsilon_greedy(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. Equal best scores share the greedy part."""
    return explored(best_only(outlook.scores, eligible), eligible, outlook, tuning)
