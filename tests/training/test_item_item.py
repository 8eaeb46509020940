"""Item–item weights against their formulas written out densely, and what stands in for what nobody knows."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from features.errors import BadInput
from features.events import US_PER_DAY
from tests.training.builders import START_US, interactions, offer
from training.models.als import ALS, AlsSettings, _factors
from training.models.ease import EASE, ease_weights
from training.models.item_item import strongest
from training.models.item_knn import knn_weights
from training.models.matrix import matrix
from training.models.rp3beta import rp3beta_weights
from training.models.side_information import (
    customer_map,
    described_customers,
    described_offers,
    like_offers,
    token_map,
)
from training.scorers.like import described as fields_of

PAST = interactions(40, 12, 60)
UNTIL = int(PAST.occurred_us[-1]) + 1
TAKEN = matrix(PAST, UNTIL, "log", 30.0).taken
DENSE = TAKEN.toarray().astype(np.float64)


def test_ease_is_its_closed_form():
    inverse = np.linalg.inv(DENSE.T @ DENSE + 7.0 * np.eye(12))
    expected = -inverse / np.diag(inverse)[None, :]  # Steck (2019), equation 8
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(ease_weights(TAKEN, 7.0, 12).toarray(), expected, rtol=1e-4, atol=1e-7)


def test_item_knn_is_the_cosine_of_sklearn():
    expected = cosine_similarity(DENSE.T)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(knn_weights(TAKEN, 0.0, 0.5, 12).toarray(), expected, rtol=1e-4)


def test_item_knn_shrinks_and_leans_as_written():
    length = (DENSE**2).sum(axis=0)
    expected = (DENSE.T @ DENSE) / (np.outer(length**0.8, length**0.2) + 3.0)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(knn_weights(TAKEN, 3.0, 0.8, 12).toarray(), expected, rtol=1e-4)


def test_rp3beta_is_a_walk_of_three_steps():
    to_offer = (DENSE / DENSE.sum(axis=1, keepdims=True)) ** 0.7
    to_customer = (DENSE.T / DENSE.T.sum(axis=1, keepdims=True)) ** 0.7
    expected = to_customer @ to_offer / DENSE.sum(axis=0) ** 0.4
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(rp3beta_weights(TAKEN, 0.7, 0.4, 12).toarray(), expected, rtol=1e-4)


def test_als_scores_known_customers_and_offers_as_implicit_does():
    settings_of = AlsSettings(n_factors=6, iterations=3)
    scorer = ALS.fit(PAST, UNTIL, {"n_factors": 6, "iterations": 3, "repeats": True}, 4)
    active, taken = matrix(PAST, UNTIL, settings_of.weighting, settings_of.half_life_days)
    customers, offers = _factors(taken, settings_of, 4)
    side = scorer.prepare(PAST.offers)
    for at, row in enumerate(active[:5].tolist()):
        found = scorer.affinity(PAST.customers[row], PAST.profiles[row], side)
        np.testing.assert_allclose(found, customers[at] @ offers.T, rtol=1e-3, atol=1e-4)


@settings(max_examples=50)
@given(nph.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(6)), elements=st.integers(-9, 9).map(float)))
def test_the_strongest_weights_of_each_column_are_kept_for_and_against(block):
    found = strongest([block], 6, 2).toarray().T[: len(block)]
    for row, kept in zip(block, found, strict=True):
        least = np.sort(np.abs(row))[-2]
        np.testing.assert_array_equal(kept, np.where(np.abs(row) >= least, row, 0.0))


def test_weights_fade_by_half_lives_as_calculated_by_hand():
    past = replace(PAST, offers=PAST.offers[:2]).part(np.arange(len(PAST)) < 3)
    days = np.array([0, 30, 60])
    past = replace(
        past, customer=np.array([1, 1, 3], np.int32), offer=np.array([0, 0, 1], np.int32),
        occurred_us=START_US + days * US_PER_DAY,
    )  # fmt: skip
    until = START_US + 60 * US_PER_DAY
    active, binary = matrix(past, until, "binary", 30.0)
    np.testing.assert_array_equal(active, [1, 3])
    np.testing.assert_allclose(binary.toarray(), [[0.5, 0.0], [0.0, 1.0]])  # the last time was a half-life ago
    np.testing.assert_allclose(matrix(past, until, "log", 30.0).taken.toarray()[0, 0], np.log1p(0.75))
    np.testing.assert_allclose(matrix(past, until, "log", None).taken.toarray()[0, 0], np.log(3.0))


@pytest.mark.parametrize(("name", "value"), [("l2", 0.0), ("l2", float("nan")), ("n_neighbours", -1), ("unseen", -0.1)])
def test_a_setting_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(BadInput) as error:
        EASE.fit(PAST, UNTIL, {name: value}, 0)
    assert error.value.field == name


# Side information


def test_a_token_map_is_the_ridge_regression_of_sklearn():
    profiles = [{"taste": f"t{row % 3}", "age": float(row % 7)} for row in range(40)]
    customers = described_customers(profiles)
    rng = np.random.default_rng(0)
    targets, weight = rng.normal(size=(40, 5)), rng.random(40)
    found = token_map(customers, targets, 2.0, weight)
    tokens = customers.of.toarray()
    ridge = Ridge(alpha=2.0).fit(tokens, targets, sample_weight=weight)
    np.testing.assert_allclose(found.mean + tokens @ found.token, ridge.predict(tokens), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.mean, weight @ targets / weight.sum(), rtol=1e-4)


def test_attributes_are_used_where_customers_held_out_are_ranked_better_and_left_out_where_not():
    past = interactions(200, 12, 60)
    active, taken = matrix(past, int(past.occurred_us[-1]) + 1, "binary", None)
    telling = described_customers([past.profiles[row] for row in active])
    assert np.abs(customer_map(telling, taken, taken).token).max() > 0.1
    rng = np.random.default_rng(0)
    saying_nothing = described_customers([{"luck": float(rng.integers(0, 2))} for _ in active])
    assert saying_nothing.tokens.n_tokens
    assert np.abs(customer_map(saying_nothing, taken, taken).token).max() == 0.0


def test_offers_described_alike_are_found_by_rare_words_before_common_ones():
    names = ["red tea pot", "blue tea pot", "red tea towel", "green umbrella", "red umbrella"]
    offers = tuple(replaced(offer(f"o{at}"), name) for at, name in enumerate(names))
    like = like_offers(offers, np.array([True, True, True, True, False]), 2)
    wanted = {**described("a big blue pot"), "category": None}
    found = like.like([wanted, None, described("wholly other")])
    np.testing.assert_array_equal(found.start, [0, 2, 2, 2])
    # blue and pot: both of o1; pot alone: o0, the smaller part of its own words
    np.testing.assert_array_equal(found.row, [1, 0])
    assert found.weight[0] > found.weight[1]
    np.testing.assert_allclose(found.weight.sum(), 1.0, rtol=1e-6)
    # o4 was never taken: it stands in for nothing
    assert 4 not in like.like([described("red umbrella")]).row


def replaced(one, name):
    return msgspec.structs.replace(one, name=name)


def described(name):
    return fields_of(replaced(offer("new"), name))


def test_words_become_tokens_when_some_but_not_all_offers_have_them():
    offers = tuple(replaced(offer(f"o{at}"), f"tea {word}") for at, word in enumerate(("pot", "pot", "cup")))
    tokens = described_offers(offers).tokens
    assert tokens.words == ("pot",)
    assert sparse.issparse(described_offers(offers).of)
