"""What every policy promises; run over POLICIES."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph

from features.errors import BadSettings
from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, policy_for, policy_named
from serving.policies.floors import draw
from serving.policies.outlook import Outlook, Tuning
from serving.slate import fill, warm
from tests.serving.watched import Watched

# Odd values on purpose: ties, zeros, negative, huge and vanishing scores; beliefs from next to none to certainty.
SCORE = st.sampled_from([0.0, -0.0, 1.0, 1.0, -1.0, 1e300, -1e300, 5e-324]) | st.floats(-1e6, 1e6)
FEW = settings(max_examples=30, deadline=None)  # of each promise and each policy
SHAPE = st.sampled_from([1e-9, 0.05, 1.0, 20.0, 20.0, 1e9, 1e300, np.inf]) | st.floats(0.01, 1e4)


@st.composite
def tunings(draw_from, **given):
    epsilon = draw_from(st.sampled_from([0.0, 1.0, 0.05]) | st.floats(0, 1))
    budget = draw_from(st.sampled_from([0.0, 0.05, 1.0]))
    made = {
        "epsilon": epsilon,
        "new_offer_share": min(budget, 1.0 - epsilon),
        "temperature": draw_from(st.sampled_from([1e-3, 0.1, 1.0, 1e3, 1e-300])),
        "draws": draw_from(st.integers(1, 30)),
    }
    return Tuning(**{**made, **given})


@st.composite
def cases(draw_from, certain=False, all_old=False, **tuning):
    offers = draw_from(
        st.lists(st.tuples(SCORE, SCORE, st.booleans(), SHAPE, st.booleans(), st.booleans()), min_size=1)
    )
    offers = offers[:12]
    scores, other, whole, shape, is_new, eligible = (np.array(column) for column in zip(*offers, strict=True))
    beliefs = (
        None if certain or draw_from(st.booleans()) else Beliefs(shape, np.ones(len(offers)), np.zeros(len(offers)))
    )
    outlook = Outlook(scores, np.where(whole, scores, other), beliefs, None if all_old else is_new)
    return outlook, eligible, draw_from(tunings(**tuning)), draw_from(st.integers(0, 2**32))


def ask(policy, outlook, eligible, tuning, seed):
    return policy_for(policy, outlook, eligible, tuning, random.Random(seed))(eligible)


def some(outlook, rows):
    """The same outlook with its offers in another order."""
    beliefs = outlook.beliefs
    if beliefs is not None:
        beliefs = Beliefs(beliefs.shape[rows], beliefs.rate[rows], beliefs.n_seen[rows])
    is_new = None if outlook.is_new is None else outlook.is_new[rows]
    return Outlook(outlook.scores[rows], outlook.moved[rows], beliefs, is_new)


@pytest.fixture(params=list(POLICIES), scope="module")
def policy(request):
    warm([request.param])  # so that no example waits for a compiler
    return request.param


@FEW
@given(case=cases())
def test_policy_is_a_distribution_over_eligible_offers(policy, case):
    outlook, eligible, tuning, seed = case
    chance = ask(policy, outlook, eligible, tuning, seed)
    assert chance.shape == eligible.shape
    assert (chance >= 0).all()
    assert (chance[~eligible] == 0).all()
    assert chance.sum() == pytest.approx(float(eligible.any()), abs=1e-12)


@FEW
@given(case=cases())
def test_equal_random_states_give_equal_chances(policy, case):
    assert (ask(policy, *case) == ask(policy, *case)).all()


@FEW
@given(case=cases(), odd=st.sampled_from([np.nan, np.inf, -np.inf, 7.0]))
def test_what_is_not_eligible_does_not_matter(policy, case, odd):
    outlook, eligible, tuning, seed = case

    def changed(values):
        return np.where(eligible, values, odd)

    beliefs = outlook.beliefs
    if beliefs is not None:
        beliefs = Beliefs(changed(beliefs.shape), changed(beliefs.rate), beliefs.n_seen)
    is_new = None if outlook.is_new is None else outlook.is_new | ~eligible
    other = Outlook(changed(outlook.scores), changed(outlook.moved), beliefs, is_new)
    assert (ask(policy, outlook, eligible, tuning, seed) == ask(policy, other, eligible, tuning, seed)).all()


@FEW
@given(case=cases())
def test_a_policy_changes_nothing_it_is_given(policy, case):
    outlook, eligible, tuning, seed = case
    before = outlook.scores.copy(), outlook.moved.copy(), eligible.copy()
    ask(policy, outlook, eligible, tuning, seed)
    np.testing.assert_array_equal(before, (outlook.scores, outlook.moved, eligible))


@FEW
@given(case=cases(certain=True), data=st.data())
def test_order_of_offers_does_not_matter(policy, case, data):
    outlook, eligible, tuning, seed = case
    order = np.array(data.draw(st.permutations(range(len(eligible)))))
    chance = ask(policy, outlook, eligible, tuning, seed)
    assert ask(policy, some(outlook, order), eligible[order], tuning, seed) == pytest.approx(chance[order])


@FEW
@given(case=cases(draws=10_000), data=st.data())
def test_order_of_offers_does_not_matter_to_what_is_sampled(policy, case, data):
    """Two estimates from 10,000 draws each: they differ by at most 6 standard errors of sqrt(.5 / 10,000)."""
    outlook, eligible, tuning, seed = case
    order = np.array(data.draw(st.permutations(range(len(eligible)))))
    chance = ask(policy, outlook, eligible, tuning, seed)
    other = ask(policy, some(outlook, order), eligible[order], tuning, seed)
    assert other == pytest.approx(chance[order], abs=6 * np.sqrt(0.5 / 10_000))


@FEW
@given(case=cases(certain=True, all_old=True))
def test_a_better_offer_never_has_a_smaller_chance(policy, case):
    outlook, eligible, tuning, seed = case
    chance = ask(policy, outlook, eligible, tuning, seed)
    for i in np.flatnonzero(eligible):
        worse = eligible & (outlook.scores < outlook.scores[i])
        assert (chance[worse] <= chance[i] + 1e-12).all()


@FEW
@given(case=cases(certain=True, all_old=True))
def test_equal_offers_share_their_chance(policy, case):
    outlook, eligible, tuning, seed = case
    chance = ask(policy, outlook, eligible, tuning, seed)
    for i in np.flatnonzero(eligible):
        assert (chance[eligible & (outlook.scores == outlook.scores[i])] == chance[i]).all()


@FEW
@given(case=cases())
def test_every_eligible_offer_has_its_part_of_the_control_and_every_new_one_its_part_of_the_budget(policy, case):
    outlook, eligible, tuning, seed = case
    chance = ask(policy, outlook, eligible, tuning, seed)
    if not eligible.any() or not POLICIES[policy].explores:
        return
    new = eligible & outlook.is_new if outlook.is_new is not None else np.zeros_like(eligible)
    budget = tuning.new_offer_share if 0 < new.sum() < eligible.sum() else 0.0
    floor = eligible * tuning.epsilon / eligible.sum() + new * budget / max(new.sum(), 1)
    assert (chance >= floor * (1 - 1e-12)).all()


def test_greedy_never_explores():
    outlook = Outlook(np.array([1.0, 2.0]), np.array([1.0, 2.0]), Beliefs.none(2, 1.0), np.array([True, False]))
    tuning = Tuning(epsilon=0.5, new_offer_share=0.5)
    assert ask("greedy", outlook, np.ones(2, bool), tuning, 1).tolist() == [0.0, 1.0]
    assert not POLICIES["greedy"].explores


@FEW
@given(case=cases(), limit=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_a_slate_shows_each_offer_once_with_the_chance_it_was_drawn_with(policy, case, limit, seed):
    outlook, eligible, tuning, _ = case
    watched = Watched(policy_for(policy, outlook, eligible, tuning, random.Random(seed)))
    n = len(eligible)
    picks = fill(watched, eligible, limit, random.Random(seed), priority=np.zeros(n, np.int64))
    rows = [pick.row for pick in picks]
    assert len(rows) == len(set(rows)) == min(limit, eligible.sum())
    expected = eligible.copy()
    for pick, (left, chance) in zip(picks, watched.asked, strict=True):
        assert (left == expected).all()
        assert pick.chance == chance[pick.row] > 0
        expected[pick.row] = False


@given(
    chance=nph.arrays(np.float64, st.integers(1, 8), elements=st.sampled_from([0.0, 1e-300, 0.1, 1.0])),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_never_returns_an_offer_without_a_chance(chance, u):
    if chance.sum() > 0:
        assert chance[draw(chance / chance.sum(), u)] > 0


def test_a_policy_that_does_not_exist_is_refused_with_the_names_of_those_that_do():
    with pytest.raises(BadSettings, match="expected one of greedy, epsilon_greedy, softmax, thompson"):
        policy_named("best")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epsilon": 1.1}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": 0.6, "new_offer_share": 0.5}, "new_offer_share"),
        ({"new_offer_share": -0.1}, "new_offer_share"),
        ({"temperature": 0.0}, "temperature"),
        ({"draws": 0}, "draws"),
    ],
)
def test_a_tuning_that_makes_no_distribution_is_refused(changes, field):
    with pytest.raises(BadSettings) as refused:
        Tuning(**changes)
    assert refused.value.field == field
