"""Boundaries and error rates of group-sequential tests against published tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics.group_sequential import boundaries, crossing, inflation, planned_drift, spent
from features.errors import BadInput


def equal(n_looks):
    return tuple((np.arange(n_looks) + 1) / n_looks)


@pytest.mark.parametrize(
    ("n_looks", "published"),
    [
        (2, [2.9626, 1.9686]),
        (3, [3.7103, 2.5114, 1.9930]),
        (5, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_boundaries_are_those_of_gsdesign_and_rpact(n_looks, published):
    """gsDesign, sfLDOF, one-sided 0.025; rpact's asOF gives the same; Reboussin et al. 2000 for five looks."""
    assert boundaries(equal(n_looks)) == pytest.approx(published, abs=2e-4)


@pytest.mark.parametrize(("n_looks", "published"), [(1, 0.05), (2, 0.083), (5, 0.142), (10, 0.193), (20, 0.248)])
def test_looking_often_with_a_fixed_bound_errs_as_published(n_looks, published):
    """Armitage, McPherson and Rowe 1969; Jennison and Turnbull 2000, table 2.1."""
    assert crossing(equal(n_looks), [1.959964] * n_looks)[-1] == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize(("n_looks", "constant"), [(2, 2.178), (5, 2.413), (10, 2.555), (20, 2.672)])
def test_pococks_constants_spend_five_percent(n_looks, constant):
    """Jennison and Turnbull 2000, table 2.1."""
    assert crossing(equal(n_looks), [constant] * n_looks)[-1] == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(("n_looks", "constant"), [(2, 1.977), (5, 2.040), (10, 2.087), (20, 2.126)])
def test_obrien_and_flemings_constants_spend_five_percent(n_looks, constant):
    """Jennison and Turnbull 2000, table 2.3."""
    bounds = constant / np.sqrt(equal(n_looks))
    assert crossing(equal(n_looks), bounds)[-1] == pytest.approx(0.05, abs=1.5e-4)


def test_obrien_and_fleming_with_five_looks_needs_28_per_mille_more_units():
    """Jennison and Turnbull 2000, table 2.4: R_B(5, 0.05, 0.2) = 1.028."""
    bounds = 2.040 / np.sqrt(equal(5))
    assert crossing(equal(5), bounds, planned_drift() * math.sqrt(1.028))[-1] == pytest.approx(0.8, abs=1e-3)


def test_one_look_is_the_fixed_test():
    assert boundaries([1.0]) == pytest.approx([1.959964])
    assert inflation(1) == pytest.approx(1.0, abs=1e-4)
    assert spent(1.0, 0.05) == pytest.approx(0.05)


def test_looks_cost_a_few_percent_of_units():
    assert 1.0 < inflation(5) < inflation(20) < 1.06


def test_boundaries_do_not_depend_on_looks_to_come():
    assert boundaries([0.3, 0.5]) == pytest.approx(boundaries([0.3, 0.5, 0.8, 1.0])[:2])


def test_after_the_plan_nothing_is_left_to_spend():
    bounds = boundaries([0.5, 1.1, 1.3])
    assert math.isinf(bounds[2])
    assert crossing([0.5, 1.1], bounds[:2])[-1] == pytest.approx(0.05)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=30),
    st.sampled_from([0.001, 0.01, 0.05, 0.2]),
)
def test_whenever_one_looks_alpha_is_spent_and_no_more(steps, alpha):
    fractions = tuple(np.cumsum(steps) / np.sum(steps))
    bounds = boundaries(fractions, alpha)
    chances = crossing(fractions, bounds)
    assert chances[-1] == pytest.approx(alpha, rel=1e-6)
    assert (chances <= spent(fractions, alpha) + 1e-9).all()


@pytest.mark.parametrize("fractions", [[0.0, 1.0], [0.5, 0.5], [0.5, 0.4], [math.nan]])
def test_information_must_grow(fractions):
    with pytest.raises(BadInput, match="increase from look to look"):
        boundaries(fractions)


def test_alpha_must_be_a_chance():
    with pytest.raises(BadInput, match="expected between 0 and 1"):
        boundaries([1.0], alpha=0.0)
