"""Policies: from scores to selection probabilities. A policy is one file and one entry of `POLICIES`."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from features.errors import BadSettings
from serving.policies.epsilon_greedy import EpsilonGreedy
from serving.policies.floors import Mask
from serving.policies.greedy import Greedy
from serving.policies.holdout import Holdout
from serving.policies.outlook import Outlook, Tuning
from serving.policies.policy import Policy
from serving.policies.softmax import Softmax
from serving.policies.thompson import Thompson

POLICIES: Mapping[str, type[Policy]] = {policy.name: policy for policy in (Greedy, EpsilonGreedy, Softmax, Thompson)}
DECIDING: Mapping[str, type[Policy]] = {**POLICIES, Holdout.name: Holdout}  # with the one that nobody can choose


def policy_named(name: str) -> type[Policy]:
    """`BadSettings` for a policy that does not exist."""
    if name not in POLICIES:
        raise BadSettings(f"policy is {name!r}, expected one of {', '.join(POLICIES)}", "policy")
    return POLICIES[name]


def policy_for(name: str, outlook: Outlook, taking_part: Mask, tuning: Tuning, rng: Random) -> Policy:
    """The policy for one placement, of which `slate.fill` draws rank by rank."""
    return policy_named(name)(outlook, taking_part, tuning, rng)
