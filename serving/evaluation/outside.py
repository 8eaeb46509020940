"""Our policies in another system's log: they learn from its first half, and are judged on the second."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.logged import Logged
from experiments.offpolicy.recipe import OutsideLog
from features.errors import BadInput
from serving.policies import policy_named
from serving.policies.outlook import Outlook, Tuning

GIVEN = "given"  # the candidate whose chances stand in the log


def outside_candidate(log: OutsideLog, policy: str, tuning: Mapping[str, float]) -> Logged:
    """The rows to judge on, with the candidate's chances."""
    if policy == GIVEN:
        if log.chances is None:
            raise BadInput("the candidate's chances are not in the log: name their columns as `chances`", "chances")
        return log.logged(slice(None), log.chances)
    known = {name: value for name, value in tuning.items() if name != "new_offer_share"}
    return log.logged(log.later, chances_over(policy, log.learned_scores(), Tuning(**known, new_offer_share=0.0)))  # type: ignore[arg-type]


def chances_over(policy: str, scores: NDArray[np.float64], tuning: Tuning) -> NDArray[np.float64]:
    """A policy that knows scores exactly, row by row; (n, n_offers) -> (n, n_offers)."""
    kind, everything, rng = policy_named(policy), np.ones(scores.shape[1], np.bool_), Random(0)
    found = np.empty(scores.shape)
    for i, row in enumerate(np.ascontiguousarray(scores, np.float64)):
        found[i] = kind(Outlook(row, row), everything, tuning, rng)(everything)
    return found
