"""The best offers of many customers are those that each gets alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph
from scipy import sparse

from features.errors import BadInput
from tests.training.builders import factor_scorer, interactions, item_item_scorer, offer, popularity_scorer
from training import batch
from training.batch import top_k
from training.best import CHUNK, best_of_rows
from training.models.item_item import ItemItemSettings
from training.models.item_item import item_item_scorer as fitted
from training.models.matrix import matrix

OFFERS = tuple(offer(f"o{i}", "red" if i % 2 else "blue") for i in range(7))
CUSTOMERS = ["c000", "nobody", "c001", "c000"]
FEATURES = [{"taste": "red"}, {"taste": "red"}, {}, {}]
SCORERS = (factor_scorer(), factor_scorer(repeats=True), item_item_scorer(), popularity_scorer())
ODD = st.sampled_from([0.0, 1.0, -1.0, np.inf, -np.inf])


@settings(deadline=None, max_examples=60)
@given(
    nph.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=ODD | st.floats(-2, 2, width=32)),
    st.integers(1, 9),
)
def test_the_best_of_each_row_are_those_of_a_stable_sort(scores, k):
    k = min(k, scores.shape[1])
    rows, values = np.empty((len(scores), k), np.int32), np.empty((len(scores), k), np.float32)
    best_of_rows(scores, rows, values)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, expected, axis=1))


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.KIND)
@pytest.mark.parametrize("numbers", [1, 15, 1000])
def test_blocks_of_any_size_give_what_each_customer_gets_alone(scorer, numbers, monkeypatch):
    monkeypatch.setattr(batch, "NUMBERS", numbers)
    best = top_k(scorer, CUSTOMERS, FEATURES, OFFERS, 3)
    side = scorer.prepare(OFFERS)
    for at, (customer, features) in enumerate(zip(CUSTOMERS, FEATURES, strict=True)):
        alone = scorer.affinity(customer, features, side)
        expected = np.argsort(-alone, kind="stable")[:3]
        np.testing.assert_allclose(best.scores[at], alone[expected], rtol=1e-5)
        np.testing.assert_array_equal(best.rows[at], expected)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-2, 2), min_size=2 * CHUNK + 3, max_size=2 * CHUNK + 3), st.integers(1, CHUNK + 1))
def test_chunks_that_are_passed_over_held_nothing_better(scores, k):
    many = np.array([scores], np.float32)  # few values, so many ties, also across chunks
    rows, values = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
    best_of_rows(many, rows, values)
    np.testing.assert_array_equal(rows, np.argsort(-many, axis=1, kind="stable")[:, :k])


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("catalogue", ["as trained", "in another order", "some of it", "with new ones"])
def test_item_item_finds_the_best_that_its_scores_say(catalogue, repeats):
    past = interactions(50, 150, 60)
    weights = sparse.random(150, 150, 0.1, "csr", np.float32, 0, data_rvs=lambda n: np.arange(n) % 3 - 1.0)  # with ties
    until_us = int(past.occurred_us[-1]) + 1
    scorer = fitted(past, until_us, matrix(past, until_us, "binary", None), weights, ItemItemSettings(repeats=repeats))
    offers = {
        "as trained": past.offers,
        "in another order": past.offers[::-1],
        "some of it": past.offers[10:110],
        "with new ones": (*(offer(f"new{i}", "odd") for i in range(5)), *past.offers),
    }[catalogue]
    customers, features = [*past.customers, "nobody", "c000"], [*past.profiles, {"taste": "odd"}, {}]
    scores = scorer.many(customers, features, scorer.prepare(offers))
    best = top_k(scorer, customers, features, offers, 70)
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :70]
    np.testing.assert_array_equal(best.rows, expected)
    np.testing.assert_array_equal(best.scores, np.take_along_axis(scores, expected, axis=1))


def test_no_offers_no_customers_and_fewer_offers_than_asked_for():
    scorer = popularity_scorer()
    assert top_k(scorer, CUSTOMERS, FEATURES, (), 3).rows.shape == (4, 0)
    assert top_k(scorer, [], [], OFFERS, 3).rows.shape == (0, 3)
    assert top_k(scorer, CUSTOMERS, FEATURES, OFFERS[:2], 3).rows.shape == (4, 2)


def test_what_does_not_fit_together_is_refused_by_name():
    with pytest.raises(BadInput) as error:
        top_k(popularity_scorer(), CUSTOMERS, FEATURES[:1], OFFERS, 3)
    assert error.value.field == "features"
    with pytest.raises(BadInput) as error:
        top_k(popularity_scorer(), CUSTOMERS, FEATURES, OFFERS, 0)
    assert error.value.field == "k"
