"""Offers and placements over HTTP."""

from __future__ import annotations

import pytest

OFFER = {"name": "20 % off", "value": 12.5, "treatments": [{"treatment_id": "o-9/a", "payload": {"title": "…"}}]}
DEFAULTS = {
    "category": None,
    "currency": "EUR",
    "cost": None,
    "status": "draft",
    "starts_at": None,
    "ends_at": None,
    "channels": [],
    "placements": [],
    "eligibility": None,
    "priority": 0,
    "retention": False,
    "inventory": None,
    "budget": None,
    "caps": [],
    "pacing": False,
    "attributes": {},
}
FULL = {
    **OFFER,
    "category": "running",
    "status": "approved",
    "starts_at": "2026-01-01T00:00:00+02:00",
    "ends_at": "2026-12-31T00:00:00Z",
    "channels": ["web"],
    "placements": ["hero"],
    "priority": -3,
    "retention": True,
    "attributes": {"colour": "red", "sizes": [38, 39], "deep": {"a": None}},
    "treatments": [{"treatment_id": "o-9/a", "payload": {"n": 1.5}, "channels": ["web"], "placements": ["hero"]}],
}
PLACEMENT = {"name": "hero", "channel": "web"}


def test_a_new_offer_gets_its_defaults(client):
    answer = client.put("/v1/offers/o-9", json=OFFER)
    assert answer.status_code == 201
    body = answer.json()
    treatment = {"treatment_id": "o-9/a", "payload": {"title": "…"}, "channels": [], "placements": []}
    assert body == {
        **DEFAULTS,
        "name": "20 % off",
        "value": 12.5,
        "treatments": [treatment],
        "offer_id": "o-9",
        "version": body["version"],
        "updated_at": "2026-03-01T12:00:00Z",
    }


def test_put_replaces_the_whole_object(client):
    client.put("/v1/offers/o-9", json=FULL)
    answer = client.put("/v1/offers/o-9", json=OFFER)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/offers/o-9", FULL), ("/v1/offers/o-9", OFFER), ("/v1/placements/p", PLACEMENT)]
)
def test_what_get_gave_can_be_put_back_and_changes_nothing(client, path, body):
    made = client.put(path, json=body)
    found = client.get(path)
    assert found.json() == made.json()
    again = client.put(path, json=found.json())
    assert (again.status_code, again.json()) == (200, made.json())
    assert made.headers["etag"] == found.headers["etag"] == again.headers["etag"]


def test_times_are_kept_as_instants(client):
    assert client.put("/v1/offers/o-9", json=FULL).json()["starts_at"] == "2025-12-31T22:00:00Z"


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [("/v1/offers/o", OFFER, FULL), ("/v1/placements/p", PLACEMENT, {**PLACEMENT, "max_offers": 3})],
)
def test_if_match_guards_against_a_lost_update(client, path, one, other):
    assert client.put(path, json=one, headers={"If-Match": '"1"'}).status_code == 412
    first = client.put(path, json=one).headers["etag"]
    second = client.put(path, json=other, headers={"If-Match": first})
    assert second.status_code == 200
    stale = client.put(path, json=one, headers={"If-Match": first})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    assert client.delete(path, headers={"If-Match": first}).status_code == 412
    assert client.put(path, json=one, headers={"If-Match": "*"}).status_code == 200


def test_delete_archives_an_offer_and_put_revives_it(client):
    client.put("/v1/offers/o-9", json=FULL)
    assert client.delete("/v1/offers/o-9").status_code == 200
    assert client.get("/v1/offers/o-9").json()["status"] == "archived"
    assert client.put("/v1/offers/o-9", json=FULL).json()["status"] == "approved"


def test_a_placement_that_was_deleted_is_gone(client):
    client.put("/v1/placements/p", json=PLACEMENT)
    assert client.delete("/v1/placements/p").status_code == 200
    assert client.get("/v1/placements/p").status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/offers/none", "/v1/placements/none"])
def test_what_is_not_there_is_a_404(client, method, path):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(("kind", "body"), [("offers", OFFER), ("placements", PLACEMENT)])
def test_lists_come_in_pages_ordered_by_id(client, kind, body):
    for name in ("b", "B", "a", "Z", "1"):
        client.put(f"/v1/{kind}/x-{name}", json=body)
    seen, cursor = [], None
    while True:
        found = client.get(f"/v1/{kind}", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one[f"{kind[:-1]}_id"] for one in found[kind]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
        assert len(found[kind]) == 2
    assert seen == sorted(seen)
    assert {"x-b", "x-B", "x-a", "x-Z", "x-1"} < set(seen)


def test_an_empty_cursor_is_the_first_page(client):
    assert client.get("/v1/offers?limit=50&cursor=").json() == client.get("/v1/offers").json()


def test_a_page_that_is_exactly_full_has_no_next_one(client):
    assert client.get("/v1/offers?limit=1").json()["next_cursor"] is None  # the fixture's one offer


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "cursor=%21", "cursor=YQ%3D%3D%00", "curser=YQ"])
def test_a_strange_page_is_a_422(client, query):
    answer = client.get(f"/v1/offers?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["in"]) == (422, "query")


@pytest.mark.parametrize("offer_id", ["a.b_c:d-9", "x" * 128, "...", "a%3Ab"])
def test_ids_are_what_the_contract_allows(client, offer_id):
    assert client.put(f"/v1/offers/{offer_id}", json=OFFER).status_code == 201


@pytest.mark.parametrize("offer_id", ["a%2Fb", "a%20b", "x" * 129, "%C3%BC", "%00", "%FF", "%zz", "a%0A"])
def test_any_other_id_is_a_422(client, offer_id):
    answer = client.put(f"/v1/offers/{offer_id}", json=OFFER)
    assert (answer.status_code, answer.json()["errors"][0]) == (
        422,
        {**answer.json()["errors"][0], "pointer": "/offer_id", "in": "path"},
    )


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "a\x00"}, "/name"),
        ({"name": None}, "/name"),
        ({"value": None}, "/value"),
        ({"value": "12"}, "/value"),
        ({"value": True}, "/value"),
        ({"value": 1e13}, "/value"),
        ({"currency": "USD"}, "/currency"),
        ({"currency": "eur"}, "/currency"),
        ({"treatments": []}, "/treatments"),
        ({"treatments": [{}]}, "/treatments/0/treatment_id"),
        ({"treatments": OFFER["treatments"] * 2}, "/treatments/1/treatment_id"),
        ({"treatments": [{"treatment_id": "a", "payloud": {}}]}, "/treatments/0/payloud"),
        ({"status": "live"}, "/status"),
        ({"starts_at": "2026-01-01"}, "/starts_at"),
        ({"starts_at": 5}, "/starts_at"),
        ({"starts_at": "2026-01-01T00:00:00"}, "/starts_at"),
        ({"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "/ends_at"),
        ({"channels": "web"}, "/channels"),
        ({"channels": [""]}, "/channels/0"),
        ({"placements": ["a b"]}, "/placements/0"),
        ({"priority": 1.5}, "/priority"),
        ({"priority": 10**7}, "/priority"),
        ({"retention": 1}, "/retention"),
        ({"attributes": []}, "/attributes"),
        ({"attributes": {"a": 2**63}}, "/attributes/a"),
        ({"prio": 1}, "/prio"),
        ({"cost": {"amount": 2, "per": "accept"}}, "/cost"),
        ({"inventory": 5}, "/inventory"),
        ({"eligibility": "age >= 18"}, "/eligibility"),
        ({"budget": {"amount": 1, "per": "day"}}, "/budget"),
        ({"caps": [{}]}, "/caps"),
        ({"pacing": True}, "/pacing"),
        ({"pacing": 0}, "/pacing"),
    ],
)
def test_a_faulty_offer_is_a_422_that_points_at_the_field_and_stores_nothing(client, changes, pointer):
    answer = client.put("/v1/offers/o-9", json={**OFFER, **changes})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert client.get("/v1/offers/o-9").status_code == 404


def test_a_rule_that_is_not_built_is_refused_with_the_reason(client):
    answer = client.put("/v1/offers/o-9", json={**OFFER, "inventory": 5})
    assert "not built yet" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"channel": ""}, "/channel"),
        ({"max_offers": 0}, "/max_offers"),
        ({"max_offers": 101}, "/max_offers"),
        ({"fallback_offer_id": "a b"}, "/fallback_offer_id"),
        ({"guaranteed_offer_ids": [1]}, "/guaranteed_offer_ids/0"),
        ({"max_per_category": 0}, "/max_per_category"),
        ({"chanel": "web"}, "/chanel"),
    ],
)
def test_a_faulty_placement_is_a_422_that_points_at_the_field(client, changes, pointer):
    answer = client.put("/v1/placements/p", json={**PLACEMENT, **changes})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_a_placement_gets_its_defaults(client):
    body = client.put("/v1/placements/p", json=PLACEMENT).json()
    assert body == {
        "placement_id": "p",
        "name": "hero",
        "channel": "web",
        "max_offers": 10,
        "fallback_offer_id": None,
        "guaranteed_offer_ids": [],
        "max_per_category": None,
        "version": body["version"],
        "updated_at": "2026-03-01T12:00:00Z",
    }
