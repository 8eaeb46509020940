"""Above the shortlist too what is shown is as frequent as the log says, new offers beyond it included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.decision import DecisionRequest, PlacementRequest
from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES
from serving.slate import warm

N = 3_000
N_OFFERS, SHORTLIST = 60, 10
EPSILON, BUDGET = 0.2, 0.15
NEW = (*range(0, 40, 5), 52, 58)  # eight beyond the shortlist, and two of the ten best
COMPETING = range(N_OFFERS - SHORTLIST, N_OFFERS)  # an offer is worth more, the later it comes


@pytest.fixture
def picks(decider_with):
    """Of N decisions with two ranks each: rows and logged chances, shapes (N, 2)."""

    def make(policy):
        warm([policy])
        n_seen = np.full(N_OFFERS, 1e6)
        n_seen[list(NEW)] = 0.0
        shape = np.full(N_OFFERS, 5.0)  # wide enough that Thompson sampling shows more than the best
        decider = decider_with(
            {f"o{i:02}": 10.0 + i for i in range(N_OFFERS)},
            policy=policy,
            epsilon=EPSILON,
            believe=lambda *_: Beliefs(shape, shape, n_seen),
        )
        decider.settings = replace(
            decider.settings, shortlist=SHORTLIST, new_offer_share=BUDGET, temperature=0.5, draws=10
        )
        request = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 2),))
        known = decider.read(decider.edition, "c")
        drafts = [decider.begin(decider.edition, request, known, seed).draft.placements[0] for seed in range(N)]
        assert {(one.n_eligible, int(one.in_draw.sum())) for one in drafts} == {(N_OFFERS, SHORTLIST + 8)}
        found = [[(pick.row, pick.chance) for pick in one.picks] for one in drafts]
        rows, chances = np.moveaxis(np.array(found), 2, 0)
        return rows.astype(int), chances

    return make


@pytest.mark.parametrize("policy", [name for name, policy in POLICIES.items() if policy.explores])
def test_each_offer_that_takes_part_comes_as_often_as_its_logged_chance_says(picks, policy):
    """One over its chance where an offer was shown, else 0, is 1 on average; at the second rank, where it is left."""
    rows, chances = picks(policy)
    for rank in (0, 1):
        for row in {*COMPETING, *NEW}:
            left = np.ones(N, bool) if rank == 0 else rows[:, 0] != row
            weight = np.where(rows[left, rank] == row, 1.0 / chances[left, rank], 0.0)
            assert weight.mean() == pytest.approx(1.0, abs=4.5 * weight.std() / np.sqrt(left.sum())), row
        assert set(rows[:, rank]) == {*COMPETING, *NEW}


def test_the_chances_are_the_floors_and_what_they_leave_to_the_best(picks):
    rows, chances = picks("epsilon_greedy")
    logged = {row: set(chances[rows[:, 0] == row, 0].round(12)) for row in sorted(set(rows[:, 0]))}
    # By hand: 0.2 / 10 for each that competes, 0.15 / 10 for each new one, and 0.65 for the best.
    expected = {row: (0.02 if row in COMPETING else 0.0) + (0.015 if row in NEW else 0.0) for row in logged}
    expected[N_OFFERS - 1] += 0.65
    assert {row: found.pop() for row, found in logged.items() if len(found) == 1} == pytest.approx(expected)
    assert sum(expected.values()) == pytest.approx(1.0)
