"""Mostly the best offer, and with chance epsilon any eligible one."""

from __future__ import annotations

from typing import ClassVar

from serving.policies.floors import Mask, Numbers
from serving.policies.greedy import best_only
from serving.policies.policy import Policy


class EpsilonGreedy(Policy):
    """Equal best scores share the greedy part."""

    name: ClassVar[str] = "epsilon_greedy"
    only_best: ClassVar[bool] = True

    def core(self, eligible: Mask) -> Numbers:
        return best_only(self.outlook.scores, eligible)
