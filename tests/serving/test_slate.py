"""Slates: guaranteed offers, priorities, rooms, and which picks came out of the control."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.policies import policy_for
from serving.policies.floors import draw
from serving.policies.outlook import Outlook, Tuning
from serving.rules import Room
from serving.slate import Pick, fill, warm


@pytest.fixture
def slate():
    def make(scores, limit, *, priority=None, eligible=None, epsilon=0.0, policy="epsilon_greedy", seed=1, **rest):
        scores = np.array(scores, float)
        free = np.ones(len(scores), bool) if eligible is None else np.array(eligible)
        rng, tuning = random.Random(seed), Tuning(epsilon=epsilon, new_offer_share=0.0)
        order = np.array(priority or [0] * len(scores))
        return fill(
            policy_for(policy, Outlook(scores, scores), free, tuning, rng), free, limit, rng, priority=order, **rest
        )

    return make


def among(rows, left):
    return Room(None if rows is None else np.array(rows, bool), left, "test")


def test_ranks_go_down_by_score_when_nothing_is_explored(slate):
    assert [pick.row for pick in slate([1.0, 3.0, 2.0], 3)] == [1, 2, 0]


def test_higher_priority_comes_before_any_score(slate):
    assert [pick.row for pick in slate([9.0, 1.0, 2.0], 3, priority=[0, 5, 5])] == [2, 1, 0]


def test_exploration_stays_within_the_highest_priority(slate):
    picks = slate([9.0, 1.0, 2.0], 1, priority=[0, 5, 5], epsilon=1.0)
    assert picks[0].row in (1, 2)
    assert picks[0].chance == pytest.approx(0.5)  # 1 / 2 for each of two


def test_the_lowest_priority_there_is_still_is_one(slate):
    lowest = np.iinfo(np.int64).min
    assert [pick.row for pick in slate([1.0, 2.0], 2, priority=[lowest, lowest])] == [1, 0]


def test_guaranteed_offers_lead_with_probability_one_if_eligible(slate):
    picks = slate([1.0, 3.0, 2.0], 2, guaranteed=(0, 2), eligible=[True, True, False])
    assert picks == [Pick(0, 1.0, why="guaranteed"), Pick(1, 1.0)]


def test_an_offer_that_is_guaranteed_twice_is_shown_once(slate):
    assert [pick.row for pick in slate([1.0, 3.0], 2, guaranteed=(0, 0))] == [0, 1]


def test_a_room_that_is_full_closes_its_offers(slate):
    rooms = [among([1, 1, 0, 0], 1), among([0, 0, 1, 1], 1)]
    assert [pick.row for pick in slate([4.0, 3.0, 2.0, 1.0], 4, rooms=rooms)] == [0, 2]


def test_offers_outside_of_every_room_are_not_limited(slate):
    assert [p.row for p in slate([4.0, 3.0, 2.0], 3, rooms=[among([0, 0, 1], 1)])] == [0, 1, 2]


def test_guaranteed_offers_take_their_place_in_a_room(slate):
    assert [p.row for p in slate([1.0, 3.0, 2.0], 3, rooms=[among([1, 1, 0], 1)], guaranteed=(0,))] == [0, 2]


def test_a_room_without_rows_holds_all_offers(slate):
    assert [p.row for p in slate([1.0, 3.0, 2.0], 3, rooms=[among(None, 2)])] == [1, 2]


def test_an_offer_counts_in_every_room_it_belongs_to(slate):
    rooms = [among([1, 1, 0, 0], 2), among([0, 1, 1, 0], 1)]
    assert [p.row for p in slate([2.0, 9.0, 8.0, 1.0], 4, rooms=rooms)] == [1, 0, 3]


def test_chances_behind_a_closed_room_are_those_among_the_offers_that_are_left(slate):
    first, second = slate([4.0, 3.0, 2.0, 1.0], 2, rooms=[among([1, 1, 1, 0], 1)], epsilon=0.5)
    assert first.row in (0, 1, 2, 3)
    if first.row != 3:
        assert (second.row, second.chance) == (3, pytest.approx(1.0))


def test_nothing_eligible_gives_an_empty_slate(slate):
    assert slate([1.0, 2.0], 2, eligible=[False, False]) == []


def test_no_offers_at_all_give_an_empty_slate(slate):
    assert slate([], 2) == []


def test_scores_that_are_no_numbers_are_refused_rather_than_drawn_from(slate):
    with pytest.raises(ValueError, match="must be finite"):
        slate([float("nan"), float("nan")], 1, policy="greedy")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 1.0, 2.0, -1.0]), st.booleans(), st.integers(-1, 1), st.booleans(), st.booleans()
        ),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from(["greedy", "epsilon_greedy"]),
    st.sampled_from([0.0, 0.1, 0.7]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.integers(0, 2**32),
)
def test_a_draw_at_once_is_the_draw_from_all_chances(offers, policy, epsilon, budget, seed):
    scores, eligible, priority, is_new, competes = (np.array(column) for column in zip(*offers, strict=True))
    tuning = Tuning(epsilon=epsilon, new_offer_share=budget)
    outlook = Outlook(scores, scores, is_new=is_new, competes=competes)
    slates = []
    for at_once in (True, False):
        rng = random.Random(seed)
        drawing = policy_for(policy, outlook, eligible, tuning, rng)
        drawing.only_best = at_once
        room = [Room(is_new, 2, "test")]
        slates.append(fill(drawing, eligible & (competes | is_new), 4, rng, priority=priority, rooms=room))
    assert slates[0] == slates[1]


def test_what_is_eligible_is_left_as_it_was():
    scores, eligible, rng = np.array([1.0, 2.0, 3.0]), np.ones(3, bool), random.Random(1)
    greedy = policy_for("greedy", Outlook(scores, scores), eligible, Tuning(), rng)
    assert len(fill(greedy, eligible, 2, rng, priority=np.zeros(3, np.int64))) == 2
    assert eligible.all()


def test_ties_share_the_chance(slate):
    (pick,) = slate([2.0, 2.0, 1.0], 1, epsilon=0.3)
    # By hand: 0.3 / 3 for each, and 0.7 / 2 for each of the two best.
    assert pick.chance == pytest.approx({0: 0.45, 1: 0.45, 2: 0.1}[pick.row])


def test_an_offer_that_is_shown_though_another_is_better_is_not_called_the_best(slate):
    picks = [slate([2.0, 1.0], 1, epsilon=1.0, seed=seed)[0] for seed in range(20)]
    assert {(pick.row, pick.best) for pick in picks} == {(0, True), (1, False)}


def test_all_picks_of_a_policy_that_only_draws_evenly_come_out_of_the_control(slate):
    assert all(pick.random for seed in range(50) for pick in slate([3.0, 2.0, 1.0], 3, epsilon=1.0, seed=seed))


def test_a_worse_offer_of_epsilon_greedy_always_comes_out_of_the_control(slate):
    picks = [slate([2.0, 1.0, 0.0], 1, epsilon=0.3, seed=seed)[0] for seed in range(300)]
    assert all(pick.random for pick in picks if pick.row)
    assert {pick.random for pick in picks if not pick.row} == {True, False}


def test_greedy_has_no_control(slate):
    assert not any(pick.random for pick in slate([3.0, 2.0, 1.0], 3, policy="greedy", epsilon=1.0))


def test_guaranteed_offers_do_not_come_out_of_the_control(slate):
    assert not slate([3.0, 2.0], 1, epsilon=1.0, guaranteed=(1,))[0].random


@pytest.mark.parametrize(("u", "row"), [(0.0, 1), (0.2499, 1), (0.25, 3), (0.9999999999999999, 3)])
def test_the_draw_takes_the_row_whose_share_of_the_line_holds_u(u, row):
    assert draw(np.array([0.0, 0.25, 0.0, 0.75, 0.0]), u) == row


def test_equal_seeds_give_equal_slates(slate):
    given = {"scores": [1.0, 2.0, 3.0, 4.0], "limit": 4, "epsilon": 0.5, "policy": "thompson", "seed": 7}
    assert slate(**given) == slate(**given)


def test_warming_up_may_be_repeated():
    warm()
    warm(["greedy"])
