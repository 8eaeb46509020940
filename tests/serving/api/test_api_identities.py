"""POST /v1/customers/{id}/identities: what joins, what follows, what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features.log import DecisionRow, Exposure
from tests.serving.api.test_api_door import is_problem


@pytest.fixture
def join(client):
    def ask(anonymous_id="v", customer_id="c-1"):
        return client.post(f"/v1/customers/{customer_id}/identities", json={"anonymous_id": anonymous_id})

    return ask


@pytest.fixture
def send(client):
    def make(*events):
        given = [{"occurred_at": "2026-03-01T11:59:00Z", "event_type": "visit", **event} for event in events]
        return client.post("/v1/events", json={"events": given}).json()

    return make


class Joining:
    """Counts what it was asked to join."""

    def __init__(self):
        self.asked = []

    def join(self, from_id, to_id):
        self.asked.append((from_id, to_id))
        return 3 if len(self.asked) == 1 else 0

    def histories(self, customer_ids):
        from serving.state.contacts import ContactHistory

        return [ContactHistory() for _ in customer_ids]


def test_a_join_says_what_it_brought_and_again_that_it_brought_nothing(join, service):
    service.contacts = Joining()
    assert join().json() == {"customer_id": "c-1", "anonymous_ids": ["v"], "joined": True, "contacts_added": 3}
    assert join().json() == {"customer_id": "c-1", "anonymous_ids": ["v"], "joined": False, "contacts_added": 0}
    assert join("w").json()["anonymous_ids"] == ["v", "w"]
    assert service.contacts.asked == [("\x1fv", "c-1"), ("\x1fv", "c-1"), ("\x1fw", "c-1")]


def test_a_visitor_is_one_customer_only(join):
    join()
    is_problem(join(customer_id="c-2"), 409, "already_joined")


def test_an_anonymous_id_that_reads_like_the_customers_is_another_visitor(join):
    assert join("c-1").json()["anonymous_ids"] == ["c-1"]
    assert join("c-1").json()["joined"] is False


def test_who_was_erased_is_joined_in_neither_direction(join, client):
    join()
    client.delete("/v1/customers/c-1")
    is_problem(join("another"), 409, "erased")  # to the erased customer
    is_problem(join("v", customer_id="c-2"), 409, "erased")  # the visitor erased with it


@pytest.mark.parametrize("body", [{}, {"anonymous_id": ""}, {"anonymous_id": 1}, {"anonymous_id": "a", "x": 1}])
def test_a_faulty_body_is_a_422(client, body):
    assert client.post("/v1/customers/c/identities", json=body).status_code == 422


def test_what_the_visitor_did_and_does_is_the_customers(join, send, client, service):
    send({"event_id": "before", "anonymous_id": "v"}, {"event_id": "own", "customer_id": "c-1"})
    join()
    send({"event_id": "after", "anonymous_id": "v"})
    assert [one.event_id for one in service.log_store.recent("c-1", 0, 0)] == ["after", "own"]
    recent = client.get("/v1/customers/c-1").json()["recent_interactions"]
    assert {one["event_id"] for one in recent} == {"before", "own", "after"}
    assert client.get("/v1/customers/c-1").json()["anonymous_ids"] == ["v"]


def test_an_opt_out_before_or_after_the_join_is_the_customers(join, send, service):
    long_ago = service.now - timedelta(days=1)
    service.facts.merge_profile("c-1", long_ago, consent={"web": True, "email": True})
    send({"event_id": "1", "event_type": "opt_out", "anonymous_id": "v", "properties": {"channel": "web"}})
    join()
    assert service.facts.profile("c-1").refused == {"web"}
    send({"event_id": "2", "event_type": "opt_out", "anonymous_id": "v", "properties": {"category": "toys"}})
    assert service.facts.profile("c-1").refused == {"web", "category:toys"}
    later = {"occurred_at": "2026-03-01T11:59:01Z", "event_type": "opt_in", "anonymous_id": "v"}
    send({"event_id": "3", **later, "properties": {"channel": "web"}})
    assert service.facts.profile("c-1").refused == {"category:toys"}
    assert service.facts.profile("\x1fv") is None


def test_an_event_sent_twice_over_a_join_counts_once(join, send):
    event = {"event_id": "1", "anonymous_id": "v"}
    send(event)
    join()
    assert send(event) == {"accepted": 0, "duplicates": 1, "rejected": []}


def test_a_visitor_who_met_an_experiment_a_moment_ago_keeps_its_unit(join, service):
    for visitor, customer in (("\x1fv", "c-1"), ("\x1fw", "c-2")):
        exposures = [Exposure("e", 1, visitor, "on")]
        service.log.hand_over(DecisionRow(f"d-{customer}", visitor, 5, b"{}", exposures=exposures))
    join("v", "c-1")
    join("x", "c-3")
    assert [service.facts.unit_of(one) for one in ("c-1", "c-2", "c-3")] == ["\x1fv", "c-2", "c-3"]
