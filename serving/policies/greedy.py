"""Always the best offer; equal ones share the chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.policies.epsilon_greedy import epsilon_greedy


def greedy(scores: NDArray[np.float64], eligible: NDArray[np.bool_], epsilon: float = 0.0) -> NDArray[np.float64]:
    """Chance of showing each offer; shapes (n,), (n,) -> (n,). `epsilon` is not used."""
    return epsilon_greedy(scores, eligible, epsilon=0.0)
