"""How unsure a fitted acceptance model is: what it says holds against a planted truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.definitions import feature_set
from features.errors import BrokenRelease
from features.events import US_PER_DAY
from features.live import Instant, feature_table
from tests.training.builders import START_US, acceptance_scorer, offer
from training.models.acceptance import AcceptanceTable, learn_acceptance
from training.scorers import AcceptanceScorer, logistic, read_scorer, scorer_files
from training.scorers.acceptance import LARGEST_SPREAD, SMALLEST_SPREAD
from training.split import split_with_gap
from training.uncertainty import HeldOut, permitted_error

FEATURES = feature_set((1, 7), {"age": "number"})
OFFERS = (offer("often"), offer("seldom"))
CONTEXT = {"channel": "x", "placement_id": "x", "hour": 12, "weekday": 1}
AGES = np.linspace(22, 58, 25)


def truth(age, seldom):
    """Log-odds, smooth in the age; the second offer is taken less."""
    return 0.06 * (age - 40) - 0.8 - 0.7 * seldom


def learnt(n, seed=0):
    """The second offer is shown one time in twelve."""
    rng = np.random.default_rng(seed)
    age, seldom = rng.uniform(20, 60, n), rng.random(n) < 1 / 12
    us = START_US + np.sort(rng.integers(0, 40, n)) * US_PER_DAY
    instants = [Instant(None, (), (a,), int(t)) for a, t in zip(age.tolist(), us.tolist(), strict=True)]
    nobody = [Instant(None, (), (), int(t)) for t in us.tolist()]
    table = AcceptanceTable(
        customers=[f"c{i}" for i in range(n)],
        offers=[OFFERS[int(i)] for i in seldom],
        us=us,
        customer_features=pd.DataFrame(feature_table(FEATURES, "customer", instants)),
        offer_features=pd.DataFrame(feature_table(FEATURES, "offer", nobody)),
        context={**{k: np.full(n, v, object) for k, v in CONTEXT.items() if k in ("channel", "placement_id")},
                 "hour": np.full(n, 12.0), "weekday": np.full(n, 1.0)},
        affinity=None,
        is_new=np.zeros(n, bool),
        y=rng.random(n) < logistic(truth(age, seldom)),
    )  # fmt: skip
    fit = learn_acceptance(FEATURES, OFFERS, table, split_with_gap(us, us + US_PER_DAY, list(table.customers)), seed)
    return AcceptanceScorer("", fit.classifier, fit.spread)


def asked(scorer):
    """(spread, low, high), each (n_ages, n_offers)."""
    side, none = scorer.prepare(OFFERS, {}, 0), np.zeros(2, np.float32)
    rows = [(scorer.spread({"age": a}, CONTEXT, none, side), *scorer.between({"age": a}, CONTEXT, none, side))
            for a in AGES.tolist()]  # fmt: skip
    return tuple(np.array(one) for one in zip(*rows, strict=True))


@pytest.fixture(scope="module")
def small():
    return learnt(3_000)


def test_intervals_hold_the_planted_probability_about_as_often_as_they_say(small):
    """Two fits of 25 ages and 2 offers; without what held-out rows permit it was .88 and .74."""
    held = []
    for scorer in (small, learnt(3_000, 1)):
        _, low, high = asked(scorer)
        p = logistic(truth(AGES[:, None], np.array([0.0, 1.0])))
        held.append(((low <= p) & (p <= high)).mean())
    assert np.mean(held) >= 0.95


def held_out(n, off, seed=0, copies=1):
    """Rows whose log-odds are `off` too high in the upper half, each as often as `copies` says, by one customer."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    y = rng.random(n) < logistic(z)
    p = logistic(z + np.where(z > 0, off, 0.0))
    return HeldOut(np.repeat(p, copies), np.repeat(y, copies), np.repeat(np.arange(n), copies))


def test_an_error_that_held_out_rows_show_is_permitted_and_one_that_they_rule_out_is_not():
    assert permitted_error([held_out(20_000, 0.5)]) == pytest.approx(0.5 / np.sqrt(2), abs=0.08)  # of half the rows
    right = [permitted_error([held_out(n, 0.0)] * 2) for n in (500, 20_000)]
    assert right[1] < 0.08 < right[0]
    assert permitted_error([]) == 0.0


def test_many_rows_of_few_customers_rule_out_no_more_than_one_row_of_each():
    alone = permitted_error([held_out(1_000, 0.0, seed=2)])
    copied = permitted_error([held_out(1_000, 0.0, seed=2, copies=8)])
    assert copied == pytest.approx(alone, rel=0.1)


def test_what_was_seldom_shown_is_less_sure_to_a_logistic_regression():
    """Trees shrink an offer of few impressions towards the others, and are as sure of it: the docs say so."""
    linear = learnt(3_000, 1)
    assert linear.classifier.kind == "linear"
    spread, _, _ = asked(linear)
    assert np.median(spread[:, 1]) > 1.3 * np.median(spread[:, 0])
    assert ((spread >= SMALLEST_SPREAD) & (spread <= LARGEST_SPREAD)).all()


def test_more_impressions_make_it_surer(small):
    assert np.median(asked(learnt(10_000))[0]) < 0.85 * np.median(asked(small)[0])


def test_the_spread_is_the_same_after_a_round_trip(small):
    files = scorer_files(small)
    again = read_scorer(files, "", ())
    np.testing.assert_array_equal(asked(again)[0], asked(small)[0])
    assert scorer_files(again) == files


def test_a_spread_that_reads_a_column_beyond_the_encoder_is_refused(small):
    column = small.doubt.column.copy()
    column[0] = 99
    with pytest.raises(BrokenRelease, match="the spread reads column 99"):
        read_scorer(scorer_files(replace(small, doubt=replace(small.doubt, column=column))), "", ())


def test_a_release_without_spread_says_zero():
    scorer = acceptance_scorer()
    side, none = scorer.prepare(OFFERS, {}, 0), np.zeros(2, np.float32)
    assert scorer.spread({}, CONTEXT, none, side).tolist() == [0.0, 0.0]
    low, high = scorer.between({}, CONTEXT, none, side)
    np.testing.assert_array_equal(low, high)
