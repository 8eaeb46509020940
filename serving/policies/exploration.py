"""What every policy but greedy gives away to explore: a control share for any offer, a budget for new ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.policies.outlook import Outlook, Tuning

NOBODY = np.zeros(0, np.bool_)


def explored(
    chance: NDArray[np.float64], eligible: NDArray[np.bool_], outlook: Outlook, tuning: Tuning
) -> NDArray[np.float64]:
    """`chance` mixed with the two floors, in place; shapes (n,).

    With K eligible offers of which N are new: (1 - epsilon - budget) x chance + epsilon / K for each
    + budget / N for each new one. There is no budget where none or all of the eligible are new.
    """
    is_new = NOBODY if outlook.is_new is None else outlook.is_new
    _mix(chance, eligible, is_new, tuning.epsilon, tuning.new_offer_share)
    return chance


@compiled
def _mix(chance, eligible, is_new, epsilon, budget):  # type: ignore[no-untyped-def]
    n = len(chance)
    n_eligible, n_new = 0, 0
    for i in range(n):
        n_eligible += eligible[i]
    for i in range(len(is_new)):
        n_new += eligible[i] & is_new[i]
    if n_eligible == 0:
        return
    if n_new == 0 or n_new == n_eligible:
        budget = 0.0
    kept = max(1.0 - epsilon - budget, 0.0)
    floor = epsilon / n_eligible
    for i in range(n):
        if eligible[i]:
            chance[i] = kept * chance[i] + floor
    if budget > 0.0:
        share = budget / n_new
        for i in range(n):
            if eligible[i] and is_new[i]:
                chance[i] += share
