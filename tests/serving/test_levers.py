"""Levers: business weights with dates and conditions."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from features.catalogue import Lever
from features.events import to_us
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.levers import MOST, Levers
from serving.rules.asked import Asked
from tests.conftest import NOW
from tests.serving.conftest import an_offer

OFFERS = (
    an_offer("a", category="running"),
    an_offer("b", category="golf"),
    an_offer("c", attributes={"margin": "high"}),
)


def a_lever(lever_id, factor, where=None, **changes):
    return Lever(lever_id=lever_id, name=lever_id, factor=factor, where=where, reason="test", **changes)


def levers_of(*levers):
    return Levers(CatalogueView(Catalogue(1, OFFERS, (), (), levers)))


def asked(now=NOW, **known):
    return Asked(placement_id="hero", channel="web", now_us=to_us(now), **known)


def weights(levers, asking=None):
    lever, context_weight, _ = levers.weights(asking or asked())
    return lever.tolist(), context_weight.tolist()


def test_without_levers_nothing_weighs():
    assert weights(levers_of()) == ([1, 1, 1], [1, 1, 1])


def test_a_lever_weighs_on_the_offers_that_its_condition_holds_for():
    assert weights(levers_of(a_lever("x", 1.5, 'offer.category == "running"')))[0] == [1.5, 1, 1]
    assert weights(levers_of(a_lever("x", 1.5)))[0] == [1.5, 1.5, 1.5]


def test_levers_on_the_same_offer_multiply():
    levers = levers_of(a_lever("x", 3.0, 'offer.category == "running"'), a_lever("y", 0.5))
    assert weights(levers)[0] == [1.5, 0.5, 0.5]


def test_a_condition_that_is_unknown_does_not_weigh():
    # Only c has a margin; for the others the condition is unknown, and so is its opposite.
    assert weights(levers_of(a_lever("x", 2.0, 'offer.margin == "high"')))[0] == [1, 1, 2]
    assert weights(levers_of(a_lever("x", 2.0, 'not offer.margin == "high"')))[0] == [1, 1, 1]


@pytest.mark.parametrize(
    ("after", "expected"),
    [(timedelta(0), 1), (timedelta(hours=1), 2), (timedelta(hours=2), 1)],
    ids=["early", "on", "over"],
)
@pytest.mark.parametrize("where", [None, "offer.value > 0", "context.x is missing"])
def test_a_lever_weighs_from_its_start_until_its_end(after, expected, where):
    dates = {"starts_at": NOW + timedelta(hours=1), "ends_at": NOW + timedelta(hours=2)}
    levers = levers_of(a_lever("x", 2.0, where, **dates))
    lever, context_weight = weights(levers, asked(NOW + after))
    assert [a * b for a, b in zip(lever, context_weight, strict=True)] == [expected] * 3
    assert weights(levers, asked(NOW)) == ([1, 1, 1], [1, 1, 1])  # going back undoes it: nothing stale is kept


def test_a_condition_on_the_context_makes_the_context_weight():
    levers = levers_of(a_lever("x", 3.0, 'context.device == "tv" and offer.category == "golf"'), a_lever("y", 2.0))
    assert weights(levers, asked(context={"device": "tv"})) == ([2, 2, 2], [1, 3, 1])
    assert weights(levers, asked(context={"device": "phone"})) == ([2, 2, 2], [1, 1, 1])
    assert weights(levers) == ([2, 2, 2], [1, 1, 1])


def test_a_condition_on_the_customer_makes_the_lever():
    levers = levers_of(a_lever("x", 3.0, "visits_7d > 2"))
    assert weights(levers, asked(features={"visits_7d": 3.0})) == ([3, 3, 3], [1, 1, 1])
    assert weights(levers, asked()) == ([1, 1, 1], [1, 1, 1])


def test_which_levers_weighed_on_an_offer_is_told():
    levers = levers_of(
        a_lever("over", 9.0, ends_at=NOW),
        a_lever("push", 3.0, 'offer.category == "running"'),
        a_lever("tv", 2.0, 'context.device == "tv"'),
    )
    on_tv = asked(context={"device": "tv"})
    assert levers.factors(0, on_tv) == (("push", 3.0, False), ("tv", 2.0, True))
    assert levers.factors(1, asked()) == ()


def test_what_is_told_multiplies_to_what_weighs():
    levers = levers_of(
        a_lever("p", 3.0, 'offer.category == "running"'), a_lever("q", 0.5), a_lever("r", 4.0, "context.vip")
    )
    asking = asked(context={"vip": True})
    lever, context_weight = weights(levers, asking)
    for row in range(len(OFFERS)):
        product = 1.0
        for applied in levers.factors(row, asking):
            product *= applied.factor
        assert product == lever[row] * context_weight[row]


def test_many_strong_levers_stay_finite():
    assert weights(levers_of(*(a_lever(f"x{n:03}", 1000.0) for n in range(200))))[0] == [MOST] * 3
    of_context = levers_of(*(a_lever(f"x{n:03}", 1000.0, "context.x") for n in range(200)))
    assert weights(of_context, asked(context={"x": True}))[1] == [MOST] * 3


def test_a_condition_that_cannot_be_read_weighs_nowhere(caplog):
    with caplog.at_level(logging.WARNING):
        levers = levers_of(a_lever("x", 2.0, "offer."))
    assert weights(levers)[0] == [1, 1, 1]
    assert "the lever x is left out" in caplog.text


def test_a_lever_changes_which_offer_is_shown(decider_with, ask):
    push = a_lever("push", 3.0, 'offer.offer_id == "a"')
    decider = decider_with({"a": 1.0, "b": 2.0}, levers=[push])
    assert ask(decider).placements[0].offers[0].offer_id == "a"
