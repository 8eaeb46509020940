"""What every scorer promises: finite and repeatable answers, also for the unknown, and the same after a round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.builders import (
    acceptance_scorer,
    blend_scorer,
    churn_scorer,
    factor_scorer,
    item_item_scorer,
    offer,
    popularity_scorer,
)
from training.scorers import SCORERS, UncalibratedAcceptance, read_scorer, scorer_files

MAP = ("o0", "o1", "o2")
OFFERS = (offer("o2", "blue"), offer("unheard", "red"), offer("o0", "red", reward=3), offer("bare"))
RECOMMENDERS = (
    factor_scorer(repeats=False),
    factor_scorer(repeats=True),
    item_item_scorer(repeats=False),
    item_item_scorer(repeats=True, prior=0.0),
    popularity_scorer(),
    blend_scorer(repeats=False),
    blend_scorer(repeats=True),
)
ACCEPTANCE = (acceptance_scorer(), UncalibratedAcceptance("", 0.02, 0.1, 2.0))
ALL = (*RECOMMENDERS, *ACCEPTANCE, churn_scorer())
ELSEWHERE = {"uplift"}  # test_uplift.py
ODD = st.sampled_from([None, float("nan"), float("inf"), -float("inf"), 0.0, 1e300, "F", "text", {}, {"red": 2.0}])
FEATURES = st.dictionaries(st.sampled_from(["age", "gender", "taste", "seen_by_category", "seen_by_offer"]), ODD)
CUSTOMERS = st.sampled_from(["c000", "c001", "nobody", "\x1fvisitor", ""])


def kind(scorer):
    return scorer.KIND


def test_every_registered_kind_is_under_contract():
    assert {scorer.KIND for scorer in ALL} | ELSEWHERE == set(SCORERS)


@pytest.mark.parametrize("scorer", RECOMMENDERS, ids=kind)
@settings(max_examples=30, deadline=None)
@given(customer=CUSTOMERS, features=FEATURES)
def test_affinity_is_finite_for_known_and_unknown_customers_and_offers(scorer, customer, features):
    side = scorer.prepare(OFFERS)
    found = scorer.affinity(customer, features, side)
    assert found.shape == (len(OFFERS),)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize("scorer", RECOMMENDERS, ids=kind)
def test_affinity_does_not_change_what_was_prepared(scorer):
    side = scorer.prepare(OFFERS)
    first = scorer.affinity("c000", {"taste": "red"}, side).copy()
    scorer.affinity("c001", {}, side)[:] = 99.0
    np.testing.assert_array_equal(scorer.affinity("c000", {"taste": "red"}, side), first)


@pytest.mark.parametrize("scorer", RECOMMENDERS, ids=kind)
@settings(max_examples=30, deadline=None)
@given(asked=st.lists(st.tuples(CUSTOMERS, FEATURES), max_size=5))
def test_many_customers_at_once_get_what_each_gets_alone(scorer, asked):
    side = scorer.prepare(OFFERS)
    together = scorer.many([customer for customer, _ in asked], [features for _, features in asked], side)
    assert together.shape == (len(asked), len(OFFERS))
    assert together.dtype == np.float32
    for (customer, features), found in zip(asked, together, strict=True):
        np.testing.assert_allclose(found, scorer.affinity(customer, features, side), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scorer", RECOMMENDERS, ids=kind)
def test_affinity_of_an_offer_does_not_depend_on_the_order_of_the_catalogue(scorer):
    there = scorer.affinity("c001", {"taste": "blue"}, scorer.prepare(OFFERS))
    back = scorer.affinity("c001", {"taste": "blue"}, scorer.prepare(OFFERS[::-1]))
    np.testing.assert_allclose(there, back[::-1], rtol=1e-6)


@pytest.mark.parametrize("scorer", ACCEPTANCE, ids=kind)
@settings(max_examples=30, deadline=None)
@given(features=FEATURES, affinity=st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4))
def test_p_accept_is_a_probability_strictly_inside(scorer, features, affinity):
    side = scorer.prepare(OFFERS, {"o0": {"rate": 0.3}}, 0)
    context = {"channel": "app", "placement_id": "p", "hour": 3, "weekday": 2}
    found = scorer.p_accept(features, context, np.array(affinity, np.float32), side)
    assert found.shape == (len(OFFERS),)
    assert ((found > 0) & (found < 1)).all()


@pytest.mark.parametrize("scorer", [*RECOMMENDERS, *ACCEPTANCE], ids=kind)
def test_a_catalogue_without_offers_is_answered_with_nothing(scorer):
    if hasattr(scorer, "affinity"):
        assert scorer.affinity("c000", {}, scorer.prepare(())).shape == (0,)
    else:
        assert scorer.p_accept({}, {}, np.zeros(0, np.float32), scorer.prepare((), {}, 0)).shape == (0,)


@settings(max_examples=30, deadline=None)
@given(features=FEATURES)
def test_p_churn_is_a_probability_strictly_inside(features):
    assert 0 < churn_scorer().p_churn(features) < 1


@pytest.mark.parametrize("scorer", ALL, ids=kind)
def test_a_scorer_read_back_has_the_same_bytes(scorer):
    files = scorer_files(scorer)
    again = read_scorer(files, "", MAP)
    assert type(again) is type(scorer)
    assert again.version == scorer.version
    assert scorer_files(again) == files
