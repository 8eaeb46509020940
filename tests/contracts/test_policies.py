"""What every policy promises; run over POLICIES."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph
from scipy import stats

from serving.policies import POLICIES
from serving.slate import draw, fill

# Odd values on purpose: ties, zeros, negative and huge scores.
SCORE = st.sampled_from([0.0, -0.0, 1.0, 1.0, -1.0, 1e300, -1e300, 5e-324]) | st.floats(-1e6, 1e6)


@st.composite
def cases(draw_from):
    n = draw_from(st.integers(1, 12))
    scores = draw_from(nph.arrays(np.float64, n, elements=SCORE))
    eligible = draw_from(nph.arrays(np.bool_, n))
    return scores, eligible, draw_from(st.sampled_from([0.0, 1.0, 0.05]) | st.floats(0, 1))


@pytest.fixture(params=list(POLICIES), scope="module")
def policy(request):
    return POLICIES[request.param]


@given(case=cases())
def test_policy_is_a_distribution_over_eligible_offers(policy, case):
    scores, eligible, epsilon = case
    chance = policy(scores, eligible, epsilon=epsilon)
    assert chance.shape == scores.shape
    assert (chance >= 0).all()
    assert (chance[~eligible] == 0).all()
    assert np.isclose(chance.sum(), eligible.any())


@given(case=cases(), data=st.data())
def test_order_of_offers_does_not_matter(policy, case, data):
    scores, eligible, epsilon = case
    order = np.array(data.draw(st.permutations(range(len(scores)))))
    chance = policy(scores, eligible, epsilon=epsilon)
    assert policy(scores[order], eligible[order], epsilon=epsilon) == pytest.approx(chance[order])


@given(case=cases())
def test_a_better_offer_never_has_a_smaller_chance(policy, case):
    scores, eligible, epsilon = case
    chance = policy(scores, eligible, epsilon=epsilon)
    for i in np.flatnonzero(eligible):
        worse = eligible & (scores < scores[i])
        assert (chance[worse] <= chance[i] + 1e-12).all()


@given(case=cases())
def test_scores_of_offers_that_are_not_eligible_do_not_matter(policy, case):
    scores, eligible, epsilon = case
    other = np.where(eligible, scores, 7.0)
    assert (policy(scores, eligible, epsilon=epsilon) == policy(other, eligible, epsilon=epsilon)).all()


def test_frequencies_match_the_logged_probabilities(policy):
    """200,000 draws against the chances by a chi-squared test; the seed is fixed, so it cannot flicker."""
    scores = np.array([1.0, 3.0, 3.0, 2.0, 0.5])
    eligible = np.array([True, True, True, True, False])
    chance = policy(scores, eligible, epsilon=0.2)
    rng = random.Random(20261121)
    counts = np.bincount([draw(chance, rng.random()) for _ in range(200_000)], minlength=5)
    possible = chance > 0
    assert (counts[~possible] == 0).all()
    assert stats.chisquare(counts[possible], 200_000 * chance[possible]).pvalue > 0.001


@given(case=cases(), limit=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_a_slate_shows_each_offer_once_with_its_conditional_chance(policy, case, limit, seed):
    scores, eligible, epsilon = case

    def chances(s, e):
        return policy(s, e, epsilon=epsilon)

    n = len(scores)
    picks = fill(
        scores,
        eligible.copy(),
        limit,
        chances,
        random.Random(seed),
        priority=np.zeros(n, np.int64),
        category=np.full(n, -1),
    )
    rows = [pick.row for pick in picks]
    assert len(rows) == len(set(rows)) == min(limit, eligible.sum())
    left = eligible.copy()
    for pick in picks:
        assert left[pick.row]
        assert pick.chance == chances(scores, left)[pick.row] > 0
        left[pick.row] = False


@given(
    chance=nph.arrays(np.float64, st.integers(1, 8), elements=st.sampled_from([0.0, 1e-300, 0.1, 1.0])),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_never_returns_an_offer_without_a_chance(chance, u):
    if chance.sum() > 0:
        assert chance[draw(chance / chance.sum(), u)] > 0
