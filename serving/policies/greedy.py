"""Always the best offer; equal ones share the chance."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.policies.epsilon_greedy import greedily
from serving.policies.outlook import Outlook, Tuning


def greedy(outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random) -> NDArray[np.float64]:
    """Chance of showing each offer; see `Policy`. It never explores, whatever the tuning."""
    return greedily(outlook.scores, eligible, epsilon=0.0)
