"""Cells hold the moments of their units, and merging cells is the same as pooling the units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cells import NUMBERS, cell_of, cells_of, merge


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_the_moments_are_numpys(rng):
    num, den, pre, pre_den = rng.normal(5, 2, (4, 50))
    (cell,) = cells_of("m", ["a"] * 50, num, den, pre, pre_den)
    assert cell.n == 50
    assert cell.mean_num == pytest.approx(num.mean())
    assert cell.var_pre_num == pytest.approx(pre.var(ddof=1))
    assert cell.cov_num_den == pytest.approx(np.cov(num, den)[0, 1])
    assert cell.cov("pre_den", "den") == pytest.approx(np.cov(den, pre_den)[0, 1])


def test_without_denominator_and_pre_period_there_is_a_one_and_nothing(rng):
    (cell,) = cells_of("m", ["a"] * 3, [1.0, 2.0, 6.0])
    assert (cell.mean_num, cell.var_num) == (3.0, 7.0)  # hand calculation: (4 + 1 + 9) / 2
    assert (cell.mean_den, cell.var_den, cell.cov_num_den) == (1.0, 0.0, 0.0)
    assert not cell.has_pre
    assert math.isnan(cell.cov_num_pre_num)


def test_one_unit_has_no_variance_but_is_counted():
    (cell,) = cells_of("m", ["a"], [4.0], pre_num=[2.0])
    assert (cell.n, cell.mean_num, cell.var_num, cell.cov_num_pre_num) == (1, 4.0, 0.0, 0.0)


def test_there_is_a_cell_for_everybody_and_one_for_each_value_of_each_segment():
    cells = cells_of("m", ["a", "a", "b"], [1, 2, 3], segments={"tier": ["x", "y", "x"]}, phase=[1, 2, 2])
    assert [(c.variant, c.phase, c.segment, c.mean_num) for c in cells] == [
        ("a", 1, None, 1.0),
        ("a", 2, None, 2.0),
        ("b", 2, None, 3.0),
        ("a", 1, ("tier", "x"), 1.0),
        ("a", 2, ("tier", "y"), 2.0),
        ("b", 2, ("tier", "x"), 3.0),
    ]


def test_days_make_cells_of_their_own():
    cells = cells_of("m", ["a", "a", "a"], [1, 2, 5], day=[0, 1, 1])
    assert [(c.day_since_exposure, c.n, c.mean_num) for c in cells] == [(0, 1, 1.0), (1, 2, 3.5)]


def test_different_metrics_or_variants_are_not_merged():
    with pytest.raises(ValueError, match="different metrics or variants"):
        merge(cells_of("m", ["a", "b"], [1, 2]))
    with pytest.raises(ValueError, match="no cells"):
        merge([])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e6]))
def test_merging_is_pooling(sizes, seed, offset):
    rows = offset + np.random.default_rng(seed).normal(0, 1, (4, sum(sizes)))
    parts = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    merged, pooled = merge(cell_of("m", "a", part) for part in parts), cell_of("m", "a", rows)
    assert merged.n == pooled.n
    for left in NUMBERS:
        assert merged.mean(left) == pytest.approx(pooled.mean(left))
        for right in NUMBERS:
            assert merged.cov(left, right) == pytest.approx(pooled.cov(left, right), rel=1e-6, abs=1e-6)


def test_units_without_a_denominator_are_counted_apart_and_added_when_merged():
    few, all_of = (cells_of("m", ["a"] * 4, [1.0] * 4, den)[0] for den in ([0.0, 1.0, 0.0, 2.0], [1.0] * 4))
    assert (few.n, few.n_den, few.n_informative) == (4, 2, 2)
    assert (all_of.n_den, all_of.n_informative) == (None, 4)
    assert merge([few, all_of]).n_informative == 6
