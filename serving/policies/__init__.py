"""Policies: from scores to selection probabilities. A policy returns chances, never a choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.errors import BadSettings
from serving.policies.epsilon_greedy import epsilon_greedy
from serving.policies.greedy import greedy


class Policy(Protocol):
    """Chances over the eligible offers; shapes (n,), (n,) -> (n,)."""

    def __call__(
        self, scores: NDArray[np.float64], eligible: NDArray[np.bool_], epsilon: float
    ) -> NDArray[np.float64]: ...


POLICIES: Mapping[str, Policy] = {"greedy": greedy, "epsilon_greedy": epsilon_greedy}


def policy_named(name: str) -> Policy:
    """`BadSettings` for a policy that does not exist."""
    if name not in POLICIES:
        raise BadSettings(f"policy is {name!r}, expected one of {', '.join(POLICIES)}", "policy")
    return POLICIES[name]
