"""Sample ratio: chi-squared as SciPy has it, the multinomial test by its formula, phases with their own shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from experiments.statistics.group_sequential import crossing
from experiments.statistics.sample_ratio import Counted, chi2_p, log_bayes_factor, sample_ratio, sequential_p
from features.errors import BadInput

HALF = {"control": 0.5, "variant": 0.5}


def counted(*looks, weights=HALF, phase=1):
    return Counted(phase=phase, weights=weights, looks=tuple(dict(zip(weights, look, strict=True)) for look in looks))


def test_chi_squared_is_scipys():
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    assert chi2_p([counted((520, 290, 190), weights=weights)]) == pytest.approx(
        chisquare([520, 290, 190], [500, 300, 200]).pvalue
    )


def test_with_a_flat_prior_the_bayes_factor_is_known_by_hand():
    """Dirichlet(1, 1): B(1 + x) / B(1) / 0.5^n = 2^n / ((n + 1) * (n over x))."""
    by_hand = 2**10 / (11 * math.comb(10, 3))
    assert log_bayes_factor([3, 7], [0.5, 0.5], concentration=2) == pytest.approx(math.log(by_hand))


def test_the_bayes_factor_is_a_martingale_when_the_shares_hold():
    """Mean over all outcomes of ten units is 1, by enumeration."""
    x = np.arange(11)
    chances = np.array([math.comb(10, k) for k in x]) * 0.3**x * 0.7 ** (10 - x)
    factors = np.exp(log_bayes_factor(np.stack([x, 10 - x], axis=-1), [0.3, 0.7], concentration=5))
    assert (chances * factors).sum() == pytest.approx(1.0)


def test_a_mismatch_is_found_and_the_right_split_is_not_blamed():
    assert sample_ratio([counted((50_500, 49_500))]).mismatch is False
    found = sample_ratio([counted((51_500, 48_500))])
    assert found.mismatch
    assert found.expected == {"control": 50_000, "variant": 50_000}


def test_a_change_of_allocation_is_a_new_phase_and_no_alarm():
    """90:10 first and 50:50 later is 1,400:600 in all, which neither share explains."""
    first = counted((450, 50), (900, 100), weights={"control": 0.9, "variant": 0.1})
    second = counted((250, 250), (500, 500), phase=2)
    found = sample_ratio([first, second])
    assert found.observed == {"control": 1_400, "variant": 600}
    assert not found.mismatch
    assert found.p_chi2 == pytest.approx(1.0)
    assert sample_ratio([counted((1_400, 600))]).mismatch


def test_what_was_seen_once_stays_seen():
    early, late = (800, 1_200), (5_000, 5_000)
    assert sequential_p([counted(early, late)]) == pytest.approx(sequential_p([counted(early)]))


def test_units_in_a_variant_that_was_to_get_none_are_a_mismatch():
    found = sample_ratio([counted((500, 3), weights={"control": 1.0, "variant": 0.0})])
    assert found.mismatch
    assert "were to get none: variant" in found.flags[0]


def test_without_units_there_is_no_p_value_and_it_says_so():
    found = sample_ratio([counted((0, 0))])
    assert (found.p_chi2, found.p_sequential, found.mismatch) == (None, None, False)
    assert found.flags == ("no unit was exposed yet",)


def test_few_units_have_the_sequential_test_only():
    found = sample_ratio([counted((4, 5))])
    assert found.p_chi2 is None
    assert found.p_sequential is not None
    assert "too few units for chi-squared" in found.flags[0]


def test_weights_must_sum_to_one():
    with pytest.raises(BadInput, match=r"phase 1 sum to 1\.1, expected 1"):
        sample_ratio([counted((1, 1), weights={"a": 0.5, "b": 0.6})])


def test_chi_squared_at_every_look_errs_and_the_multinomial_test_does_not():
    """50 looks at 0.01. The first by integration: 0.088 (0.094 was measured once); the second by simulation."""
    fractions = (np.arange(50) + 1) / 50
    assert crossing(fractions, [2.575829] * 50)[-1] == pytest.approx(0.088, abs=1e-3)
    rng = np.random.default_rng(11)
    ones = np.cumsum(rng.binomial(500, 0.5, (4_000, 50)), axis=1)
    n = 500 * np.arange(1, 51)
    naive = (np.abs(ones - n / 2) / np.sqrt(n / 4) > 2.575829).any(axis=1).mean()
    valid = (log_bayes_factor(np.stack([ones, n - ones], -1), [0.5, 0.5]) > math.log(100)).any(axis=1).mean()
    assert naive == pytest.approx(0.09, abs=0.02)
    assert valid <= 0.01


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=5))
def test_p_values_are_chances_whatever_was_counted(looks):
    found = sample_ratio([counted(*looks)])
    for p in (found.p_chi2, found.p_sequential):
        assert p is None or 0 <= p <= 1
