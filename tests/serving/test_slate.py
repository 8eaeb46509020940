"""Slates: guaranteed offers, priorities, categories."""

from __future__ import annotations

import random

import numpy as np
import pytest

from serving.policies import POLICIES
from serving.slate import Pick, fill


@pytest.fixture
def slate():
    def make(scores, limit, *, priority=None, category=None, eligible=None, epsilon=0.0, **rest):
        n = len(scores)
        return fill(
            np.array(scores, float),
            np.ones(n, bool) if eligible is None else np.array(eligible),
            limit,
            lambda s, e: POLICIES["epsilon_greedy"](s, e, epsilon=epsilon),
            random.Random(1),
            priority=np.array(priority or [0] * n),
            category=np.array(category if category is not None else [-1] * n),
            **rest,
        )

    return make


def test_ranks_go_down_by_score_when_nothing_is_explored(slate):
    assert [pick.row for pick in slate([1.0, 3.0, 2.0], 3)] == [1, 2, 0]


def test_higher_priority_comes_before_any_score(slate):
    assert [pick.row for pick in slate([9.0, 1.0, 2.0], 3, priority=[0, 5, 5])] == [2, 1, 0]


def test_guaranteed_offers_lead_with_probability_one_if_eligible(slate):
    picks = slate([1.0, 3.0, 2.0], 2, guaranteed=(0, 2), eligible=[True, True, False])
    assert picks == [Pick(0, 1.0, why="guaranteed"), Pick(1, 1.0)]


def test_a_category_stops_at_its_limit(slate):
    assert [p.row for p in slate([4.0, 3.0, 2.0, 1.0], 4, category=[0, 0, 1, 1], max_per_category=1)] == [0, 2]


def test_offers_without_a_category_have_no_category_limit(slate):
    assert [p.row for p in slate([4.0, 3.0, 2.0], 3, category=[-1, -1, 0], max_per_category=1)] == [0, 1, 2]


def test_guaranteed_offers_count_towards_their_category(slate):
    assert [p.row for p in slate([1.0, 3.0, 2.0], 3, category=[0, 0, 1], max_per_category=1, guaranteed=(0,))] == [0, 2]


def test_nothing_eligible_gives_an_empty_slate(slate):
    assert slate([1.0, 2.0], 2, eligible=[False, False]) == []


def test_ties_share_the_chance(slate):
    (pick,) = slate([2.0, 2.0, 1.0], 1, epsilon=0.3)
    # By hand: 0.3 / 3 for each, and 0.7 / 2 for each of the two best.
    assert pick.chance == pytest.approx({0: 0.45, 1: 0.45, 2: 0.1}[pick.row])
