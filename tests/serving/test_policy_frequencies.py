"""What is shown is as frequent as the log says: 200,000 decisions per policy, and what happens where that is broken."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from serving.learning.beliefs import Beliefs
from serving.policies import POLICIES, policy_for
from serving.policies.floors import draw
from serving.policies.outlook import Outlook, Tuning
from serving.slate import fill, warm
from tests.serving.watched import Watched

N = 200_000
SEED = 20261122  # fixed, so that no test flickers; with another one each fails once in a thousand times
RARE = 0.001
SCORES = np.array([1.0, 3.0, 3.0, 2.0, 0.5])
ELIGIBLE = np.array([True, True, True, True, False])
NEW = np.array([True, False, False, False, True])
OUTLOOK = Outlook(SCORES, 0.8 * SCORES, Beliefs(np.array([1.0, 9.0, 30.0, 5.0, 9.0]), np.ones(5), np.zeros(5)), NEW)
NOBODY_FIRST = np.zeros(5, np.int64)


def p_value(shown, chances):
    """Of the picks (n,) against the chances (n, k) each was drawn with: the chi-squared test, one distribution per row.

    The counts less their expectation have the covariance sum of diag(p) - p p'; for equal rows this is Pearson's test.
    """
    counts, expected = np.bincount(shown, minlength=chances.shape[1]), chances.sum(axis=0)
    assert (counts[expected == 0] == 0).all()
    spread = np.diag(expected) - chances.T @ chances
    off, n_free = counts - expected, np.linalg.matrix_rank(spread, hermitian=True)
    if n_free == 0:
        return float(np.allclose(off, 0.0))
    return stats.chi2.sf(off @ np.linalg.pinv(spread, hermitian=True) @ off, n_free)


@dataclass
class Rank:
    """What came out at one rank, over the n decisions that had it."""

    rows: Any  # (n,)
    logged: Any  # (n,) the chance of the row
    marked: Any  # (n,) whether it came out of the control
    chances: Any  # (n, 5) of all offers, as drawn from


@pytest.fixture(params=list(POLICIES), scope="module")
def decided(request):
    """N decisions, every fourth with a second rank: what came out at each rank, and the share of the control."""
    rng, tuning = random.Random(SEED), Tuning(epsilon=0.2, new_offer_share=0.1, temperature=0.5, draws=8)
    warm([request.param])
    policy = policy_for(request.param, OUTLOOK, ELIGIBLE, tuning, rng)
    watched = Watched(policy)
    seen = ([], [])
    for i in range(N):
        limit = 2 if i % 4 == 0 else 1
        watched.asked.clear()
        picks = fill(watched, ELIGIBLE, limit, rng, priority=NOBODY_FIRST)
        for rank, pick in enumerate(picks):
            seen[rank].append((pick.row, pick.chance, pick.random, watched.asked[rank][1]))
    return [Rank(*(np.array(column) for column in zip(*rank, strict=True))) for rank in seen], policy.epsilon


@pytest.mark.parametrize("rank", [0, 1])
def test_frequencies_match_the_logged_probabilities(decided, rank):
    drawn = decided[0][rank]
    assert len(drawn.rows) == (N, N // 4)[rank]
    assert (drawn.logged == drawn.chances[np.arange(len(drawn.rows)), drawn.rows]).all()
    assert p_value(drawn.rows, drawn.chances) > RARE


def test_the_second_rank_matches_its_chances_behind_each_first_offer(decided):
    first, second = decided[0]
    for row in np.flatnonzero(np.bincount(first.rows[::4], minlength=5) > 500):
        behind = first.rows[::4] == row
        assert p_value(second.rows[behind], second.chances[behind]) > RARE


def test_the_control_is_its_share_and_even(decided):
    (first, _), control = decided
    assert stats.binomtest(int(first.marked.sum()), N, control).pvalue > RARE
    if control:
        even = np.bincount(first.rows[first.marked], minlength=5)[ELIGIBLE]
        assert stats.chisquare(even).pvalue > RARE


def test_softmax_ranks_follow_plackett_luce_as_adding_gumbel_noise_does():
    """Orders of three out of four: drawn rank by rank, by the formula, and as the largest scores with noise."""
    scores, temperature, n = np.array([0.0, 0.4, 0.7, 1.0]), 0.5, 40_000
    rng, everyone = random.Random(SEED), np.ones(4, bool)
    tuning = Tuning(epsilon=0.0, new_offer_share=0.0, temperature=temperature)
    softmax = policy_for("softmax", Outlook(scores, scores), everyone, tuning, rng)
    orders = list(itertools.permutations(range(4), 3))
    weight = np.exp(scores / temperature)  # the spread of the scores is 1
    expected = [
        np.prod([weight[o] / (weight.sum() - weight[list(order[:i])].sum()) for i, o in enumerate(order)])
        for order in orders
    ]
    drawn = Counter(
        tuple(p.row for p in fill(softmax, everyone, 3, rng, priority=np.zeros(4, np.int64))) for _ in range(n)
    )
    noise = np.random.default_rng(SEED).gumbel(size=(n, 4))
    noisy = Counter(map(tuple, np.argsort(-(scores / temperature + noise), axis=1)[:, :3].tolist()))
    for counts in (drawn, noisy):
        assert stats.chisquare([counts[order] for order in orders], n * np.array(expected)).pvalue > RARE


REWARDS = np.array([0.5, 0.5, 0.4])  # the planted truth; what the beliefs say differs
UNSURE = Outlook(np.array([1.0, 1.0, 0.6]), np.array([1.0, 1.0, 0.6]), Beliefs.none(3, 20.0))
EVERYONE = np.ones(3, bool)
FEW_DRAWS = Tuning(epsilon=0.05, new_offer_share=0.0, draws=20)


def test_dividing_by_the_estimate_that_was_drawn_from_is_unbiased():
    """The value of always showing the third offer, from Thompson sampling that hardly ever does."""
    n, rng = 100_000, random.Random(SEED)
    thompson = policy_for("thompson", UNSURE, EVERYONE, FEW_DRAWS, rng)
    accepted = np.random.default_rng(SEED).random(n) < REWARDS[2]
    weight = np.zeros(n)
    for i in range(n):
        chance = thompson(EVERYONE)
        weight[i] = 1.0 / chance[2] if draw(chance, rng.random()) == 2 else 0.0
    found = weight * accepted
    assert weight.mean() == pytest.approx(1.0, abs=4 * weight.std() / np.sqrt(n))
    assert found.mean() == pytest.approx(REWARDS[2], abs=4 * found.std() / np.sqrt(n))


def test_dividing_by_another_estimate_than_was_drawn_from_is_biased():
    """Why the draw is from the estimate. Drawn from one and divided by another, a value is multiplied by
    E[p] E[1 / p], where p = .95 B / 20 + .05 / 3 and B is how often of 20 the offer wins: binomial."""
    rng, many = random.Random(SEED), Tuning(epsilon=0.0, new_offer_share=0.0, draws=2_000_000)
    wins = policy_for("thompson", UNSURE, EVERYONE, many, rng)(EVERYONE)[2]
    binomial = stats.binom.pmf(np.arange(21), 20, wins)
    p = 0.95 * np.arange(21) / 20 + 0.05 / 3
    bias = (binomial @ p) * (binomial @ (1 / p))
    assert bias > 1.3
    thompson = policy_for("thompson", UNSURE, EVERYONE, FEW_DRAWS, rng)
    found = np.array([thompson(EVERYONE)[2] for _ in range(20_000)])
    assert found.mean() * (1 / found).mean() == pytest.approx(bias, rel=0.02)


def test_a_redraw_breaks_the_probabilities_by_what_was_lost():
    """Epsilon-greedy over three offers, the last of which is always lost and then left out: weights of the policy
    over the other two sum to 1 + epsilon / 3 instead of 1, and to 1 without the rows that were redrawn."""
    epsilon, scores = 0.3, np.array([2.0, 1.0, 0.0])
    tuning, rng = Tuning(epsilon=epsilon, new_offer_share=0.0), random.Random(SEED)
    policy = policy_for("epsilon_greedy", Outlook(scores, scores), EVERYONE, tuning, rng)
    first = policy(EVERYONE)
    left = policy(np.array([True, True, False]))  # also what is evaluated
    kept = sum(first[row] * left[row] / first[row] for row in (0, 1))
    redrawn = first[2] * sum(left[row] * left[row] / left[row] for row in (0, 1))
    assert kept == pytest.approx(1.0)
    assert kept + redrawn == pytest.approx(1.0 + epsilon / 3)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_thompson_varies_what_is_often_taken_less(p):
    """The count of n answers that are yes or no varies 1 - p times as much as a Poisson count: as a belief whose
    shape is 1 / (1 - p) times as large. Of what is taken always, 0.01 of it is left."""
    beliefs = UNSURE.beliefs
    told = Outlook(UNSURE.scores, UNSURE.moved, beliefs, p_accept=np.full(3, p))
    surer = Outlook(UNSURE.scores, UNSURE.moved, Beliefs.none(3, 20.0 / max(1.0 - p, 0.01)))
    one, other = (policy_for("thompson", seen, EVERYONE, FEW_DRAWS, random.Random(SEED)) for seen in (told, surer))
    assert (one(EVERYONE) == other(EVERYONE)).all()
