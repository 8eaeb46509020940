"""How far a distribution has moved: by hand, by SciPy, by laws, and how often nothing moved and something is said."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from training.monitoring.drift import category_histograms, histograms, ks, null_rate, psi, unseen

COUNTS = st.lists(st.integers(0, 10_000), min_size=2, max_size=12)
NUMBERS = st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=False, width=32), st.just(0.0)), max_size=60)


def test_psi_is_the_sum_over_bins_of_share_differences_times_log_ratios():
    # By hand: (.5 - .25) log 2 + (.5 - .75) log(2/3) = .1733 + .1014
    assert psi([100, 300], [200, 200]) == pytest.approx(0.25 * math.log(2) - 0.25 * math.log(2 / 3))


def test_an_empty_bin_counts_as_half_a_row_and_a_bin_empty_on_both_sides_not_at_all():
    assert psi([10, 0, 0], [10, 10, 0]) == pytest.approx(psi([10, 0], [10, 10]))
    assert math.isfinite(psi([10, 0], [0, 10]))


def test_an_empty_histogram_is_refused():
    with pytest.raises(ValueError, match="empty"):
        psi([0, 0], [1, 2])


@given(COUNTS.filter(any), st.integers(1, 50))
def test_the_same_shares_have_not_moved(counts, times):
    assert psi(counts, counts) == 0.0
    grown = [n * times for n in counts]
    if all(n != 0 for n in counts):  # half a row weighs less among more
        assert psi(counts, grown) == pytest.approx(0.0, abs=1e-12)


@given(COUNTS.filter(any), COUNTS.filter(any))
def test_psi_is_never_negative_and_the_same_both_ways(b, a):
    n = min(len(b), len(a))
    b, a = b[:n], a[:n]
    if sum(b) and sum(a):
        assert psi(b, a) >= -1e-12
        assert psi(b, a) == pytest.approx(psi(a, b))


@given(NUMBERS.filter(len), NUMBERS.filter(len))
def test_every_row_is_in_one_bin_and_the_missing_in_the_last(before, after):
    x, y = np.array(before, float), np.array(after, float)
    b, a = histograms(x, y)
    assert (b.sum(), a.sum()) == (len(x), len(y))
    assert (b[-1], a[-1]) == (np.isnan(x).sum(), np.isnan(y).sum())


@given(NUMBERS.filter(len), NUMBERS.filter(len))
@settings(max_examples=60)
def test_ks_is_that_of_scipy(before, after):
    x, y = np.array(before, float), np.array(after, float)
    known = x[~np.isnan(x)], y[~np.isnan(y)]
    if not all(len(part) for part in known):
        assert math.isnan(ks(x, y))
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the chance of such a statistic, which nobody asks for here
        of_scipy = stats.ks_2samp(*known).statistic
    assert ks(x, y) == pytest.approx(of_scipy)


def test_rare_categories_go_together_and_the_missing_apart():
    before = ["a"] * 5 + [None] * 2 + [f"rare-{n}" for n in range(30)]
    b, a = category_histograms(before, ["a", None])
    assert (b.sum(), a.sum()) == (37, 2)
    assert (b[-1], a[-1]) == (2, 1)
    assert len(b) == 22


def test_what_training_never_saw_is_named_commonest_first():
    share, names = unseen(["a", "b", "b", "c", None], {"a"})
    assert share == pytest.approx(3 / 4)
    assert names == ["b", "c"]
    assert unseen([None], {"a"}) == (0.0, [])


def test_null_rate_counts_none_and_nan():
    assert null_rate([None, float("nan"), 1.0, "x"]) == 0.5
    assert math.isnan(null_rate([]))


def test_where_nothing_moved_hardly_anything_is_said_and_a_planted_shift_always_is():
    """A/A: 300 windows of 500 customers against 2,000, of counts that are mostly 0; planted: half a standard deviation
    and a share of zeros that doubles. The bound is the default, 0.2.
    """
    rng = np.random.default_rng(11)

    def customers(n: int, zeros: float = 0.4, shift: float = 0.0) -> np.ndarray:
        return np.where(rng.random(n) < zeros, 0.0, np.exp(rng.normal(shift, 1.0, n)))

    null = [(psi(*histograms(b := customers(2_000), a := customers(500))), ks(b, a)) for _ in range(300)]
    assert max(moved for moved, _ in null) < 0.1
    assert max(distance for _, distance in null) < 0.2
    shifted = [psi(*histograms(customers(2_000), customers(500, 0.2, 0.5))) for _ in range(50)]
    assert min(shifted) > 0.2
