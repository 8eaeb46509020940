"""What a customer says over HTTP is obeyed by the next decision of the real service, and so is who they are."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import count

import pytest
from fastapi.testclient import TestClient

from features.catalogue import Cap, ContactPolicy, Placement
from features.facts import Facts
from features.home import Home
from serving.app import create_app
from serving.keys import SCOPES, KeyLimits
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A service with two categories on two channels, and at most two contacts with an offer on `app`."""
    home = Home(tmp_path_factory.mktemp("shop"))
    facts = Facts(home.facts_db)
    for name, channel in (("hero", "web"), ("push", "app")):
        facts.put(Placement(placement_id=name, name=name, channel=channel), NOW)
    for name, category in (("shoe", "shoes"), ("boot", "shoes"), ("tent", "camping")):
        facts.put(an_offer(name, category=category), NOW)
    caps = (Cap(limit=2, window="7d", of="offer"),)
    facts.put(ContactPolicy(policy_id="calm", name="calm", channels=("app",), caps=caps), NOW)
    facts.close()
    service = build(Settings(home=home, epsilon=0.0, refresh_s=0.02))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {service.keys.create('secret', SCOPES, '', NOW)}"
        client.service = service
        yield client


@pytest.fixture
def shown(shop):
    def ask(placement="hero", **who):
        body = {"placements": [{"placement_id": placement, "limit": 5}], "deadline_ms": 5000, **who}
        answer = shop.post("/v1/decisions", json=body)
        assert answer.status_code == 200, answer.text
        return {offer["offer_id"] for offer in answer.json()["placements"][0]["offers"]}

    return ask


_ids = count()


@pytest.fixture
def send(shop):
    def post(event_type, **fields):
        made = {"event_id": f"e-{next(_ids)}", "occurred_at": datetime.now(UTC).isoformat()}
        answer = shop.post("/v1/events", json={"events": [{**made, "event_type": event_type, **fields}]})
        assert answer.json()["accepted"] == 1, answer.text

    return post


EVERYTHING = {"shoe", "boot", "tent"}


def test_a_muted_category_is_not_shown_from_the_next_decision_on_until_it_is_taken_back(shop, shown):
    assert shown(customer_id="m") == EVERYTHING
    shop.put("/v1/customers/m/preferences", json={"muted_categories": ["shoes"]})
    assert shown(customer_id="m") == {"tent"}
    shop.put("/v1/customers/m/preferences", json={"muted_categories": []})
    assert shown(customer_id="m") == EVERYTHING


def test_an_opt_out_is_obeyed_by_the_next_decision_and_an_opt_in_too(shown, send):
    send("opt_out", customer_id="o", properties={"channel": "app"})
    send("opt_out", customer_id="o", properties={"category": "camping"})
    assert (shown(customer_id="o"), shown("push", customer_id="o")) == ({"shoe", "boot"}, set())
    send("opt_in", customer_id="o", properties={"category": "camping"})
    assert shown(customer_id="o") == EVERYTHING


def test_what_a_visitor_refused_holds_for_the_customer_and_the_other_way_round(shop, shown, send):
    send("opt_out", anonymous_id="j", properties={"category": "camping"})
    shop.put("/v1/customers/j/preferences", json={"muted_categories": ["shoes"]})
    shop.post("/v1/customers/j/identities", json={"anonymous_id": "j"})
    assert shown(customer_id="j") == shown(anonymous_id="j") == set()
    shop.delete("/v1/customers/j/preferences")
    assert shown(customer_id="j") == shown(anonymous_id="j") == EVERYTHING  # both were mutes, said in two ways


def test_caps_add_up_when_a_visitor_joins(shop, shown):
    assert shown("push", anonymous_id="k") == EVERYTHING
    assert shown("push", customer_id="k") == EVERYTHING
    assert shown("push", customer_id="k") == EVERYTHING
    assert shown("push", customer_id="k") == set()
    assert shown("push", anonymous_id="k") == EVERYTHING
    assert shop.post("/v1/customers/k/identities", json={"anonymous_id": "k"}).json()["contacts_added"] == 6
    assert shown("push", anonymous_id="k") == set()
    caps = shop.get("/v1/customers/k").json()["caps_left"]
    assert {(cap["counted"], cap["used"], cap["left"]) for cap in caps} == {(offer, 4, 0) for offer in EVERYTHING}


def test_what_is_shown_to_a_joined_visitor_counts_for_the_customer(shop, shown):
    shop.post("/v1/customers/l/identities", json={"anonymous_id": "l"})
    assert shown("push", anonymous_id="l") == shown("push", customer_id="l") == EVERYTHING
    assert shown("push", anonymous_id="l") == shown("push", customer_id="l") == set()


def test_a_joined_visitor_brings_their_events_into_the_customers_features(shop, send):
    for _ in range(2):
        send("click", anonymous_id="f", offer_id="tent")
    send("visit", customer_id="f")
    shop.post("/v1/customers/f/identities", json={"anonymous_id": "f"})
    send("click", anonymous_id="f", offer_id="shoe")
    edition, now_us = shop.service.decider.edition, time.time_ns() // 1000
    for key in ("f", "\x1ff"):
        features = edition.customers.read(key, now_us).features
        assert (features["clicked_1d"], features["visits_1d"]) == (3.0, 1.0)
        assert features["clicked_by_category_90d"] == {"camping": 2.0, "shoes": 1.0}


def test_an_erased_customer_is_a_stranger_of_whom_nothing_is_kept(shop, shown, send):
    send("view", customer_id="gone", category="shoes")
    shop.post("/v1/customers/gone/identities", json={"anonymous_id": "gone-too"})
    shop.put("/v1/customers/gone", json={"attributes": {"age": 30}, "consent": {"web": False}})
    assert shown("push", customer_id="gone") == shown("push", anonymous_id="gone-too") == EVERYTHING
    places = {one["place"]: one["erased"] for one in shop.delete("/v1/customers/gone").json()["places"]}
    assert (places["contacts"], places["events"], places["identities"]) == (6, 1, 1)
    time.sleep(0.3)  # every worker looks for changes this often
    # Nothing is counted, so that no cap can ever say that there was somebody: what must be counted is not shown.
    assert shown("push", customer_id="gone") == shown("push", anonymous_id="gone-too") == set()
    assert shown(customer_id="gone") == EVERYTHING  # the refusal of the web went with the rest
    assert not shop.service.decider.edition.customers.read("gone", time.time_ns() // 1000).known
    home = shop.service.settings.home.root
    for path in home.rglob("*"):
        if path.suffix in (".db", ".db-wal", ".parquet"):
            assert b"gone" not in path.read_bytes(), path


def test_a_page_asks_for_its_visitor_with_a_public_key(shop):
    service = shop.service
    key = service.keys.create("public", ["decide", "events"], "", NOW, KeyLimits((SHOP,)))
    headers = {"Authorization": f"Bearer {key}", "Origin": SHOP}
    body = {"anonymous_id": "page", "placements": [{"placement_id": "hero"}]}
    answer = shop.post("/v1/decisions", json=body, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "score" not in answer.json()["placements"][0]["offers"][0]
    shop.post("/v1/customers/secret-id/identities", json={"anonymous_id": "page"})
    again = shop.post("/v1/decisions", json=body, headers=headers)
    assert again.json()["anonymous_id"] == "page"
    assert "secret-id" not in again.text  # whom the visitor turned out to be is nothing for a page
