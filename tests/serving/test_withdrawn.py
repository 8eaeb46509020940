"""A kept answer is the same answer, but for what may not be shown any more."""

from __future__ import annotations

import time

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
def shop(tmp_path):
    service = build(Settings(home=Home(tmp_path), epsilon=0.0, refresh_s=0.02))
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
