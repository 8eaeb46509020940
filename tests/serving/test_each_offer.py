"""What one version of the catalogue knows of its offers, the next one need not ask again."""

from __future__ import annotations

import random

import numpy as np
import pytest

from features.catalogue import Cap, Lever, Placement
from features.definitions import feature_set
from features.events import to_us
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.each_offer import EachOffer
from serving.levers import Levers
from serving.rules import Rules, programs
from serving.rules.asked import Asked
from serving.state.contacts import Contact, ContactHistory
from tests.conftest import NOW
from tests.serving.conftest import an_offer

HERO = Placement(placement_id="hero", name="hero", channel="web")
FEATURES = feature_set(attributes={"age": "number"})
RULES_SEEN = [None, "age >= 18", "age < 18", "offer.value > 0.5", "age > 20 and offer.value > 0.1", "no rule ("]


def changed(offers, rng):
    """Some offers less, some more, some others; in the order of their ids, as catalogues are."""
    kept = {offer.offer_id: offer for offer in offers if rng.random() < 0.8}
    for n in rng.sample(range(30), rng.randint(0, 5)):
        kept[f"o{n:02}"] = some_offer(f"o{n:02}", rng)
    return tuple(kept[name] for name in sorted(kept))


def some_offer(name, rng):
    return an_offer(
        name,
        rng.random(),
        category=rng.choice([None, "hats", "shoes", "toys"]),
        status=rng.choice(["approved", "draft", "archived"]),
        channels=rng.choice([(), ("web",), ("app", "web")]),
        placements=rng.choice([(), ("hero",)]),
        retention=rng.random() < 0.3,
        attributes=rng.choice([{}, {"save_rate": 0.5}]),
        eligibility=rng.choice(RULES_SEEN),
        inventory=rng.choice([None, 0, 3]),
        caps=rng.choice([(), (Cap(limit=1, window="1d"),), (Cap(limit=1, window="1d", of="category"),)]),
    )


def a_lever(n, rng):
    where = rng.choice([None, 'offer.category == "hats"', "offer.value > 0.5 and age > 30", 'context.device == "tv"'])
    return Lever(lever_id=f"l{n}", name="a lever", factor=rng.choice([0.5, 2.0, 3.0]), reason="test", where=where)


def some_questions(rng):
    contacts = tuple(
        Contact(
            offer_id=f"o{n:02}", category=None, placement_id="hero", channel="web", decision_id=str(n),
            decided_us=to_us(NOW), lapses_us=to_us(NOW) + 60_000_000,
        )
        for n in rng.sample(range(30), 5)
    )  # fmt: skip
    for age in (None, 17, 40):
        yield Asked(
            placement_id="hero",
            channel=rng.choice(["web", "app"]),
            now_us=to_us(NOW) + 1,
            attributes={} if age is None else {"age": age},
            context={"device": rng.choice(["tv", "mobile"])},
            history=ContactHistory(contacts),
        )


@pytest.mark.parametrize("seed", range(20))
def test_a_view_that_goes_on_from_others_is_the_one_that_is_made_anew(seed):
    rng = random.Random(seed)
    offers, view = (), None
    for version in range(8):
        offers = changed(offers, rng)
        view = CatalogueView(Catalogue(version, offers, ()), None, view)
        anew = CatalogueView(Catalogue(version, offers, ()))
        for name, value in vars(anew).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(view, name), value, err_msg=name)
        assert (view.row, view.offers, view.category_names) == (anew.row, anew.offers, anew.category_names)
        for channel in ("web", "app", "tv") if version % 2 else ("web",):  # one is asked for late
            assert view.treatment_for("hero", channel).tolist() == anew.treatment_for("hero", channel).tolist()
            assert view.treatment_for("mail", channel).tolist() == anew.treatment_for("mail", channel).tolist()


@pytest.mark.parametrize("room", [0, 1_000])  # with none, rules are compiled anew every now and then
@pytest.mark.parametrize("seed", range(10))
def test_rules_and_levers_that_go_on_say_what_those_made_anew_say(seed, room, monkeypatch):
    monkeypatch.setattr(programs, "ROOM", room)
    rng = random.Random(seed)
    offers, view = (), None
    for version in range(8):
        offers, levers = changed(offers, rng), tuple(a_lever(n, rng) for n in range(rng.randint(0, 3)))
        catalogue = Catalogue(version, offers, (HERO,), (), levers)
        view, anew = CatalogueView(catalogue, FEATURES, view), CatalogueView(catalogue, FEATURES)
        rules, other_rules, weights, other_weights = Rules(view), Rules(anew), Levers(view), Levers(anew)
        for asked in some_questions(rng):
            for one, other in zip(rules.eligible(asked), other_rules.eligible(asked), strict=True):
                assert one.tolist() == other.tolist()
            for one, other in zip(weights.weights(asked), other_weights.weights(asked), strict=True):
                assert one.tolist() == other.tolist()


def test_only_offers_that_changed_are_asked_about():
    offers = tuple(an_offer(name) for name in "abc")
    asked = []

    def ask(offer):
        asked.append(offer.offer_id)
        return offer.value

    before = EachOffer(offers)
    assert before.of("value", ask) == before.of("value", ask) == [1.0, 1.0, 1.0]
    assert asked == ["a", "b", "c"]
    after = EachOffer((offers[0], an_offer("b", 2.0), offers[2], an_offer("d", 4.0)), before)
    assert after.of("value", ask) == [1.0, 2.0, 1.0, 4.0]
    assert (after.fresh, after.origin.tolist()) == ([1, 3], [0, -1, 2, -1])
    assert asked == ["a", "b", "c", "b", "d"]


def test_a_version_that_skips_what_the_one_before_knew_asks_again():
    offers = tuple(an_offer(name) for name in "ab")
    first = EachOffer(offers)
    first.of("value", lambda offer: 1)
    third = EachOffer(offers, EachOffer(offers, first))
    assert third.of("value", lambda offer: 2) == [2, 2]


def test_what_is_shared_goes_on_as_long_as_it_is_good():
    first = EachOffer(())
    made = first.shared("codes", dict, lambda _: True)
    second = EachOffer((), first)
    assert second.shared("codes", dict, lambda one: one is made) is made
    third = EachOffer((), second)
    assert third.shared("codes", dict, lambda _: False) is not made
    assert third.shared("codes", dict, lambda _: False) is third.shared("codes", dict, lambda _: False)


def test_other_features_begin_anew():
    offers = (an_offer("a"),)
    first = CatalogueView(Catalogue(1, offers, ()), feature_set())
    assert CatalogueView(Catalogue(2, offers, ()), feature_set(), first).each.fresh == []
    assert CatalogueView(Catalogue(2, offers, ()), feature_set(currency="USD"), first).each.fresh == [0]
