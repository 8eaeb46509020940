"""A real service whose real files are locked by somebody else, while it is asked."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager

import pytest

from tests.e2e.conftest import PATIENCE_S, serving

ASK = {"customer_id": "c-1", "placements": [{"placement_id": "hero", "limit": 2}], "deadline_ms": 1000}
TREATMENTS = [{"treatment_id": "t", "payload": {}}]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A service with one offer that has a cap and one that has none, and a client."""
    home = tmp_path_factory.mktemp("locked") / "home"
    with serving(home) as served, served.client() as client:
        client.put("/v1/placements/hero", json={"name": "hero", "channel": "web"})
        offer = {"name": "n", "value": 1, "status": "approved", "treatments": TREATMENTS}
        client.put("/v1/offers/free", json=offer)
        client.put("/v1/offers/capped", json={**offer, "caps": [{"limit": 100, "window": "1d"}]})
        within(client, lambda answer: shown(answer) == {"free", "capped"})
        yield home, client


def shown(answer):
    return {offer["offer_id"] for offer in answer["placements"][0]["offers"]}


def codes(answer):
    return {one["code"] for one in answer["degraded"]} - {"model_unavailable"}


def within(client, holds, seconds=PATIENCE_S * 10):
    deadline = time.monotonic() + seconds
    while True:
        answer = client.post("/v1/decisions", json=ASK)
        assert answer.status_code == 200
        if holds(answer.json()):
            return
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


@contextmanager
def locked(path):
    """Held for writing, as by a back-up or a forgotten shell."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def test_while_nobody_can_count_what_is_capped_is_withheld_and_comes_back(shop):
    home, client = shop
    with locked(home / "contacts.db"):
        answers = [client.post("/v1/decisions", json=ASK) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert all(shown(answer.json()) == {"free"} for answer in answers)
    assert all("state_unavailable" in codes(answer.json()) for answer in answers)
    within(client, lambda answer: shown(answer) == {"free", "capped"} and not codes(answer), seconds=5 + PATIENCE_S)


def test_decisions_go_on_while_the_log_is_locked_and_it_has_them_afterwards(shop):
    home, client = shop
    with locked(home / "log.db"):
        answers = [client.post("/v1/decisions", json=ASK).json() for _ in range(5)]
        assert all(shown(answer) == {"free", "capped"} for answer in answers)
    deadline = time.monotonic() + 15
    for answer in answers:
        while client.get(f"/v1/decisions/{answer['decision_id']}").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_decisions_go_on_while_the_catalogue_and_the_keys_are_locked(shop):
    home, client = shop
    with locked(home / "facts.db"):
        answers = [client.post("/v1/decisions", json=ASK) for _ in range(5)]
    assert all(answer.status_code == 200 and shown(answer.json()) == {"free", "capped"} for answer in answers)
