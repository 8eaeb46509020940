"""What a policy may look at: the worth of each offer, how sure we are of it, and how to trade one for the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import BadSettings
from serving.learning.beliefs import Beliefs


class Outlook(Struct, frozen=True, eq=False):
    """Arrays on the offer axis, shape (n,); finite where eligible."""

    scores: NDArray[np.float64]  # expected worth: moved + fixed
    moved: NDArray[np.float64]  # the part that moves with the belief: at the belief's mean
    beliefs: Beliefs | None = None  # None: known exactly
    is_new: NDArray[np.bool_] | None = None  # offers that the exploration budget is for
    competes: NDArray[np.bool_] | None = None  # of those that take part; the others live on the budget. None: all do
    p_accept: NDArray[np.float64] | None = None  # chance of acceptance, at the belief's mean; None: small


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How much a policy explores."""

    epsilon: float = 0.05  # share drawn uniformly among the eligible: the always-random control
    temperature: float = 0.1  # of softmax, as a share of the spread of scores
    draws: int = 100  # of Thompson sampling, from which its chances are estimated
    new_offer_share: float = 0.05  # exploration budget: share of draws for offers that are new

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise BadSettings(f"epsilon == {self.epsilon}, must be in [0, 1]", "epsilon")
        if not 0.0 <= self.new_offer_share <= 1.0 - self.epsilon + 1e-12:
            raise BadSettings(
                f"new_offer_share == {self.new_offer_share}, must be in [0, 1 - epsilon == {1 - self.epsilon}]",
                "new_offer_share",
            )
        if not self.temperature > 0.0:
            raise BadSettings(f"temperature == {self.temperature}, must be above 0", "temperature")
        if not self.draws >= 1:
            raise BadSettings(f"draws == {self.draws}, must be at least 1", "draws")
