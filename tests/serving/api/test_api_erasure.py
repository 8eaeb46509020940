"""DELETE /v1/customers/{id}: the receipt, and what happens to whoever sends the id again."""

from __future__ import annotations

import pytest

from tests.serving.api.fakes import NOW
from tests.serving.api.test_api_door import is_problem

VISIT = {"event_type": "visit", "occurred_at": "2026-03-01T11:59:00Z"}
QUESTION = {"customer_id": "c-1", "placements": [{"placement_id": "hero"}], "idempotency_key": "k"}


class Forgetting:
    """Contacts of ten lines."""

    def join(self, from_id, to_id):
        return 0

    def erase(self, customer_id):
        return {"c-1": 2, "\x1fv": 1}.get(customer_id, 0)


@pytest.fixture
def known(client, service):
    """A customer of whom every store holds something."""
    service.contacts = Forgetting()
    client.post("/v1/customers/c-1/identities", json={"anonymous_id": "v"})
    client.put("/v1/customers/c-1", json={"attributes": {"age": 30}, "consent": {"web": False}})
    events = [VISIT | {"event_id": "a", "customer_id": "c-1"}, VISIT | {"event_id": "b", "anonymous_id": "v"}]
    client.post("/v1/events", json={"events": [*events, VISIT | {"event_id": "c", "customer_id": "c-2"}]})
    client.post("/v1/decisions", json=QUESTION)
    service.log.submit([], NOW).result(5)
    return client


def places_of(answer):
    return {place["place"]: place["erased"] for place in answer.json()["places"]}


def test_the_receipt_names_each_place_also_for_somebody_unknown(known, service):
    answer = known.delete("/v1/customers/c-1")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["customer_id"], answer.json()["erased_at"]) == ("c-1", "2026-03-01T12:00:00Z")
    assert places_of(answer) == {
        "events": 2, "decisions": 1, "tail": 0, "online_store": 0, "lake_events": 0, "lake_decisions": 0,
        "lake_exposures": 0, "exposures": 0, "lake_refused": 0, "features": 0, "contacts": 3,
        "idempotent_answers": 1, "profile": 1, "profile_history": 1, "identities": 1, "models": 0, "learning": 0,
    }  # fmt: skip
    notes = {place["place"]: place["note"] for place in answer.json()["places"] if place["note"]}
    assert notes.keys() == {"models", "learning"}
    service.contacts = None
    again, stranger = known.delete("/v1/customers/c-1"), known.delete("/v1/customers/nobody%2Fknown")
    assert set(places_of(again).values()) == set(places_of(stranger).values()) == {0}


def test_afterwards_the_id_is_refused_and_others_are_not(known, service):
    known.delete("/v1/customers/c-1")
    events = [
        VISIT | {"event_id": "d", "customer_id": "c-1"}, VISIT | {"event_id": "e", "anonymous_id": "v"},
        VISIT | {"event_id": "f", "customer_id": "c-2"},
    ]  # fmt: skip
    found = known.post("/v1/events", json={"events": events}).json()
    assert found["accepted"] == 1
    assert [(one["index"], one["code"]) for one in found["rejected"]] == [(0, "erased"), (1, "erased")]
    is_problem(known.put("/v1/customers/c-1", json={"attributes": {"age": 1}}), 409, "erased")
    is_problem(known.put("/v1/customers/c-1/preferences", json={"less_like": ["o-1"]}), 409, "erased")
    is_problem(known.post("/v1/customers/c-1/identities", json={"anonymous_id": "new"}), 409, "erased")
    is_problem(known.post("/v1/customers/c-2/identities", json={"anonymous_id": "v"}), 409, "erased")
    found = known.get("/v1/customers/c-1/preferences").json()
    assert found == {"customer_id": "c-1", "muted_categories": [], "less_like": [], "updated_at": None}
    decided = known.post("/v1/decisions", json=QUESTION | {"idempotency_key": None})
    assert decided.status_code == 200  # as a stranger is answered; and nothing is kept of it
    service.log.submit([], NOW).result(5)
    assert service.log_store.decision(decided.json()["decision_id"]) is None
    assert {one.customer_id for one in service.log_store.events_after(0, 99)} == {"c-2"}


def test_erasing_needs_the_scope_admin(client_with):
    is_problem(client_with("decide", "events", "catalogue").delete("/v1/customers/c-1"), 403, "forbidden")
