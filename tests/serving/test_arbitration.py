"""What an offer is worth, factor by factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nph

from features.catalogue import Lever
from features.errors import BrokenRelease
from features.events import to_us
from features.facts import Catalogue
from features.home import Home
from serving.arbitration import LESS_OF_CATEGORY, LESS_OF_OFFER, SMALLEST, worth_of
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow
from serving.learning.beliefs import Beliefs
from serving.levers import Levers
from serving.rules.asked import Asked
from serving.settings import Settings
from tests.conftest import NOW
from tests.serving.conftest import an_offer

PLAIN = (an_offer("a", 10.0, category="x"), an_offer("b", 20.0, category="x"), an_offer("c", 30.0))


def worth(
    offers=PLAIN,
    p_model=None,
    *,
    levers=(),
    beliefs=None,
    p_churn=None,
    customer_value="",
    save_rate=0.1,
    context=None,
    **known,
):
    view = CatalogueView(Catalogue(1, tuple(offers), (), (), tuple(levers)))
    told = {"features": {}, "known": True, "snapshot_us": None, **known}
    customer = CustomerNow("c1", **told)
    asked = Asked(placement_id="hero", channel="web", now_us=to_us(NOW), context=context or {})
    p = np.full(len(offers), 0.1) if p_model is None else np.array(p_model, np.float64)
    given_settings = Settings(home=Home("x"), customer_value=customer_value, save_rate=save_rate)
    believed = beliefs or Beliefs.none(len(offers), 20.0)
    return worth_of(Levers(view), view, p, believed, asked, customer, p_churn, given_settings)


def test_the_score_is_the_chance_of_acceptance_times_the_value():
    assert worth(p_model=[0.5, 0.2, 0.01]).score == pytest.approx([5.0, 4.0, 0.3])  # by hand


def test_what_was_learned_corrects_the_model():
    beliefs = Beliefs(np.array([10.0, 20.0, 40.0]), np.array([20.0, 20.0, 20.0]), np.zeros(3))
    assert worth(beliefs=beliefs).p_accept == pytest.approx([0.05, 0.1, 0.2])  # 0.1 times a half, one, two


def test_no_chance_of_acceptance_is_0_or_1():
    found = worth(p_model=[0.0, 1.0, 7.0]).p_accept
    assert found.tolist() == [SMALLEST, 1 - SMALLEST, 1 - SMALLEST]


def test_levers_and_context_weights_multiply_and_are_kept_apart():
    levers = (
        Lever(lever_id="l", name="l", factor=3.0, where='offer.category == "x"', reason="test"),
        Lever(lever_id="m", name="m", factor=2.0, where="context.vip", reason="test"),
    )
    found = worth(levers=levers, context={"vip": True})
    assert found.lever.tolist() == [3, 3, 1]
    assert found.context_weight.tolist() == [2, 2, 2]
    assert found.score == pytest.approx([0.1 * 10 * 6, 0.1 * 20 * 6, 0.1 * 30 * 2])


def test_a_retention_offer_gains_what_it_is_expected_to_keep():
    offers = (an_offer("a", 10.0), an_offer("b", 10.0, retention=True))
    found = worth(offers, p_churn=0.5, customer_value="200", save_rate=0.1)
    assert found.retention_gain == pytest.approx([0.0, 0.5 * 200 * 0.1])
    assert found.score == pytest.approx([1.0, 11.0])
    assert found.moved == pytest.approx([1.0, 1.0])  # what is learned of acceptance does not move the gain


def test_an_offer_may_name_its_own_rate_of_saving():
    rates = (0.3, 0, 1, 1.5, True, "0.3", None)
    offers = [an_offer(f"o{n}", retention=True, attributes={"save_rate": rate}) for n, rate in enumerate(rates)]
    gains = worth(offers, p_churn=1.0, customer_value="100", save_rate=0.1).retention_gain
    assert gains == pytest.approx([30.0, 0.0, 100.0, 10.0, 10.0, 10.0, 10.0])  # what is no share falls to the setting's


@pytest.mark.parametrize(
    ("known", "gain"),
    [
        ({"features": {"spent_90d": 50.0}}, 2.5),
        ({"attributes": {"spent_90d": 50}}, 2.5),
        ({}, 0.0),
        ({"features": {"spent_90d": float("nan")}}, 0.0),
        ({"features": {"spent_90d": float("inf")}}, 0.0),
        ({"features": {"spent_90d": -50.0}}, 0.0),
        ({"attributes": {"spent_90d": "50"}}, 0.0),
        ({"attributes": {"spent_90d": True}}, 0.0),
        ({"attributes": {"spent_90d": 10**400}}, 0.0),
        ({"features": {"spent_90d": {}}}, 0.0),
    ],
)
def test_the_value_of_a_customer_is_a_feature_or_attribute_and_unknown_is_nothing(known, gain):
    offers = (an_offer("a", retention=True),)
    assert worth(offers, p_churn=0.5, customer_value="spent_90d", **known).retention_gain == pytest.approx([gain])


@pytest.mark.parametrize(("p_churn", "customer_value"), [(None, "100"), (0.5, ""), (0.0, "100"), (0.5, "0")])
def test_without_a_churn_model_or_a_customer_value_nothing_is_gained(p_churn, customer_value):
    offers = (an_offer("a", retention=True),)
    assert worth(offers, p_churn=p_churn, customer_value=customer_value).retention_gain.tolist() == [0.0]


def test_less_like_this_weighs_on_the_offer_and_more_mildly_on_its_category():
    found = worth(less_like=frozenset({"a"}))
    assert found.wish.tolist() == [LESS_OF_OFFER, LESS_OF_CATEGORY, 1.0]
    assert found.score == pytest.approx([0.1 * 10 * LESS_OF_OFFER, 0.1 * 20 * LESS_OF_CATEGORY, 0.1 * 30])
    assert 0 < LESS_OF_OFFER < LESS_OF_CATEGORY < 1


def test_less_like_an_offer_without_a_category_weighs_on_it_alone():
    assert worth(less_like=frozenset({"c", "gone"})).wish.tolist() == [1.0, 1.0, LESS_OF_OFFER]


def test_less_like_this_also_weighs_on_what_a_retention_offer_gains():
    offers = (an_offer("a", retention=True),)
    found = worth(offers, p_churn=0.5, customer_value="100", less_like=frozenset({"a"}))
    assert found.retention_gain == pytest.approx([5.0 * LESS_OF_OFFER])


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_an_error_and_not_a_score(odd):
    beliefs = Beliefs(np.array([1.0, np.nan, 1.0]), np.ones(3), np.zeros(3))
    with pytest.raises(BrokenRelease, match="the score of b is not a finite number"):
        worth(beliefs=beliefs)
    with pytest.raises(BrokenRelease):
        worth((an_offer("a", odd),))


ODD_SHARES = st.sampled_from([0.0, 1.0, 0.5, 1e-300]) | st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(
    nph.arrays(np.float64, 3, elements=ODD_SHARES),
    nph.arrays(np.float64, 3, elements=st.floats(1e-3, 1e6)),
    ODD_SHARES,
    st.floats(0, 1e9),
    st.frozensets(st.sampled_from(["a", "b", "c", "gone"])),
    st.floats(1e-3, 1e3),
)
def test_the_factors_always_multiply_to_the_score(p_model, shapes, p_churn, value, less_like, factor):
    offers = (an_offer("a", value, category="x", retention=True), an_offer("b", 20.0, category="x"), an_offer("c", 3.0))
    lever = Lever(lever_id="l", name="l", factor=factor, where='offer.category == "x"', reason="test")
    found = worth(
        offers,
        p_model,
        beliefs=Beliefs(shapes, np.full(3, 20.0), np.zeros(3)),
        levers=(lever,),
        p_churn=p_churn,
        customer_value=str(value),
        less_like=less_like,
    )
    moved = found.p_accept * found.value * found.context_weight * found.lever * found.wish
    assert np.allclose(found.moved, moved, rtol=1e-12)
    assert np.allclose(found.score, moved + found.retention_gain, rtol=1e-12)
    assert np.isfinite(found.score).all()
    assert ((found.p_accept >= SMALLEST) & (found.p_accept <= 1 - SMALLEST)).all()
