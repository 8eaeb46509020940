"""Policies: from scores to selection probabilities. A policy returns chances, never a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.errors import BadSettings
from serving.policies.epsilon_greedy import epsilon_greedy
from serving.policies.greedy import greedy
from serving.policies.outlook import Outlook, Tuning


class Policy(Protocol):
    """Chances over the eligible offers, shape (n,): 0 where not eligible; they sum to 1, or to 0 if none is.

    `rng` is consumed by policies that estimate their chances by sampling; the same state gives the same chances.
    """

    def __call__(
        self, outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random
    ) -> NDArray[np.float64]: ...


POLICIES: Mapping[str, Policy] = {"greedy": greedy, "epsilon_greedy": epsilon_greedy}


def policy_named(name: str) -> Policy:
    """`BadSettings` for a policy that does not exist."""
    if name not in POLICIES:
        raise BadSettings(f"policy is {name!r}, expected one of {', '.join(POLICIES)}", "policy")
    return POLICIES[name]
