"""Qini, AUUC and effects of shares: by hand, against scikit-uplift, and their laws on ties, counts and weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.uplift.curves import (
    Outcomes,
    alike,
    area,
    auuc,
    band_effect,
    best_order,
    difference,
    order_by,
    qini,
    qini_curve,
    sums,
    uplift_curve,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sklearn.metrics import auc
    from sklift import metrics as sklift

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of scikit-uplift
ROWS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from([-1.0, -0.25, 0.0, 0.0, 0.5, 2.0])), min_size=6, max_size=60
)


def units(rows):
    y, treated, score = (np.array(column) for column in zip(*rows, strict=True))
    return Outcomes(y, treated, np.ones(len(y))), score


def both_arms(of):
    return of.treated.any() and not of.treated.all() and of.y.any() and not of.y.all()


def test_the_difference_of_means_among_the_first_half_by_hand():
    # first half: treated 1 of 2, control 0 of 2 with the outcome; second half: 0 of 2 and 1 of 2
    y = np.array([1, 0, 0, 0, 0, 0, 1, 0], bool)
    treated = np.array([1, 1, 0, 0] * 2, bool)
    s = sums(order_by(-np.arange(8.0)), Outcomes(y, treated, np.ones(8)))
    assert band_effect(s, 0.0, 0.5) == pytest.approx(0.5)
    assert band_effect(s, 0.5, 1.0) == pytest.approx(-0.5)
    assert band_effect(s, 0.0, 1.0) == pytest.approx(0.0)
    assert qini_curve(s)[4] == pytest.approx(1.0)  # one outcome among the treated, none among control


@given(ROWS)
def test_curves_and_coefficients_are_those_of_scikit_uplift(rows):
    of, score = units(rows)
    if not both_arms(of):
        return
    s, y, t = sums(order_by(score), of), of.y.astype(int), of.treated.astype(int)
    x, expected = sklift.qini_curve(y, score, t)
    np.testing.assert_allclose(s.n, x)
    np.testing.assert_allclose(qini_curve(s), expected, atol=1e-12)
    x, expected = sklift.uplift_curve(y, score, t)
    np.testing.assert_allclose(uplift_curve(s), expected, atol=1e-12)
    assert auuc(s) == pytest.approx(auc(x, expected) / len(y) ** 2)
    found = qini(s, sums(best_order(of), of))
    if np.isfinite(found):
        assert found == pytest.approx(sklift.qini_auc_score(y, score, t), abs=1e-9)


def test_the_effect_of_the_first_share_is_scikit_uplifts_without_ties():
    rng = np.random.default_rng(0)
    y, treated, score = rng.random(1000) < 0.3, rng.random(1000) < 0.5, rng.random(1000)
    s = sums(order_by(score), Outcomes(y, treated, np.ones(1000)))
    expected = sklift.uplift_at_k(y.astype(int), score, treated.astype(int), strategy="overall", k=0.3)
    assert band_effect(s, 0.0, 0.3) == pytest.approx(expected)


@given(ROWS, st.floats(0.05, 1.0))
def test_a_score_that_is_the_same_for_all_gives_every_share_the_effect_on_all(rows, share):
    of, _ = units(rows)
    s = sums(order_by(np.zeros(len(of.y))), of)
    if both_arms(of):
        assert band_effect(s, 0.0, share) == pytest.approx(float(difference(s)[-1]))
        assert area(s.n, qini_curve(s)) == pytest.approx(s.n[-1] * qini_curve(s)[-1] / 2)


@given(ROWS, st.data())
def test_counts_are_repeated_rows(rows, data):
    of, score = units(rows)
    n = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))))
    if not n.sum():
        return
    counted = sums(order_by(score), of, n.astype(float))
    again = np.repeat(np.arange(len(rows)), n)
    repeated = sums(order_by(score[again]), Outcomes(of.y[again], of.treated[again], np.ones(len(again))))
    at = [0.0, 0.3, 0.77, 1.0]
    np.testing.assert_allclose(counted.at(at).y_treated, repeated.at(at).y_treated, atol=1e-9)
    np.testing.assert_allclose(counted.at(at).n_control, repeated.at(at).n_control, atol=1e-9)


@given(ROWS)
def test_the_order_of_the_rows_changes_nothing(rows):
    of, score = units(rows)
    back = Outcomes(of.y[::-1], of.treated[::-1], of.weight[::-1])
    at = np.linspace(0, 1, 7)
    one, other = sums(order_by(score), of).at(at), sums(order_by(score[::-1]), back).at(at)
    np.testing.assert_allclose(one.y_treated, other.y_treated, atol=1e-9)
    np.testing.assert_allclose(one.n_control, other.n_control, atol=1e-9)


def test_one_propensity_for_all_weighs_everybody_once():
    treated = np.array([True, False, False, False])
    np.testing.assert_allclose(alike(treated, treated, np.full(4, 0.25)).weight, 1.0)


def test_weights_undo_that_some_were_treated_more_often():
    # Planted: those who are at risk stay in .2 of the cases, others in .8, treated or not; at risk are treated in .8 of
    # the cases, others in .2. Without weights the effect is -.36; with them it is 0.
    rng = np.random.default_rng(0)
    n = 200_000
    at_risk = rng.random(n) < 0.5
    e = np.where(at_risk, 0.8, 0.2)
    treated, y = rng.random(n) < e, rng.random(n) < np.where(at_risk, 0.2, 0.8)
    order = order_by(np.zeros(n))
    assert band_effect(sums(order, Outcomes(y, treated, np.ones(n))), 0, 1) == pytest.approx(-0.36, abs=0.01)
    assert band_effect(sums(order, alike(y, treated, e)), 0, 1) == pytest.approx(0.0, abs=0.01)
