"""Splits, metrics, calibration and the learners on data with a planted truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from features.data_settings import Churn
from features.events import US_PER_DAY
from tests.training.builders import START_US, interactions
from training.calibration import choose_calibration
from training.dataset import snapshot_instants
from training.evaluate import auc, brier, ece, log_loss, verdict
from training.evaluation import mean_interval
from training.models.classifiers import Part, fit_logistic, fit_trees
from training.models.lightfm import LightfmSettings, fit_lightfm
from training.models.recipes import Recipe
from training.scorers import logistic, scorer_files
from training.split import Split, held_out, split_instants, split_with_gap
from training.steps.acceptance import stacked_affinity
from training.steps.inputs import thinned

DAY = US_PER_DAY


def test_the_test_part_is_the_last_whole_days_and_no_earlier_outcome_was_open_when_it_began():
    us = START_US + np.repeat(np.arange(10), 10) * DAY + np.tile(np.arange(10), 10)
    names = [f"c{i}" for i in range(100)]
    split = split_with_gap(us, us + 3 * DAY, names, share=0.15)
    assert split is not None
    assert split.test.sum() == 20
    assert us[split.test].min() == split.test_from_us == START_US + 8 * DAY
    earlier = split.train | split.validation
    assert earlier.sum() == 51  # days 0 to 4, and the first row of day 5, whose window ends as the test begins
    assert (us[earlier] + 3 * DAY <= split.test_from_us).all()
    assert not (split.train & split.validation).any()
    np.testing.assert_array_equal(split.validation[earlier], held_out(names)[earlier])


def test_one_day_cannot_be_split():
    assert split_with_gap(np.array([START_US, START_US + 1]), np.array([START_US, START_US + 1]), ["a", "b"]) is None


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 10))
def test_no_earlier_label_reaches_into_the_test_part(n, every, ahead):
    earlier, test = split_instants([t * every * DAY for t in range(n)], ahead * DAY)
    assert bool(test) == (n > 0)
    if earlier:
        assert max(earlier) + ahead * DAY <= min(test)


def test_the_same_customers_are_held_out_every_time():
    names = [f"c{i}" for i in range(4000)]
    assert held_out(names).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_array_equal(held_out(names)[:10], held_out(names[:10]))


def test_snapshot_instants_are_midnights_whose_label_is_known():
    rules = Churn(gap_days=1, horizon_days=6, every_days=5)
    found = snapshot_instants(START_US, START_US + 20 * DAY + 5, rules)
    assert [(t - START_US) // DAY for t in found] == [3, 8, 13]
    assert all(t % DAY == 0 for t in found)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.3, 0.3001, 0.9])), min_size=2, max_size=50))
def test_metrics_agree_with_sklearn_also_on_ties(rows):
    y, p = np.array([a for a, _ in rows]), np.array([b for _, b in rows])
    w = np.ones(len(y))
    if 0 < y.sum() < len(y):
        assert auc(y, p, w) == pytest.approx(roc_auc_score(y, p))
        assert log_loss(y, p, w) == pytest.approx(sklearn_log_loss(y, p))
        assert brier(y, p, w) == pytest.approx(brier_score_loss(y, p))


def test_weights_count_as_repeated_rows():
    rng = np.random.default_rng(0)
    y, p, w = rng.random(60) < 0.4, rng.random(60).round(1), rng.integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), w)
    for metric in (auc, log_loss, brier):
        assert metric(y, p, w.astype(float)) == pytest.approx(metric(y[repeated], p[repeated], np.ones(w.sum())))


def test_ece_is_the_gap_of_a_constant_forecast():
    assert ece(np.array([True, False] * 50), np.full(100, 0.7), np.ones(100)) == pytest.approx(0.2)


def test_calibration_is_kept_only_where_it_helps():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=4000)
    y = rng.random(4000) < logistic(truth)
    customers = np.arange(4000)
    assert choose_calibration(truth, y, customers)[0].kind == "none"
    fitted, losses = choose_calibration(truth * 3 + 1, y, customers)
    assert fitted.kind != "none"
    assert losses[fitted.kind] < losses["none"]


def test_a_gain_whose_interval_holds_zero_is_undecided():
    rng = np.random.default_rng(0)
    assert verdict(mean_interval(np.array([1.0, 1.1, 0.9] * 10), rng)) == "beats"
    assert verdict(mean_interval(np.array([-1.0, 1.0] * 10), rng)) == "undecided"
    assert verdict(mean_interval(np.array([-1.0, -1.1] * 10), rng)) == "lost"


def test_logistic_as_arrays_says_what_sklearn_says_on_dense_columns():
    from tests.training.builders import encoder

    rng = np.random.default_rng(0)
    columns = encoder()
    rows = rng.normal(size=(800, len(columns.columns)))
    for at in columns.categorical:
        rows[:, at] = rng.integers(0, len(columns.columns[at].values), 800)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    y = np.nan_to_num(rows[:, 0]) + rng.normal(size=800) > 0
    model = fit_logistic(columns, Part(rows, y), 1.0)
    p = logistic(model.raw(rows))
    assert roc_auc_score(y, p) > 0.75
    assert p.mean() == pytest.approx(y.mean(), abs=1e-3)  # a logistic regression with an intercept meets the rate


def test_trees_stop_at_the_lowest_validation_loss():
    from tests.training.builders import encoder

    rng = np.random.default_rng(0)
    columns = encoder()
    rows = rng.normal(size=(900, len(columns.columns)))
    for at in columns.categorical:
        rows[:, at] = rng.integers(0, len(columns.columns[at].values), 900)
    y = rows[:, 0] + rng.normal(size=900) > 0
    from training.models.classifiers import TreeSettings

    fit = fit_trees(columns, Part(rows[:600], y[:600]), Part(rows[600:], y[600:]), TreeSettings(patience=5), 0)
    assert fit.curve[fit.n_trees] == min(fit.curve)
    validation = log_loss(y[600:], logistic(fit.forest.raw(rows[600:])), np.ones(300))
    assert validation == pytest.approx(min(fit.curve), rel=1e-6)


# Recommender

SMALL = LightfmSettings(n_factors=8, max_epochs=15)


@pytest.fixture(scope="module")
def past():
    return interactions()


@pytest.fixture(scope="module")
def tastes(past):
    return fit_lightfm(past, int(past.occurred_us[-1]) + 1, SMALL, 0, repeats=True, epochs=15).scorer


def test_lightfm_learns_the_planted_tastes(past, tastes):
    side = tastes.prepare(past.offers)
    for customer in range(10):
        scores = tastes.affinity(past.customers[customer], past.profiles[customer], side)
        assert scores[customer % 2 :: 2].mean() > scores[1 - customer % 2 :: 2].mean()


def test_customers_and_offers_never_seen_are_scored_from_their_attributes(past, tastes):
    from tests.training.builders import offer

    side = tastes.prepare((offer("new-even", "even"), offer("new-odd", "odd")))
    even = tastes.affinity("stranger", {"taste": "even"}, side)
    odd = tastes.affinity("stranger", {"taste": "odd"}, side)
    assert even[0] - even[1] > odd[0] - odd[1]


def test_the_same_seed_and_data_give_the_same_bytes(past, tastes):
    again = fit_lightfm(past, int(past.occurred_us[-1]) + 1, SMALL, 0, repeats=True, epochs=15).scorer
    assert scorer_files(again) == scorer_files(tastes)


# Affinity for the acceptance model


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 3))
def test_affinity_of_an_impression_knows_nothing_from_its_block_on(which):
    log = interactions(n_customers=20, n_days=40)
    us = START_US + np.arange(40) * DAY + 5
    rows = pd.DataFrame(
        {"customer_id": [f"c{i % 20:03}" for i in range(40)], "offer_id": ["o00", "o03"] * 20, "us": us}
    )
    nobody = np.zeros(len(us), bool)
    split = Split(us < START_US + 30 * DAY, nobody, us >= START_US + 30 * DAY, START_US + 30 * DAY)
    recipe = Recipe("lightfm", {"n_factors": 4, "max_epochs": 2, "repeats": True})
    found = stacked_affinity(rows, log, lambda names, us: [{}] * len(names), recipe, split)
    cut = [0, 10, 20, 30][which]
    later = log.occurred_us >= START_US + cut * DAY
    changed = replace(log, offer=np.where(later, 11 - log.offer, log.offer).astype(np.int32))
    again = stacked_affinity(rows, changed, lambda names, us: [{}] * len(names), recipe, split)
    unchanged = us < START_US + (cut + 1) * DAY
    np.testing.assert_array_equal(found[unchanged], again[unchanged])
    if cut >= 20:
        assert not np.array_equal(found, again, equal_nan=True) or cut == 30
        assert np.isfinite(found[us >= START_US + 20 * DAY]).all()


@given(st.integers(0, 100), st.integers(1, 50))
def test_thinning_keeps_order_and_at_most_the_limit(n, at_most):
    kept = thinned(n, at_most)
    assert len(kept) == min(n, at_most)
    assert (np.diff(kept) > 0).all()
    assert not len(kept) or kept.max() < n
