"""PUT and GET /v1/customers/{id}."""

from __future__ import annotations

from urllib.parse import quote

import pytest


@pytest.fixture
def put(client):
    return lambda body, customer_id="c-1": client.put(f"/v1/customers/{quote(customer_id, safe='')}", json=body)


@pytest.fixture
def get(client):
    return lambda customer_id="c-1": client.get(f"/v1/customers/{quote(customer_id, safe='')}")


def test_a_customer_nobody_knows_is_not_an_error(get):
    answer = get()
    assert answer.status_code == 200
    assert answer.json() == {
        "customer_id": "c-1",
        "attributes": {},
        "consent": {},
        "time_zone": None,
        "updated_at": None,
        "scores": {"p_churn": None},
        "recent_interactions": [],
        "caps_left": [],
    }


def test_what_is_put_is_merged_and_null_removes(put, get):
    put(
        {"attributes": {"age": 30, "city": "Kyiv"}, "consent": {"web": True, "email": True}, "time_zone": "Europe/Kyiv"}
    )
    put({"attributes": {"age": 31, "city": None, "vip": False}, "consent": {"email": None}})
    found = get().json()
    assert found["attributes"] == {"age": 31, "vip": False}
    assert found["consent"] == {"web": True}
    assert found["time_zone"] == "Europe/Kyiv"
    assert put({"time_zone": None}).json()["time_zone"] is None


def test_what_get_gave_can_be_put_back(put, get):
    put({"attributes": {"age": 30}, "consent": {"web": False}})
    assert put(get().json()).json() == get().json()


@pytest.mark.parametrize("customer_id", ["a/b", "a//b/", "%2F", "ü 🦆?#&+", "x" * 256, "preferences"])
def test_any_customer_id_fits_into_the_path(put, get, customer_id):
    assert put({"attributes": {"n": 1}}, customer_id).json()["customer_id"] == customer_id
    assert get(customer_id).json()["attributes"] == {"n": 1}


@pytest.mark.parametrize("raw", ["%00", "a%0Ab", "%C2%85", "%FF", "%zz", "x" * 257])
def test_what_is_no_customer_id_is_a_422(client, raw):
    answer = client.get(f"/v1/customers/{raw}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/customer_id")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"time_zone": "../etc/passwd"}, "/time_zone"),
        ({"time_zone": ""}, "/time_zone"),
        ({"consent": {"web": "yes"}}, "/consent/web"),
        ({"consent": {"web": 1}}, "/consent/web"),
        ({"consent": []}, "/consent"),
        ({"attributes": {"a/b": [1]}}, "/attributes/a~1b"),
        ({"attributes": {"a": {}}}, "/attributes/a"),
        ({"attributes": None}, "/attributes"),
        ({"attributes": {"": 1}}, "/attributes"),
        ({"attribute": {}}, "/attribute"),
    ],
)
def test_a_fault_is_a_422_that_points_at_the_field(put, get, body, pointer):
    answer = put(body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(pointer)
    assert get().json()["updated_at"] is None


def test_recent_interactions_come_newest_first(client, get):
    events = [
        {"event_id": f"e-{i}", "event_type": "visit", "customer_id": "c-1", "occurred_at": f"2026-03-01T11:{i:02}:00Z"}
        for i in range(60)
    ]
    client.post("/v1/events", json={"events": events})
    recent = get().json()["recent_interactions"]
    assert len(recent) == 50
    assert (recent[0]["event_id"], recent[0]["occurred_at"]) == ("e-59", "2026-03-01T11:59:00Z")
