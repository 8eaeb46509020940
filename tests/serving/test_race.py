"""The race has the law of plain draws, and its random numbers are what they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from scipy import integrate, stats

from serving.policies import race
from serving.policies.noise import STEP, bits, normal, unit

SEED = 11
RARE = 0.001  # each test below fails with about this chance under another seed


def plain(scores, moved, shape, n, rng):
    """How many of n plain draws each offer wins, by numpy's gamma generator."""
    found = np.zeros(len(scores))
    for start in range(0, n, 10_000):
        factor = rng.standard_gamma(shape, (min(10_000, n - start), len(scores))) / shape
        drawn = scores - moved + moved * factor
        best = drawn == drawn.max(axis=1, keepdims=True)
        found += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
    return found


def raced(scores, moved, shape, draws, times, rng):
    everyone = np.ones(len(scores), bool)
    seeds = [int(seed) for seed in rng.integers(2**63, size=times)]
    return sum(race.wins(scores, moved, shape, everyone, draws, seed) * draws for seed in seeds)


def alike(a, b):
    """The chance of two counts as different, if they come from one distribution; offers that hardly win are pooled."""
    few = a + b < 20
    table = np.array([[*c[~few], c[few].sum()] for c in (a, b)])
    table = table[:, table.sum(axis=0) > 0]
    return stats.chi2_contingency(table).pvalue if table.shape[1] > 1 else 1.0


def lognormal(n, width, seed=1):
    return np.exp(width * np.random.default_rng(seed).normal(size=n))


MANY = lognormal(60, 0.3)
FEW = lognormal(12, 0.3, seed=2)
CASES = {
    "two": (np.array([1.0, 1.2]), 1.0, np.array([30.0, 50.0])),
    "all alike, many": (np.ones(300), 1.0, np.full(300, 20.0)),
    "many, unlike": (MANY, 1.0, 20.0 + 10.0 * lognormal(60, 1.0, seed=3)),
    "one far ahead": (np.array([2.0, *np.ones(40)]), 1.0, np.full(41, 20.0)),
    "shapes below and above 1": (FEW, 1.0, np.array([0.05, 0.3, 0.9, 1.0, 1.5, 3.0] * 2)),
    "all exponential": (MANY, 1.0, np.ones(60)),
    "a part is fixed": (FEW, np.array([0.0, 0.1, 0.5, 1.0] * 3), np.array([5.0, 20.0, 100.0] * 4)),
    "a fixed one in the midst": (np.array([1.3, *np.ones(20)]), np.array([0.0] + [1.0] * 20), np.full(21, 20.0)),
    "two equal fixed ones": (np.array([1.3, 1.3, *np.ones(9)]), np.array([0.0] * 2 + [1.0] * 9), np.full(11, 9.0)),
    "what moves down": (np.array([1.0, 1.2, 0.8]), np.array([-1.0, 1.2, -0.5]), np.array([30.0, 0.5, 2.0])),
    "all below zero": (-FEW, -FEW, np.full(12, 3.0)),
    "tiny": (FEW * 1e-200, 1.0, np.full(12, 9.0)),
    "huge": (FEW * 1e250, 1.0, np.full(12, 9.0)),
    "nearly certain": (1.0 + 1e-4 * FEW, 1.0, np.full(12, 1e9)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("draws", [1, 60])
def test_wins_have_the_law_of_plain_draws(case, draws):
    scores, part, shape = CASES[case]
    moved = scores * part if np.ndim(part) == 0 else part * (1.0 if (np.asarray(part) < 0).any() else scores)
    rng = np.random.default_rng(SEED)
    n = 6_000 if draws == 1 else 30_000
    assert alike(raced(scores, moved, shape, draws, n // draws, rng), plain(scores, moved, shape, n, rng)) > RARE


@settings(max_examples=60, deadline=None)
@given(
    offers=st.lists(
        st.tuples(
            st.floats(-10, 10) | st.sampled_from([0.0, 1.0, 1e-300, 1e300]),
            st.floats(-2, 2) | st.sampled_from([0.0, 1.0]),
            st.floats(1e-3, 1e6) | st.sampled_from([1e-12, 1.0, 1e30, np.inf]),
            st.booleans(),
        ),
        max_size=40,
    ),
    draws=st.integers(1, 50),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_draw_has_one_winner_among_the_eligible(offers, draws, seed):
    scores, part, shape, eligible = (np.array(c) for c in zip(*offers, strict=True)) if offers else [np.zeros(0)] * 4
    eligible = eligible.astype(bool)
    share = race.wins(scores.astype(float), scores * part, shape.astype(float), eligible, draws, seed)
    assert (share >= 0).all()
    assert (share[~eligible] == 0).all()
    assert share.sum() == pytest.approx(float(eligible.any()))


def test_nothing_is_compiled_anew_for_beliefs_that_may_not_be_written():
    scores, shape = np.array([1.0, 2.0]), np.array([20.0, 20.0])
    race.wins(scores, scores, shape, np.ones(2, bool), 10, 1)
    shape.flags.writeable = False
    race.wins(scores, scores, shape, np.ones(2, bool), 10, 1)
    assert len(race._race.signatures) == 1


@pytest.mark.parametrize("d", [2 / 3, 1.0, 5.0, 14.9, 15.1, 1000.0])
def test_the_mean_chance_of_keeping_a_normal_is_its_integral(d):
    """By numerical integration of what is said of one x."""
    kept, _ = integrate.quad(lambda x: stats.norm.pdf(x) * np.exp(race._log_kept(x, d)), -3 * np.sqrt(d), 12, limit=200)
    assert race._mean_kept(d) == pytest.approx(kept, rel=1e-8)
    assert race._mean_kept(d) > race.LEAST_KEPT


@pytest.mark.parametrize("d", [0.9e6, 1.1e6])
def test_keeping_a_normal_is_the_same_on_both_sides_of_where_the_formula_changes(d):
    """The first terms of Taylor's series of -log A: x^4 / (108 d), for large d."""
    x = np.array([-3.0, -1.0, 0.5, 2.0, 4.0])
    assert [race._log_kept(one, d) for one in x] == pytest.approx(-(x**4) / (108 * d), rel=0.01, abs=1e-9)


def test_the_rarity_of_passing_is_never_less_than_it_is():
    """Against scipy's gamma tail; the z to pass may be less than it is, but not more."""
    shape, threshold, n = np.linspace(1.0, 60.0, 500), 2.0, 500
    d = shape - 1 / 3
    fixed, step, w = np.zeros(n), d / shape, 3 * np.sqrt(d)
    z, rare = np.empty(n), np.empty(n)
    passing = race._rarity(threshold, n, fixed, step, w, z, rare)
    assert (rare >= stats.gamma.sf(threshold * shape, shape)).all()
    assert (z <= (np.cbrt(threshold / step) - 1) * w + 1e-12).all()
    assert passing == pytest.approx(stats.gamma.sf(threshold * shape, shape).sum(), rel=0.5)


@njit
def numbers(seed, n):
    """n uniform and n normal numbers."""
    uniform, normals, at = np.empty(n), np.empty(n), seed
    for i in range(n):
        seed += STEP
        uniform[i] = unit(seed)
    for i in range(n):
        normals[i], at = normal(at)
    return uniform, normals


def test_random_numbers_are_uniform_and_normal():
    uniform, normals = numbers(np.uint64(SEED), 200_000)
    assert ((uniform > 0) & (uniform < 1)).all()
    assert stats.kstest(uniform, "uniform").pvalue > RARE
    assert stats.kstest(normals, "norm").pvalue > RARE
    assert stats.chisquare(np.bincount((uniform * 64).astype(int), minlength=64)).pvalue > RARE
    far = np.abs(normals) > 3.4426  # beyond the ziggurat's edge
    assert stats.binomtest(int(far.sum()), len(normals), 2 * stats.norm.sf(3.4426)).pvalue > RARE
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 4 / np.sqrt(len(uniform))


def test_bits_are_those_of_the_published_generator():
    """The first outputs of SplitMix64 for seed 1234567, as in the reference code's test vectors."""
    state, found = np.uint64(1234567), []
    for _ in range(3):
        with np.errstate(over="ignore"):
            state = state + STEP
        found.append(int(bits(state)))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]
