"""An offer's own rule: who may have it, and what is said when not."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Offer
from features.definitions import feature_set
from features.facts import Catalogue
from features.language import Names, interpret, parse
from serving.catalogue_view import CatalogueView
from serving.rules import RULES
from serving.rules.asked import Asked
from serving.rules.eligibility import EligibilityRule
from tests.conftest import NOW
from tests.serving.conftest import an_offer

FEATURES = feature_set(attributes={"age": "number", "country": "category"})


def view_of(*offers: Offer) -> CatalogueView:
    return CatalogueView(Catalogue(1, offers, ()), FEATURES)


def asked(**known):
    return Asked(placement_id="hero", channel="web", now_us=int(NOW.timestamp() * 1e6), **known)


def allowed(rule, asking):
    mask = rule.allows(asking)
    return None if mask is None else mask.tolist()


def test_where_no_offer_has_a_rule_nothing_is_asked():
    assert EligibilityRule(view_of(an_offer("a"), an_offer("b"))).allows(asked()) is None


def test_only_who_fits_the_rule_may_have_the_offer():
    rule = EligibilityRule(
        view_of(an_offer("a"), an_offer("b", eligibility="age >= 18"), an_offer("c", eligibility="age < 18"))
    )
    assert allowed(rule, asked(attributes={"age": 30})) == [True, True, False]
    assert allowed(rule, asked(attributes={"age": 3})) == [True, False, True]


def test_what_is_not_known_of_a_customer_drops_the_offer_either_way():
    rule = EligibilityRule(view_of(an_offer("a", eligibility="age >= 18"), an_offer("b", eligibility="not age >= 18")))
    assert allowed(rule, asked()) == [False, False]
    assert allowed(rule, asked(attributes={"age": "thirty"})) == [False, False]


def test_rules_see_features_consent_context_and_the_offer():
    text = 'visits_7d > 2 and consent.email and context.device == "mobile" and country in offer.countries'
    rule = EligibilityRule(view_of(an_offer("a", eligibility=text, attributes={"countries": ["DE", "FR"]})))
    known = {
        "features": {"visits_7d": 3.0},
        "consent": {"email": True},
        "context": {"device": "mobile"},
        "attributes": {"country": "FR"},
    }
    assert allowed(rule, asked(**known)) == [True]
    for part in known:
        assert allowed(rule, asked(**{**known, part: {}})) == [False]


def test_where_features_could_not_be_read_what_depends_on_them_is_withheld():
    # Their defaults would say that this customer never bought anything.
    rule = EligibilityRule(
        view_of(
            an_offer("a", eligibility="days_since_purchase is missing and visits_7d == 0"),
            an_offer("b", eligibility="age >= 18"),
            an_offer("c"),
        )
    )
    known = {"features": {"visits_7d": 0.0}, "attributes": {"age": 30}}
    assert allowed(rule, asked(**known)) == [True, True, True]
    assert allowed(rule, asked(**known, features_known=False)) == [False, True, True]
    seen = rule.seen(asked(**known, features_known=False), 0)
    assert (seen["result"], seen["features"]) == ("unknown", "could not be read")


def test_a_decision_without_features_shows_no_offer_whose_rule_names_one(decider_with, ask):
    offers = [an_offer("a", 9.0, eligibility="visits_7d == 0"), an_offer("b", 1.0)]
    known = {"features": {"visits_7d": 0.0}}
    lost = (("features_unavailable", "stored features were left at their defaults"),)
    for degraded, expected in (((), ["a", "b"]), (lost, ["b"])):
        decision = ask(decider_with(offers, degraded=degraded, **known), limit=5)
        assert [offer.offer_id for offer in decision.placements[0].offers] == expected


def test_it_says_what_it_saw():
    rule = EligibilityRule(view_of(an_offer("a", eligibility="age >= 18 and visits_7d > 2"), an_offer("b")))
    assert rule.seen(asked(attributes={"age": 17}), 0) == {
        "rule": "age >= 18 and visits_7d > 2",
        "result": "false",
        "values": {"age": 17.0, "visits_7d": None},
    }
    assert rule.seen(asked(), 0)["result"] == "unknown"
    assert rule.seen(asked(), 1) == {"rule": None}


def test_an_offer_whose_rule_cannot_be_read_is_shown_to_nobody(caplog):
    with caplog.at_level(logging.WARNING):
        rule = EligibilityRule(view_of(an_offer("a", eligibility="age >>> 18"), an_offer("b")))
    assert allowed(rule, asked(attributes={"age": 30})) == [False, True]
    assert "a is shown to nobody, its rule cannot be read: at character 6" in caplog.text


def test_reasons_are_given_in_order_consent_before_eligibility_before_caps():
    names = [rule.name for rule in RULES]
    assert names.index("consent") < names.index("eligibility") < names.index("caps") < names.index("diversity")


def test_an_offer_that_its_rule_forbids_is_never_decided_for(decider_with, ask):
    young, old = an_offer("a", 9.0, eligibility="age < 18"), an_offer("b", 1.0, eligibility="age >= 18")
    decision = ask(decider_with([young, old], features={"age": 40.0}), limit=5)
    assert [offer.offer_id for offer in decision.placements[0].offers] == ["b"]


TEXTS = st.sampled_from(
    [
        "age >= 18",
        "age < offer.max_age",
        'country in ("DE", "FR")',
        "not (age is missing or context.vip)",
        "context.vip",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.none() | TEXTS, st.integers(0, 90)), min_size=1, max_size=20),
    st.dictionaries(st.sampled_from(["age", "country"]), st.none() | st.integers(0, 90) | st.sampled_from(["DE", "x"])),
    st.dictionaries(st.just("vip"), st.booleans() | st.none()),
)
def test_every_offer_is_allowed_exactly_where_its_rule_holds(catalogue, attributes, context):
    view = view_of(
        *(
            an_offer(f"o{n:02}", eligibility=text, attributes={"max_age": age})
            for n, (text, age) in enumerate(catalogue)
        )
    )
    asking = asked(attributes=attributes, context=context)
    names = Names.of(FEATURES)
    expected = [
        offer.eligibility is None or interpret(parse(offer.eligibility), asking, offer, names) is True
        for offer in view.offers
    ]
    mask = EligibilityRule(view).allows(asking)
    assert np.array_equal(np.ones(len(view), bool) if mask is None else mask, expected)


@pytest.mark.parametrize("n", [1, 1_000])
def test_many_offers_with_rules_of_their_own_do_not_disturb_each_other(n):
    rule = EligibilityRule(view_of(*(an_offer(f"o{k:04}", eligibility=f"age == {k}") for k in range(n))))
    for age in (0, n - 1):
        assert np.flatnonzero(rule.allows(asked(attributes={"age": age}))).tolist() == [age]


ODD = (None, 17, 18, 18.0, 17.999, 19.5, 20, 21, 1e300, -0.0, 0, float("nan"), True, False, "18", "DE", "XX", "", [18])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ODD), st.sampled_from(ODD)), min_size=1, max_size=30))
def test_what_was_said_of_one_customer_is_only_said_again_of_those_whom_the_rules_cannot_tell_apart(people):
    texts = (
        "age >= 18", 'age > 18 or country == "DE"', "age in (18, 20) and age < 1e9", "age == 0",
        'country in ("DE", "18")', "age is missing", 'context.device == "tv"', "context.device > 18",
    )  # fmt: skip
    view = view_of(*(an_offer(f"o-{n}", eligibility=text) for n, text in enumerate(texts)))
    rule, names = EligibilityRule(view), Names.of(FEATURES)
    for age, other in people:
        asking = asked(attributes={"age": age, "country": other}, context={"device": other})
        expected = [
            interpret(parse(text), asking, offer, names) is True for text, offer in zip(texts, view.offers, strict=True)
        ]
        assert allowed(rule, asking) == expected


def test_visitors_whom_no_rule_tells_apart_are_decided_once():
    rule = EligibilityRule(view_of(an_offer("a", eligibility="age >= 18"), an_offer("b", eligibility="age < 65")))
    first = rule.allows(asked(attributes={"age": 30}))
    assert rule.allows(asked(attributes={"age": 31})) is first
    assert rule.allows(asked(attributes={"age": 18})) is not first  # 18 itself is another case than those above
    timed = EligibilityRule(view_of(an_offer("a", eligibility='age >= 18 and now < "2030-01-01"')))
    assert timed.allows(asked(attributes={"age": 30})) is not timed.allows(asked(attributes={"age": 30}))
