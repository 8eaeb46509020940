"""Levers over HTTP: business weights, and who set them why; what they share with offers is in test_api_catalogue.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

LEVER = {
    "name": "summer push",
    "factor": 1.3,
    "where": 'offer.category == "running"',
    "starts_at": "2026-06-01T00:00:00Z",
    "ends_at": "2026-09-01T00:00:00Z",
    "reason": "running is on stock",
}


def test_a_lever_comes_back_as_it_was_sent_with_its_one_change(client, service):
    body = client.put("/v1/levers/push", json=LEVER).json()
    key_id = service.keys.verify(service.secret).key_id
    created = {
        "version": body["version"],
        "changed_at": "2026-03-01T12:00:00Z",
        "by": f"key {key_id}",
        "change": "created",
        "reason": "running is on stock",
        "set": {"lever_id": "push", **LEVER},
    }
    about = {"lever_id": "push", "version": body["version"], "updated_at": "2026-03-01T12:00:00Z"}
    assert body == {**LEVER, **about, "changes": [created]}
    assert client.get("/v1/levers/push").json() == body


def test_each_change_says_when_why_and_what_the_newest_first(client, service):
    client.put("/v1/levers/push", json=LEVER)
    service.now += timedelta(hours=1)
    client.put("/v1/levers/push", json={**LEVER, "factor": 1.5, "reason": "more"})
    client.put("/v1/levers/push", json={**LEVER, "factor": 1.5, "reason": "more"})  # nothing new
    client.delete("/v1/levers/push")
    body = client.put("/v1/levers/push", json=LEVER).json()
    told = [(one["change"], one["reason"], one["changed_at"]) for one in body["changes"]]
    assert told == [
        ("created", "running is on stock", "2026-03-01T13:00:00Z"),
        ("removed", None, "2026-03-01T13:00:00Z"),
        ("replaced", "more", "2026-03-01T13:00:00Z"),
        ("created", "running is on stock", "2026-03-01T12:00:00Z"),
    ]
    assert body["changes"][2]["set"] == {"factor": 1.5, "reason": "more"}


def test_what_was_done_with_a_deleted_lever_stays_to_be_seen(client):
    for name in ("kept", "gone", "back", "late"):
        client.put(f"/v1/levers/{name}", json=LEVER)
    for name in ("late", "gone", "back"):
        client.delete(f"/v1/levers/{name}")
    client.put("/v1/levers/back", json=LEVER)
    page = client.get("/v1/levers?deleted=true&limit=1").json()
    (gone,) = page["levers"]
    assert (gone["lever_id"], gone["factor"]) == ("gone", 1.3)
    assert [one["change"] for one in gone["changes"]] == ["removed", "created"]
    rest = client.get(f"/v1/levers?deleted=true&cursor={page['next_cursor']}").json()
    assert ([one["lever_id"] for one in rest["levers"]], rest["next_cursor"]) == (["late"], None)
    assert [one["lever_id"] for one in client.get("/v1/levers").json()["levers"]] == ["back", "kept"]


def test_the_list_of_changes_does_not_grow_for_ever(client):
    for n in range(53):
        client.put("/v1/levers/push", json={**LEVER, "factor": n + 1})
    changes = client.get("/v1/levers/push").json()["changes"]
    assert len(changes) == 50
    assert changes[-1]["change"] == "replaced"
    assert changes[-1]["set"] == {"factor": 4.0}


def test_a_lever_without_where_holds_for_all_offers(client):
    body = client.put("/v1/levers/all", json={"name": "n", "factor": 2, "reason": "r"}).json()
    assert (body["where"], body["starts_at"], body["ends_at"]) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"factor": None}, "/factor"),
        ({"factor": 0}, "/factor"),
        ({"factor": -1}, "/factor"),
        ({"factor": 1001}, "/factor"),
        ({"factor": True}, "/factor"),
        ({"factor": "1.3"}, "/factor"),
        ({"where": "offer.category ="}, "/where"),
        ({"where": 'catgory == "running"'}, "/where"),
        ({"where": ""}, "/where"),
        ({"starts_at": "2026-09-01T00:00:00Z"}, "/ends_at"),
        ({"reason": ""}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"weight": 2}, "/weight"),
    ],
)
def test_a_faulty_lever_is_a_422_that_points_at_the_field_and_stores_nothing(client, changes, pointer):
    answer = client.put("/v1/levers/push", json={**LEVER, **changes})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert client.get("/v1/levers/push").status_code == 404


def test_a_lever_needs_a_reason(client):
    answer = client.put("/v1/levers/push", json={name: LEVER[name] for name in LEVER if name != "reason"})
    assert [error["code"] for error in answer.json()["errors"]] == ["missing_field"]


@pytest.mark.parametrize("schema", ["LeverBody", "LeverOut", "LeverChange", "LeversOut"])
def test_the_description_says_what_every_field_of_a_lever_is(anybody, schema):
    fields = anybody.get("/openapi.json").json()["components"]["schemas"][schema]["properties"]
    assert [name for name, field in fields.items() if not field.get("description")] == []
