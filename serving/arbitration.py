"""Which of the eligible offers is worth most: the score and its factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def score(p_accept: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected margin of showing each offer, in the deployment's currency; shapes (n,), (n,) -> (n,)."""
    return p_accept * value
