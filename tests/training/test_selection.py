"""Learning from what a policy chose to show, where the policy knew more than the model does; the truth is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.data_settings import Acceptance
from tests.training.planted_choices import (
    AT_REST,
    EPSILON,
    FEATURES,
    IN_THE_MOOD,
    OFFERS,
    SEEN,
    cross_entropy,
    planted,
)
from training.choices import MOST_WEIGHT, effective_size, selection_weights
from training.models.acceptance import learn_acceptance
from training.scorers import AcceptanceScorer

ON_AVERAGE = (AT_REST + IN_THE_MOOD) / 2
CONTEXT = {"channel": "web", "placement_id": "hero", "hour": 12, "weekday": 1}


def learnt(table, split, **settings):
    return learn_acceptance(FEATURES, OFFERS, table, split, 0, Acceptance(**settings))


def served(fit):
    scorer = AcceptanceScorer("", fit.classifier, fit.spread)
    side = scorer.prepare(OFFERS, {}, 0)
    return scorer.p_accept({"age": 40.0}, CONTEXT, np.zeros(3, np.float32), side)


def naive_rate():
    """Acceptance of the first offer among those whom the policy showed it: its mood is not that of all."""
    in_the_mood, at_rest = 0.5 * (1 - EPSILON + EPSILON / 3), 0.5 * EPSILON / 3
    return (in_the_mood * IN_THE_MOOD[0] + at_rest * AT_REST[0]) / (in_the_mood + at_rest)


@pytest.fixture(scope="module", autouse=True)
def without_spread():
    """What is fitted for the spread costs most of the time, and changes nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.models.acceptance.fit_spread", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def biased():
    return planted()


@pytest.fixture(scope="module")
def fit(biased):
    table, split, _ = biased
    return learnt(table, split)


def test_weights_find_what_all_customers_would_do_and_counting_does_not(fit, biased):
    table, split, _ = biased
    np.testing.assert_allclose(served(fit), ON_AVERAGE, atol=0.05)
    naive = served(learnt(table, split, weights="never"))
    assert naive[0] == pytest.approx(naive_rate(), abs=0.05)
    assert naive_rate() > ON_AVERAGE[0] + 0.15


def test_on_the_random_share_weights_win_by_the_planted_amount(fit):
    """One in three of what is drawn at random is the first offer, of which the naive model says too much."""
    planted_gain = (cross_entropy(ON_AVERAGE[0], naive_rate()) - cross_entropy(ON_AVERAGE[0], ON_AVERAGE[0])) / 3
    found = fit.tables["random_share"].set_index("impressions count")
    assert found.loc["by weight", "serves"]
    assert found.loc["gain, low", "log_loss"] > 0
    assert found.loc["gain, estimate", "log_loss"] == pytest.approx(planted_gain, abs=0.02)
    assert planted_gain > 0.01
    assert any("drawn at random, weights lower the log loss" in note for note in fit.notes)


def test_where_no_chance_is_logged_the_report_says_so(biased):
    table, split, _ = planted(4_000, logged=False)
    fit = learnt(table, split)
    assert any("No chance of having been shown is logged" in note for note in fit.notes)
    assert "random_share" not in fit.tables


def test_where_the_policy_knows_nothing_more_both_ways_agree():
    table, split, _ = planted(12_000, seed=4)
    by_lot = np.random.default_rng(0).random(len(table.y)) < ON_AVERAGE[[OFFERS.index(o) for o in table.offers]]
    fit = learnt(replace(table, y=by_lot), split)
    gain = fit.tables["random_share"].set_index("impressions count")["log_loss"]
    assert gain["gain, low"] < 0.01
    assert gain["gain, high"] > -0.01


def test_a_served_probability_is_that_of_the_top_position():
    table, split, _ = planted(16_000, positions=True)
    fit = learnt(table, split)
    assert "context.position" not in [column.name for column in fit.classifier.encoder.columns]
    np.testing.assert_allclose(served(fit), ON_AVERAGE, atol=0.06)
    counted = np.average(SEEN) * ON_AVERAGE
    assert (served(fit)[1:] > counted[1:] + 0.03).all()  # what a model that does not know positions would say
    assert set(fit.slices.loc[fit.slices["slice"] == "position", "value"]) == {"1", "2", "3"}


CHANCES = st.lists(st.sampled_from([np.nan, 0.0, 1e-9, 0.01, 0.5, 1.0]) | st.floats(0.001, 1), min_size=1, max_size=60)


@given(CHANCES)
def test_weights_are_positive_bounded_and_one_where_nothing_is_logged(chances):
    chance = np.array(chances)
    w = selection_weights(chance, np.arange(len(chance)) % 3)
    assert ((w > 0) & (w <= MOST_WEIGHT)).all()
    assert (w[~(chance > 0)] == 1.0).all()
    assert 0 < effective_size(w) <= len(w) * (1 + 1e-9)


def test_weights_by_hand():
    """1 / chance is 2 and 4 for the first offer, mean 3; the other offer was always shown."""
    w = selection_weights(np.array([0.5, 0.25, 1.0]), np.array([0, 0, 1]))
    np.testing.assert_allclose(w, [2 / 3, 4 / 3, 1.0])
    assert effective_size(w) == pytest.approx(9 / (4 / 9 + 16 / 9 + 1))
