"""Policies: from scores to selection probabilities. A policy returns chances, never a choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from features.errors import BadSettings
from serving.policies.best_first import BestFirst
from serving.policies.epsilon_greedy import epsilon_greedy
from serving.policies.greedy import greedy
from serving.policies.outlook import Outlook, Tuning
from serving.policies.softmax import softmax, spread_of
from serving.policies.thompson import thompson


class Policy(Protocol):
    """Chances over the eligible offers, shape (n,): 0 where not eligible; they sum to 1, or to 0 if none is.

    `rng` is consumed by policies that estimate their chances by sampling; the same state gives the same chances.
    """

    def __call__(
        self, outlook: Outlook, eligible: NDArray[np.bool_], tuning: Tuning, rng: Random
    ) -> NDArray[np.float64]: ...


POLICIES: Mapping[str, Policy] = {
    "greedy": greedy,
    "epsilon_greedy": epsilon_greedy,
    "softmax": softmax,
    "thompson": thompson,
}
BEST_FIRST = frozenset({"greedy", "epsilon_greedy"})  # the best shares what the floors leave
UNEXPLORING = frozenset({"greedy"})  # no control share, no exploration budget


def policy_named(name: str) -> Policy:
    """`BadSettings` for a policy that does not exist."""
    if name not in POLICIES:
        raise BadSettings(f"policy is {name!r}, expected one of {', '.join(POLICIES)}", "policy")
    return POLICIES[name]


def control_share(name: str, tuning: Tuning) -> float:
    """The share of this policy's draws that is uniform over the eligible, whatever their scores."""
    return 0.0 if name in UNEXPLORING else tuning.epsilon


def chances_of(
    name: str, outlook: Outlook, taking_part: NDArray[np.bool_], tuning: Tuning, rng: Random
) -> Callable[[NDArray[np.bool_]], NDArray[np.float64]]:
    """The policy with all bound but the offers that are left: what `slate.fill` asks at each rank.

    `taking_part`, shape (n,), are the offers of the first rank.
    """
    if name == "softmax" and outlook.spread is None:
        outlook = replace(outlook, spread=float(spread_of(outlook.scores, taking_part)))
    policy = policy_named(name)
    if name in BEST_FIRST:
        return BestFirst(policy, outlook, tuning, rng, explores=name not in UNEXPLORING)
    return partial(policy, outlook, tuning=tuning, rng=rng)
