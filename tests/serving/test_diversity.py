"""Diversity: so many of one category and of one brand, within a slate and over a page."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from features.catalogue import Placement
from features.events import to_us
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.decision import DecisionRequest, PlacementRequest
from serving.policies import policy_for
from serving.policies.outlook import Outlook, Tuning
from serving.rules.asked import Asked
from serving.rules.diversity import DiversityRule
from serving.slate import fill
from serving.state.contacts import Contact, ContactHistory
from tests.conftest import NOW
from tests.serving.conftest import an_offer

NOW_US = to_us(NOW)
OFFERS = {
    "a": {"category": "run", "attributes": {"brand": "A"}},
    "b": {"category": "run", "attributes": {"brand": "B"}},
    "c": {"category": "run", "attributes": {"brand": "A"}},
    "d": {"category": "golf", "attributes": {"brand": "A"}},
    "e": {"attributes": {"brand": 7}},
    "f": {},
}


def offers():
    """The first is worth most."""
    return [an_offer(name, 10.0 - n, **made) for n, (name, made) in enumerate(OFFERS.items())]


def shown(decision):
    return [[offer.offer_id for offer in placement.offers] for placement in decision.placements]


def rule_of(**limits):
    hero = Placement(placement_id="hero", name="hero", channel="web", **limits)
    return DiversityRule(CatalogueView(Catalogue(1, tuple(offers()), (hero,))))


def asked(*earlier, **more):
    return Asked(placement_id="hero", channel="web", now_us=NOW_US, decision_id="d1", earlier=earlier, **more)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, "abcdef"),
        ({"max_per_category": 1}, "adef"),
        ({"max_per_category": 2}, "abdef"),
        ({"max_per_brand": 1}, "abef"),
        ({"max_per_brand": 2}, "abcef"),
        ({"max_per_category": 1, "max_per_brand": 1}, "aef"),
        ({"max_per_category": 2, "max_per_brand": 1}, "abef"),
    ],
)
def test_a_slate_holds_no_more_than_its_placement_wants_of_one_kind(decider_with, ask, limits, expected):
    decision = ask(decider_with(offers(), placement=limits), limit=10)
    assert shown(decision) == [list(expected)]


def test_guaranteed_offers_count_as_well(decider_with, ask):
    placement = {"max_per_category": 1, "guaranteed_offer_ids": ("c", "b")}
    assert shown(ask(decider_with(offers(), placement=placement), limit=10)) == [["c", "d", "e", "f"]]


def test_what_an_earlier_placement_shows_counts_in_a_later_one_that_wants_a_mix(decider_with, ask):
    decider = decider_with(offers(), placement={"max_per_category": 2})
    # strip wants no mix and takes a and b; both are of the category run, so hero has no room for c.
    assert shown(ask(decider, "strip", "hero", limit=2)) == [["a", "b"], ["d", "e"]]


def test_without_earlier_picks_nothing_is_dropped():
    assert rule_of(max_per_category=1).allows(asked()) is None
    assert rule_of().allows(asked("a")) is None


def test_only_what_this_decision_picked_counts():
    rule = rule_of(max_per_category=1)
    claimed = tuple(
        Contact(offer_id, None, "top", "web", of, NOW_US, NOW_US + 10**9) for offer_id, of in (("a", "d0"), ("b", None))
    )
    assert rule.allows(asked(history=ContactHistory(claimed))) is None
    assert rule.allows(asked("d", "a")).tolist() == [False, False, False, False, True, True]
    assert rule.allows(asked("a")).tolist() == [False, False, False, True, True, True]


def test_an_offer_that_is_gone_meanwhile_does_not_count():
    assert rule_of(max_per_category=1).allows(asked("gone")) is None


def test_where_the_contacts_could_not_be_read_the_slate_itself_stays_mixed():
    rule = rule_of(max_per_category=1)
    assert rule.allows(asked(history=None)) is None
    assert len(rule.rooms(asked(history=None))) == 1


def test_where_the_contacts_could_not_be_read_what_an_earlier_placement_shows_still_counts(decider_with):
    decider = decider_with(offers(), placement={"max_per_category": 2})
    request = DecisionRequest(
        customer_id="c", placements=(PlacementRequest("strip", 2), PlacementRequest("hero", 2)), explain=True
    )
    known = replace(decider.read(decider.edition, "c"), history=None, stock=None)
    assert shown(decider.finish(decider.begin(decider.edition, request, known, 1))) == [["a", "b"], ["d", "e"]]


def test_it_says_what_it_saw():
    assert rule_of(max_per_category=1, max_per_brand=2).seen(asked("a", "b"), 2) == {
        "category": "run",
        "max_per_category": 1,
        "of_category": 2,
        "brand": "A",
        "max_per_brand": 2,
        "of_brand": 1,
    }
    assert rule_of(max_per_category=1).seen(asked("a"), 5)["of_category"] == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from([None, "A", "B"])), min_size=1, max_size=12),
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 1, 2, 3]),
    st.integers(1, 6),
)
def test_no_page_ever_holds_more_of_one_kind_than_wanted(kinds, per_category, per_brand, limit):
    made = [
        an_offer(f"o{n:02}", category=category, attributes={} if brand is None else {"brand": brand})
        for n, (category, brand) in enumerate(kinds)
    ]
    places = [
        Placement(placement_id=name, name=name, channel="web", max_per_category=per_category, max_per_brand=per_brand)
        for name in ("one", "two")
    ]
    view = CatalogueView(Catalogue(1, tuple(made), tuple(places)))
    rule, rng = DiversityRule(view), Random(1)
    shown_above: tuple[str, ...] = ()
    free = np.ones(len(view), bool)
    for place in places:
        asking = Asked(placement_id=place.placement_id, channel="web", now_us=NOW_US, earlier=shown_above)
        allowed = rule.allows(asking)
        mask = free.copy() if allowed is None else free & allowed
        policy = policy_for("epsilon_greedy", Outlook(view.ones, view.ones), mask, Tuning(), rng)
        for pick in fill(policy, mask, limit, rng, priority=view.priority, rooms=rule.rooms(asking)):
            free[pick.row] = False
            shown_above += (view.offers[pick.row].offer_id,)
    picked = [view.offers[view.row[offer_id]] for offer_id in shown_above]
    for most, kind in ((per_category, lambda o: o.category), (per_brand, lambda o: o.attributes.get("brand"))):
        for name in {kind(offer) for offer in picked} - {None}:
            assert most is None or sum(kind(offer) == name for offer in picked) <= most
