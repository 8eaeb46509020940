"""Of customers kept free of personalisation: any eligible offer, each with the same chance."""

from __future__ import annotations

from typing import ClassVar

from serving.policies.floors import Mask, Numbers
from serving.policies.policy import Policy


class Holdout(Policy):
    """No model, lever, priority or guaranteed slot moves it; nobody can choose it, see `experiments.assignment`."""

    name: ClassVar[str] = "holdout"
    explores: ClassVar[bool] = False
    ranks: ClassVar[bool] = False

    def core(self, eligible: Mask) -> Numbers:
        n = int(eligible.sum())
        chance: Numbers = eligible / n if n else eligible.astype(float)
        return chance
