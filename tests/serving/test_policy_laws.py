"""Laws of selection probabilities, on slates as `fill` draws them: every possible slate is visited, none is sampled."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, policy_for
from serving.policies.outlook import Outlook, Tuning
from serving.rules import Room
from serving.slate import fill, warm
from tests.serving.watched import Watched, left_at

FEW = settings(max_examples=30, deadline=None)
SCORE = st.sampled_from([0.0, 1.0, 1.0, 2.0, -1.0]) | st.floats(-100, 100)
EPSILON = st.sampled_from([0.0, 0.05, 1.0]) | st.floats(0.001, 1)  # a chance of 1e-60 is never drawn
SHAPE = st.sampled_from([0.5, 1.0, 20.0]) | st.floats(0.1, 1000)


@pytest.fixture(params=list(POLICIES), scope="module")
def policy(request):
    warm([request.param])
    return request.param


@st.composite
def outlooks(draw_from, most=5):
    offers = draw_from(st.lists(st.tuples(SCORE, SHAPE, st.booleans()), min_size=1, max_size=most))
    scores, shape, is_new = (np.array(column) for column in zip(*offers, strict=True))
    return Outlook(scores, 0.5 * scores, Beliefs(shape, np.ones(len(offers)), np.zeros(len(offers))), is_new)


@st.composite
def tunings(draw_from):
    epsilon = draw_from(EPSILON)
    share = min(draw_from(st.sampled_from([0.0, 0.05, 0.5])), 1.0 - epsilon)
    return Tuning(epsilon=epsilon, new_offer_share=share, temperature=draw_from(st.floats(0.05, 5)), draws=7)


class Steered(Watched):
    """Draws the row that it is told to."""

    def __init__(self, policy, path):
        super().__init__(policy)
        self.path, self.options = list(path), []

    def draw(self, rows, free, priority, u):
        state = self.policy.rng.getstate()
        chance = self.policy(left_at(free, priority))
        self.policy.rng.setstate(state)
        possible = np.flatnonzero(chance)
        if possible.size:
            row = self.path[len(self.options)] if len(self.options) < len(self.path) else possible[0]
            self.options.append(possible.tolist())
            u = (chance[:row].sum() + 0.5 * chance[row]) / chance.sum()
        return super().draw(rows, free, priority, u)


class Marking(random.Random):
    """Its numbers, by which picks are marked, are the same every time."""

    def __init__(self, mark):
        super().__init__(1)
        self.mark = mark

    def random(self):
        return self.mark


def steered(policy, outlook, eligible, limit, tuning, path, mark=0.5, priority=None, rooms=(), guaranteed=()):
    steering = Steered(policy_for(policy, outlook, eligible, tuning, random.Random(1)), path)
    picks = fill(
        steering,
        eligible,
        limit,
        Marking(mark),
        priority=np.zeros(len(eligible), np.int64) if priority is None else priority,
        rooms=[Room(room.rows, room.left, room.rule) for room in rooms],
        guaranteed=guaranteed,
    )
    return picks, steering


def every_slate(policy, outlook, eligible, limit, tuning, **given):
    """All slates that can come out, each once, with what was asked of the policy on the way."""
    paths = [[]]
    while paths:
        path = paths.pop()
        picks, rng = steered(policy, outlook, eligible, limit, tuning, path, **given)
        drawn = [pick.row for pick in picks if pick.why is None]
        for rank in range(len(path), len(drawn)):
            paths.extend([*drawn[:rank], other] for other in rng.options[rank] if other != drawn[rank])
        yield picks, rng.asked


@FEW
@given(outlook=outlooks(most=4), tuning=tunings(), limit=st.integers(1, 3), data=st.data())
def test_the_chances_of_all_slates_sum_to_one(policy, outlook, tuning, limit, data):
    n = len(outlook.scores)
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    given_ = {
        "priority": np.array(data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n))),
        "rooms": [Room(data.draw(masks), data.draw(st.integers(1, 2)), "test")],
        "guaranteed": tuple(data.draw(st.lists(st.integers(0, n - 1), max_size=1))),
    }
    eligible = data.draw(masks)
    slates = list(every_slate(policy, outlook, eligible, limit, tuning, **given_))
    rows = [tuple(pick.row for pick in picks) for picks, _ in slates]
    assert len(rows) == len(set(rows))
    assert sum(np.prod([pick.chance for pick in picks]) for picks, _ in slates) == pytest.approx(1.0)


@FEW
@given(outlook=outlooks(most=4), tuning=tunings(), data=st.data())
def test_the_policy_is_asked_after_every_rule_and_only_about_what_may_be_shown(policy, outlook, tuning, data):
    n = len(outlook.scores)
    priority = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    room = Room(np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))), 1, "test")
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    for picks, asked in every_slate(policy, outlook, eligible, n, tuning, priority=priority, rooms=[room]):
        free = eligible.copy()
        for pick, (left, chance) in zip(picks, asked, strict=True):
            assert (left == (free & (priority == priority[free].max()))).all()
            assert pick.chance == chance[pick.row] > 0
            free[pick.row] = False
            if room.rows[pick.row]:
                free &= ~room.rows
        assert not free.any()


@FEW
@given(outlook=outlooks(), tuning=tunings(), first=st.integers(0, 4))
def test_an_overridden_choice_has_probability_one_and_its_reason(policy, outlook, tuning, first):
    first %= len(outlook.scores)
    everyone = np.ones(len(outlook.scores), bool)
    for picks, asked in every_slate(policy, outlook, everyone, 2, tuning, guaranteed=(first,)):
        assert (picks[0].row, picks[0].chance, picks[0].why) == (first, 1.0, "guaranteed")
        assert all(not left[first] for left, _ in asked)
        assert all(pick.why is None for pick in picks[1:])


@FEW
@given(outlook=outlooks(), epsilon=EPSILON)
def test_epsilon_greedy_shares_its_greedy_part_among_the_ties_at_every_rank(outlook, epsilon):
    tuning = Tuning(epsilon=epsilon, new_offer_share=0.0)
    everyone = np.ones(len(outlook.scores), bool)
    for picks, asked in every_slate("epsilon_greedy", outlook, everyone, 2, tuning):
        for pick, (left, _) in zip(picks, asked, strict=True):
            ties = left & (outlook.scores == outlook.scores[left].max())
            expected = epsilon / left.sum() + ties[pick.row] * (1 - epsilon) / ties.sum()
            assert pick.chance == pytest.approx(expected)


@FEW
@given(outlook=outlooks(), temperature=st.floats(0.05, 5))
def test_what_softmax_says_of_two_offers_does_not_depend_on_the_others_or_on_the_rank(outlook, temperature):
    """Luce's axiom: the ratio of two chances is exp of their difference over temperature x spread, at every rank."""
    tuning = Tuning(epsilon=0.0, new_offer_share=0.0, temperature=temperature)
    everyone, scores = np.ones(len(outlook.scores), bool), outlook.scores
    spread = np.ptp(scores)
    for _, asked in every_slate("softmax", outlook, everyone, 3, tuning):
        for left, chance in asked:
            best = scores[left].max()
            weight = np.where(left, np.exp((scores - best) / (temperature * spread)) if spread else 1.0, 0.0)
            assert chance == pytest.approx(weight / weight.sum())


@FEW
@given(outlook=outlooks(), tuning=tunings(), factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_another_currency_changes_no_chance(policy, outlook, tuning, factor):
    """Powers of two, which multiply without rounding."""
    everyone = np.ones(len(outlook.scores), bool)
    other = Outlook(outlook.scores * factor, outlook.moved * factor, outlook.beliefs, outlook.is_new)
    chance, same = (policy_for(policy, o, everyone, tuning, random.Random(3))(everyone) for o in (outlook, other))
    assert same == pytest.approx(chance, rel=1e-9)


@FEW
@given(outlook=outlooks(), tuning=tunings(), lost=st.integers(0, 4))
def test_with_a_redraw_the_weights_sum_to_one_more_chance_of_what_was_lost(policy, outlook, tuning, lost):
    """Weights of the policy among the offers that can be had, over the chances that were logged: 1 without the rows
    that were redrawn, 1 plus the chance of the lost offer with them."""
    n = len(outlook.scores)
    lost %= n
    if n < 2:
        return
    everyone, others = np.ones(n, bool), np.arange(n) != lost
    first, left = (policy_for(policy, outlook, mask, tuning, random.Random(1))(mask) for mask in (everyone, others))
    kept, redrawn = 0.0, 0.0
    for (pick,), _ in every_slate(policy, outlook, everyone, 1, tuning):
        if pick.row != lost:
            kept += pick.chance * left[pick.row] / pick.chance
            continue
        for (again,), _ in every_slate(policy, outlook, others, 1, tuning):
            assert again.row != lost
            redrawn += pick.chance * again.chance * left[again.row] / left[again.row]
    reachable = left[others & (first > 0)].sum()  # greedy leaves offers without a chance, which no weight brings back
    assert kept == pytest.approx(reachable)
    assert redrawn == pytest.approx(first[lost], abs=1e-12)


@FEW
@given(outlook=outlooks(), tuning=tunings())
def test_a_pick_comes_out_of_the_control_with_the_part_that_the_control_has_in_its_chance(policy, outlook, tuning):
    n = len(outlook.scores)
    everyone, control = np.ones(n, bool), tuning.epsilon if POLICIES[policy].explores else 0.0
    for (pick,), _ in every_slate(policy, outlook, everyone, 1, tuning):
        part = control / n / pick.chance
        assert part <= 1 + 1e-9
        for mark in (part * (1 - 1e-9), min(part * (1 + 1e-9), 1.0)):
            ((again,), _) = steered(policy, outlook, everyone, 1, tuning, [pick.row], mark)
            assert again.row == pick.row
            assert again.random == (mark * pick.chance < control / n)
