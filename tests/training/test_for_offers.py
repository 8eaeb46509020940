"""One customer against all offers says what the filled rows say: the models' shortcuts change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.training.builders import encoder, fitted_trees, offer
from training.forest_for_offers import DE_BRUIJN, MOST_LEAVES, ForestBits
from training.linear import Linear
from training.trees import Forest, ForestRows, flatten

ODD = st.sampled_from([None, float("nan"), float("inf"), -float("inf"), 0.0, -1.5, 1e300, "text", "F", True])
COUNTS = st.dictionaries(
    st.sampled_from(["red", "blue", "o0", "o3", "new", "app", "gone"]), st.floats(1, 300), max_size=5
) | st.sampled_from([None, "text"])
CUSTOMER = st.fixed_dictionaries(
    {},
    optional={
        "age": ODD,
        "spent_ever": ODD,
        "days_since_first_activity": ODD,
        "gender": st.sampled_from([None, "F", "M", "unheard"]) | ODD,
        "seen_by_category": COUNTS,
        "seen_by_offer": COUNTS,
        "engaged_by_channel": COUNTS,
    },
)
CONTEXT = st.fixed_dictionaries({"channel": st.sampled_from([None, "app", "fax"]), "hour": st.integers(0, 23)})
OFFERS = (offer("o0", "red", reward=5), offer("o1", "blue", reward=True), offer("new", None), offer("o3", "green"))
RATES = {"o0": {"rate": 0.5}, "o1": {"rate": float("nan")}}
AFFINITY = st.lists(st.sampled_from([0.0, 1.0, 1.0, -1e6]) | st.floats(-9, 9, width=32), min_size=4, max_size=4)


def linear(seed: int = 0) -> Linear:
    rng = np.random.default_rng(seed)
    columns = encoder()
    categories = np.array(columns.categorical)
    numbers = np.array([at for at in range(len(columns.columns)) if at not in columns.categorical])
    starts = np.cumsum([0, *[len(columns.columns[at].values or ()) + 1 for at in categories]])
    k = len(numbers)
    return Linear(
        numbers=numbers, centre=rng.normal(size=k), scale=rng.uniform(0.5, 2.0, k), weights=rng.normal(size=k),
        missing_weights=rng.normal(size=k), categories=categories, starts=starts,
        category_weights=rng.normal(size=starts[-1]), intercept=rng.normal(size=1),
    )  # fmt: skip


def deep_trees() -> Forest:
    """Of more leaves than fit into bits."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, len(encoder().columns)))
    model = HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=60, random_state=0)
    return flatten(model.fit(rows, rows[:, 2] + rows[:, 10] + rng.normal(size=2000) > 0))


MODELS = {"linear": linear(), "trees": flatten(fitted_trees(encoder())), "deep trees": deep_trees()}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@settings(max_examples=50, deadline=None)
@given(CUSTOMER, CONTEXT, AFFINITY | st.none())
def test_one_customer_for_all_offers_equals_the_filled_rows(model, customer, context, affinity):
    columns = encoder()
    side = columns.prepare(OFFERS, RATES)
    scores = None if affinity is None else np.array(affinity, np.float32)
    found = model.prepare(columns, side).raw(customer, context, scores)
    np.testing.assert_allclose(found, model.raw(columns.fill(side, customer, context, scores)), rtol=0, atol=1e-11)


@settings(max_examples=50, deadline=None)
@given(CUSTOMER, CONTEXT, AFFINITY | st.none())
def test_the_bits_of_trees_are_bit_for_bit_the_walk(customer, context, affinity):
    columns, forest = encoder(), MODELS["trees"]
    side = columns.prepare(OFFERS, RATES)
    scores = None if affinity is None else np.array(affinity, np.float32)
    walked = ForestRows(forest, columns, side).raw(customer, context, scores)
    np.testing.assert_array_equal(ForestBits(forest, columns, side).raw(customer, context, scores), walked)


def test_trees_are_kept_as_bits_where_their_leaves_fit():
    side = encoder().prepare(OFFERS, RATES)
    assert isinstance(MODELS["trees"].prepare(encoder(), side), ForestBits)
    assert isinstance(MODELS["deep trees"].prepare(encoder(), side), ForestRows)


def test_every_single_bit_has_a_place_of_its_own():
    assert len({((1 << bit) * DE_BRUIJN & 0xFFFFFFFF) >> 27 for bit in range(MOST_LEAVES)}) == MOST_LEAVES


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@settings(max_examples=20, deadline=None)
@given(CUSTOMER, CONTEXT)
def test_one_row_equals_many(model, customer, context):
    row = encoder().of_customer(customer, context)
    np.testing.assert_allclose(model.one(row), model.raw(np.array([row, row]))[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_was_prepared_is_the_same_after_a_customer(model):
    columns = encoder()
    prepared = model.prepare(columns, columns.prepare(OFFERS, RATES))
    affinity = np.arange(4, dtype=np.float32)
    first = prepared.raw({}, {}, affinity).copy()
    prepared.raw({"seen_by_category": {"red": 9.0}, "seen_by_offer": {"o0": 5.0}}, {"hour": 3}, affinity)[:] = 99.0
    np.testing.assert_array_equal(prepared.raw({}, {}, affinity), first)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_an_empty_catalogue_is_answered_with_nothing(model):
    columns = encoder()
    assert model.prepare(columns, columns.prepare((), {})).raw({}, {}, np.zeros(0, np.float32)).shape == (0,)


@pytest.mark.parametrize("model", [MODELS["linear"], MODELS["trees"]], ids=["linear", "trees"])
@settings(max_examples=20, deadline=None)
@given(CUSTOMER)
def test_of_many_categories_only_those_that_are_held_are_looked_at_and_that_says_the_same(model, customer):
    prepared = model.prepare(encoder(), encoder().prepare(OFFERS, RATES))
    affinity = np.arange(4, dtype=np.float32)
    asked = prepared.raw(customer, {"hour": 3}, affinity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.encoder.FEW_CATEGORIES", 0)
        np.testing.assert_allclose(prepared.raw(customer, {"hour": 3}, affinity), asked, rtol=0, atol=1e-12)


def test_a_taste_that_is_kept_adds_what_it_adds_when_it_is_new():
    columns = encoder()
    prepared = MODELS["linear"].prepare(columns, columns.prepare(OFFERS, RATES))
    fresh = np.array([0.5, -1.0, 2.0, 0.0], np.float32)
    kept = fresh.copy()
    kept.flags.writeable = False
    first, again = prepared.raw({}, {}, kept), prepared.raw({}, {}, kept)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, prepared.raw({}, {}, fresh))
    fresh[:] = fresh[::-1]  # what may be written to is not kept
    assert not np.array_equal(prepared.raw({}, {}, fresh), first)
