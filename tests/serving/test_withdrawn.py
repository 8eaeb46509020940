"""A kept answer is the same answer, but for what may not be shown any more."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient

from features.home import Home
from serving.app import create_app
from serving.keys import SCOPES
from serving.settings import Settings
from serving.wiring import build

ASK = {
    "customer_id": "c-1",
    "placements": [{"placement_id": "hero", "limit": 3}],
    "idempotency_key": "k",
    "deadline_ms": 5000,
}
OFFER = {"name": "n", "value": 1, "status": "approved", "treatments": [{"treatment_id": "t"}]}


@pytest.fixture
def shop(tmp_path, request):
    settings = getattr(request, "param", {})
    service = build(Settings(home=Home(tmp_path), epsilon=0.0, refresh_s=0.02, **settings))
    with TestClient(create_app(service)) as client:
        key = service.keys.create("secret", SCOPES, "", service.clock())
        client.headers["Authorization"] = f"Bearer {key}"
        client.put("/v1/placements/hero", json={"name": "hero", "channel": "web"})
        for name in ("a", "b", "c"):
            client.put(f"/v1/offers/{name}", json={**OFFER, "category": name})
        live(service)
        client.service = service
        yield client


def live(service):
    deadline = time.monotonic() + 10
    while service.decider.edition.view.version < service.facts.catalogue_version():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def shown(answer):
    return [offer["offer_id"] for offer in answer.json()["placements"][0]["offers"]]


def test_while_nothing_changed_it_is_the_same_to_the_byte(shop):
    first = shop.post("/v1/decisions", json=ASK)
    assert len(shown(first)) == 3
    assert shop.post("/v1/decisions", json=ASK).content == first.content


def test_an_offer_archived_since_is_not_returned_from_the_answer_that_was_kept(shop):
    first = shop.post("/v1/decisions", json=ASK)
    shop.delete("/v1/offers/a")
    live(shop.service)
    again = shop.post("/v1/decisions", json=ASK)
    assert shown(again) == [name for name in shown(first) if name != "a"]
    assert again.json()["decision_id"] == first.json()["decision_id"]
    ranks = {offer["offer_id"]: offer["rank"] for offer in first.json()["placements"][0]["offers"]}
    assert all(offer["rank"] == ranks[offer["offer_id"]] for offer in again.json()["placements"][0]["offers"])


def test_nor_one_whose_channel_was_refused_since(shop):
    assert shown(shop.post("/v1/decisions", json=ASK))
    shop.put("/v1/customers/c-1", json={"consent": {"web": False}})
    assert shown(shop.post("/v1/decisions", json=ASK)) == []


def test_caps_that_the_answer_itself_filled_do_not_empty_it(shop):
    shop.put("/v1/contact-policies/calm", json={"name": "calm", "caps": [{"of": "offer", "limit": 1, "window": "1d"}]})
    live(shop.service)
    first = shop.post("/v1/decisions", json=ASK)
    assert len(shown(first)) == 3
    assert shop.post("/v1/decisions", json=ASK).content == first.content
    assert shown(shop.post("/v1/decisions", json={**ASK, "idempotency_key": "another"})) == []


def say(shop, event_type, offer_id, decision_id, customer_id="c-1"):
    event = {"event_id": f"{event_type}-{decision_id}-{offer_id}", "event_type": event_type, "offer_id": offer_id}
    event |= {"customer_id": customer_id, "decision_id": decision_id, "occurred_at": datetime.now(UTC).isoformat()}
    assert shop.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1


def test_what_the_customer_dismissed_since_is_not_returned(shop):
    shop.put("/v1/contact-policies/calm", json={"name": "calm", "cooldown": {"dismiss": "30d"}})
    live(shop.service)
    first = shop.post("/v1/decisions", json=ASK)
    say(shop, "impression", "a", first.json()["decision_id"])
    assert shop.post("/v1/decisions", json=ASK).content == first.content
    say(shop, "dismiss", "a", first.json()["decision_id"])
    assert shown(shop.post("/v1/decisions", json=ASK)) == [name for name in shown(first) if name != "a"]


@pytest.mark.parametrize("shop", [{"expires_after_s": 0.4}], indirect=True)
def test_once_its_reservation_lapsed_it_shows_only_what_there_is_still_enough_of(shop):
    for name in ("a", "b"):
        shop.put(f"/v1/offers/{name}", json={**OFFER, "category": name, "inventory": 1})
    live(shop.service)
    first = shop.post("/v1/decisions", json=ASK)
    assert set(shown(first)) == {"a", "b", "c"}
    assert shop.post("/v1/decisions", json=ASK).content == first.content  # its units are its own
    say(shop, "impression", "b", first.json()["decision_id"])
    time.sleep(0.5)
    one = {"customer_id": "c-2", "placements": [{"placement_id": "hero"}], "exclude_offer_ids": ["b", "c"]}
    other = shop.post("/v1/decisions", json=one)
    assert shown(other) == ["a"]
    say(shop, "impression", "a", other.json()["decision_id"], "c-2")
    # The last unit of a went to somebody else; that of b was used by this very answer.
    assert shown(shop.post("/v1/decisions", json=ASK)) == [name for name in shown(first) if name != "a"]


def test_a_placement_that_was_removed_since_comes_back_empty(shop):
    shop.put("/v1/placements/strip", json={"name": "strip", "channel": "web"})
    live(shop.service)
    ask = {**ASK, "placements": [{"placement_id": "hero"}, {"placement_id": "strip"}]}
    first = shop.post("/v1/decisions", json=ask).json()
    assert shop.delete("/v1/placements/strip").status_code == 200
    live(shop.service)
    again = shop.post("/v1/decisions", json=ask)
    assert again.status_code == 200
    hero, strip = again.json()["placements"]
    assert hero == first["placements"][0]
    assert strip == {"placement_id": "strip", "offers": []}
