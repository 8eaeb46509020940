"""The shortlist keeps the best, what the slate needs, and all new ones beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.shortlist import shortlist, with_new


def rows(mask):
    return np.flatnonzero(mask).tolist()


@settings(deadline=None)
@given(st.data())
def test_it_holds_the_best_eligible_by_priority_and_score_as_sorting_says(data):
    n_offers = data.draw(st.integers(0, 30))
    scores = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, -3.5]), min_size=n_offers, max_size=n_offers)))
    priority = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n_offers, max_size=n_offers)), np.int64)
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=n_offers, max_size=n_offers)), bool)
    n = data.draw(st.integers(1, 12))
    best = sorted(np.flatnonzero(eligible).tolist(), key=lambda row: (-priority[row], -scores[row], row))[:n]
    assert rows(shortlist(eligible, scores, n, priority=priority)) == sorted(best)


@pytest.mark.parametrize("n", [1, 50, 2000, 4999])
@pytest.mark.parametrize("shape", ["spread", "ties", "sorted", "worst"])
def test_a_large_catalogue_gives_the_same_as_sorting(n, shape):
    rng = np.random.default_rng(n)
    scores = rng.lognormal(size=5000)
    if shape == "ties":
        scores = rng.integers(0, 3, 5000).astype(float)
    elif shape == "sorted":
        scores.sort()
    elif shape == "worst":  # the sample holds the best offers and no others
        scores[::16] += 1e6
    eligible = rng.random(5000) < 0.9
    best = sorted(np.flatnonzero(eligible).tolist(), key=lambda row: (-scores[row], row))[:n]
    assert rows(shortlist(eligible, scores, n)) == sorted(best)


def test_a_small_catalogue_is_left_as_it_is_and_not_shared():
    eligible = np.array([True, False, True])
    found = shortlist(eligible, np.array([1.0, np.nan, 2.0]), 2)
    assert rows(found) == [0, 2]
    found[:] = False
    assert eligible.any()


def test_what_the_slate_needs_stays_if_it_is_eligible():
    eligible = np.array([True, True, False, True])
    keep = np.array([False, True, True, False])
    assert rows(shortlist(eligible, np.array([3.0, 1.0, 9.0, 2.0]), 1, keep)) == [0, 1]


def test_all_new_offers_join_those_that_compete():
    competing = np.array([True, False, False, False, False])
    eligible, is_new = np.array([True, True, True, False, True]), np.array([False, True, False, True, True])
    assert rows(with_new(competing, eligible, is_new)) == [0, 1, 4]


def test_nobody_joins_where_all_are_new_as_there_is_no_budget():
    competing, everyone = np.array([True, False, False]), np.ones(3, bool)
    assert rows(with_new(competing, everyone, everyone)) == [0]


def test_a_shortlist_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n == 0"):
        shortlist(np.ones(3, bool), np.ones(3), 0)
