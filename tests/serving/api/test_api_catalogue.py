"""Offers and placements over HTTP, and what all kinds of the catalogue share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from features.catalogue import ContactPolicy, Lever, Offer, Placement
from features.errors import StoreUnavailable
from features.experiment import Experiment
from serving.state.contacts import Level, Stock

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
    "eligibility": 'spent_30d >= 20 and context.device != "tv" and not offer.deep.a is missing',
    "cost": {"amount": 2.5, "per": "accept"},
    "inventory": 500,
    "budget": {"amount": 100.0, "per": "day"},
    "pacing": True,
    "caps": [
        {"of": "offer", "limit": 3, "window": "7d", "per": "customer"},
        {"of": "category", "limit": 1, "window": "calendar_day", "per": "customer"},
    ],
    "attributes": {"colour": "red", "sizes": [38, 39], "deep": {"a": None}},
    "treatments": [{"treatment_id": "o-9/a", "payload": {"n": 1.5}, "channels": ["web"], "placements": ["hero"]}],
}
PLACEMENT = {"name": "hero", "channel": "web"}
POLICY = {"name": "calm"}
LEVER = {"name": "push", "factor": 1.3, "reason": "summer"}
EXPERIMENT = {
    "hypothesis": "sampling pays",
    "variants": [
        {"name": "control", "weight": 0.5, "is_control": True},
        {"name": "thompson", "weight": 0.5, "policy": "thompson"},
    ],
    "primary_metric": "acceptance_rate",
}
KINDS = {  # path: (list, id, two bodies)
    "/v1/offers": ("offers", "offer_id", OFFER, FULL),
    "/v1/placements": ("placements", "placement_id", PLACEMENT, {**PLACEMENT, "max_offers": 3}),
    "/v1/contact-policies": ("contact_policies", "policy_id", POLICY, {**POLICY, "channels": ["web"]}),
    "/v1/levers": ("levers", "lever_id", LEVER, {**LEVER, "factor": 2.0}),
    "/v1/experiments": ("experiments", "experiment_id", EXPERIMENT, {**EXPERIMENT, "traffic": 0.5}),
}

OF = {
    "/v1/offers": Offer,
    "/v1/placements": Placement,
    "/v1/contact-policies": ContactPolicy,
    "/v1/levers": Lever,
    "/v1/experiments": Experiment,
}


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


@pytest.mark.parametrize(("path", "body"), [(f"{path}/x", body) for path, kind in KINDS.items() for body in kind[2:]])
def test_what_get_gave_can_be_put_back_and_changes_nothing(client, path, body):
    made = client.put(path, json=body)
    found = client.get(path)
    assert found.json() == made.json()
    again = client.put(path, json=found.json())
    assert (again.status_code, again.json()) == (200, made.json())
    assert made.headers["etag"] == found.headers["etag"] == again.headers["etag"]


def test_times_are_kept_as_instants(client):
    assert client.put("/v1/offers/o-9", json=FULL).json()["starts_at"] == "2025-12-31T22:00:00Z"


def test_a_full_offer_comes_back_as_it_was_sent(client):
    body = client.put("/v1/offers/o-9", json=FULL).json()
    assert {name: body[name] for name in FULL} == {**FULL, "starts_at": "2025-12-31T22:00:00Z"}


@pytest.mark.parametrize(("path", "one", "other"), [(f"{path}/x", *kind[2:]) for path, kind in KINDS.items()])
def test_if_match_guards_against_a_lost_update(client, path, one, other):
    assert client.put(path, json=one, headers={"If-Match": '"1"'}).status_code == 412
    first = client.put(path, json=one).headers["etag"]
    second = client.put(path, json=other, headers={"If-Match": first})
    assert second.status_code == 200
    stale = client.put(path, json=one, headers={"If-Match": first})
    assert (stale.status_code, stale.json()["code"]) == (412, "stale_version")
    assert client.delete(path, headers={"If-Match": first}).status_code == 412
    assert client.put(path, json=one, headers={"If-Match": "*"}).status_code == 200


def test_if_none_match_stores_only_what_is_not_there_yet(client):
    none = {"If-None-Match": "*"}
    assert client.put("/v1/offers/o-9", json=OFFER, headers=none).status_code == 201
    assert client.put("/v1/offers/o-9", json={**OFFER, "name": "other"}, headers=none).status_code == 412
    assert client.get("/v1/offers/o-9").json()["name"] == OFFER["name"]
    for odd in ({"If-None-Match": '"1"'}, {"If-None-Match": "*", "If-Match": "*"}):
        assert client.put("/v1/offers/o-9", json=OFFER, headers=odd).status_code == 422


def test_delete_archives_an_offer_and_put_revives_it(client):
    client.put("/v1/offers/o-9", json=FULL)
    assert client.delete("/v1/offers/o-9").status_code == 200
    assert client.get("/v1/offers/o-9").json()["status"] == "archived"
    assert client.put("/v1/offers/o-9", json=FULL).json()["status"] == "approved"


@pytest.mark.parametrize("path", [path for path in KINDS if path != "/v1/offers"])
def test_what_was_deleted_is_gone_and_the_answer_is_what_it_was(client, path):
    made = client.put(f"{path}/x", json=KINDS[path][2])
    gone = client.delete(f"{path}/x")
    assert gone.status_code == 200
    assert {name: gone.json()[name] for name in KINDS[path][2]} == {name: made.json()[name] for name in KINDS[path][2]}
    assert gone.headers["etag"] == made.headers["etag"]
    assert client.get(f"{path}/x").status_code == 404
    assert client.put(f"{path}/x", json=KINDS[path][2]).status_code == 201


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", KINDS)
def test_what_is_not_there_is_a_404(client, method, path):
    answer = client.request(method, f"{path}/none")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", KINDS)
def test_lists_come_in_pages_ordered_by_id(client, path):
    group, key, body, _ = KINDS[path]
    for name in ("b", "B", "a", "Z", "1"):
        client.put(f"{path}/x-{name}", json=body)
    seen, cursor = [], None
    while True:
        found = client.get(path, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one[key] for one in found[group]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
        assert len(found[group]) == 2
    assert seen == sorted(seen)
    assert {"x-b", "x-B", "x-a", "x-Z", "x-1"} <= set(seen)


@pytest.mark.parametrize("path", KINDS)
def test_a_list_shows_each_object_as_it_is_shown_alone(client, path):
    client.put(f"{path}/x", json=KINDS[path][3])
    alone = client.get(f"{path}/x").json()
    assert alone in client.get(path).json()[KINDS[path][0]]


@pytest.mark.parametrize("path", KINDS)
def test_every_change_is_kept_with_the_key_that_made_it(client, service, path):
    client.put(f"{path}/x", json=KINDS[path][2])
    client.put(f"{path}/x", json=KINDS[path][2])
    client.put(f"{path}/x", json=KINDS[path][3])
    client.delete(f"{path}/x")
    key_id = service.keys.verify(service.secret).key_id
    assert [change.by for change in service.facts.changes(OF[path], "x")] == [f"key {key_id}"] * 3


@pytest.mark.parametrize("path", KINDS)
def test_what_is_shown_is_what_the_description_lists(client, service, path):
    service.contacts = SimpleNamespace(stock=lambda now_us: Stock())
    shown = client.put(f"{path}/x", json=KINDS[path][2]).json()
    described = client.get("/openapi.json").json()
    answer = described["paths"][f"{path}/{{{KINDS[path][1]}}}"]["put"]["responses"]["201"]["content"]
    name = answer["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert set(described["components"]["schemas"][name]["properties"]) - {"warnings"} == set(shown)


def test_what_leads_nowhere_is_warned_of_and_stored(client):
    rule = (
        'spent_30d > 65 and spent_30d < 18 and consent.emial and offer.bramd == "x" and (logins > 1 or 5 < logins < 4)'
    )
    body = {
        **OFFER,
        "placements": ["hreo"],
        "channels": ["wbe"],
        "eligibility": rule.replace("logins", "visits_7d"),
        "attributes": {"brand": "y", "save_rate": 20},
    }
    client.put("/v1/placements/mail", json={"name": "mail", "channel": "email"})
    answer = client.put("/v1/offers/o-9", json=body)
    assert answer.status_code == 201, answer.text
    told = answer.json()["warnings"]
    assert [one.split(";")[0] for one in told] == [
        "placements names hreo, which is no placement",
        "channels names wbe, which is no channel of a placement",
        "attributes.save_rate is 20, expected a share from 0 to 1",
        "eligibility names consent.emial, which is no channel of a placement, offer or contact policy",
        "eligibility names offer.bramd, which no offer has among its attributes",
        "eligibility asks of visits_7d what no value can be: the ranges leave no room",
        "eligibility asks of spent_30d what no value can be: the ranges leave no room",
    ]
    assert "close is web" in told[1]
    assert "consent.email" in told[3]
    assert "offer.brand" in told[4]
    assert "warnings" not in client.get("/v1/offers/o-9").json()
    assert "warnings" not in client.put("/v1/offers/o-9", json=OFFER | {"eligibility": "18 <= spent_30d < 65"}).json()
    assert client.put("/v1/levers/l", json={**LEVER, "where": "offer.nope > 1"}).json()["warnings"]


@pytest.mark.parametrize("given", ['"1", "{}"', 'W/"{}"', '"{}" , "1"', "*"])
def test_if_match_may_be_a_list(client, given):
    tag = client.put("/v1/offers/o-9", json=OFFER).headers["ETag"].strip('"')
    changed = client.put("/v1/offers/o-9", json={**OFFER, "name": "x"}, headers={"If-Match": given.format(tag)})
    assert changed.status_code == 200
    lines = [("If-Match", '"1"'), ("If-Match", changed.headers["ETag"])]
    assert client.put("/v1/offers/o-9", json=OFFER, headers=lines).status_code == 200


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
        ({"cost": {"amount": -1, "per": "accept"}}, "/cost/amount"),
        ({"cost": {"amount": 1, "per": "click"}}, "/cost/per"),
        ({"cost": {"amount": 1}}, "/cost/per"),
        ({"cost": 2}, "/cost"),
        ({"inventory": -1}, "/inventory"),
        ({"inventory": 1.5}, "/inventory"),
        ({"inventory": True}, "/inventory"),
        ({"eligibility": ""}, "/eligibility"),
        ({"eligibility": 5}, "/eligibility"),
        ({"eligibility": "spent_30d >="}, "/eligibility"),
        ({"eligibility": "spent_30d >= 'much'"}, "/eligibility"),
        ({"eligibility": "__import__('os')"}, "/eligibility"),
        ({"budget": {"amount": 1, "per": "week"}, "cost": {"amount": 1, "per": "accept"}}, "/budget/per"),
        ({"budget": {"amount": 1, "per": "day"}}, "/budget"),
        ({"cost": {"amount": 1e-7, "per": "impression"}}, "/cost/amount"),
        ({"cost": {"amount": 1.0000005, "per": "accept"}}, "/cost/amount"),
        ({"budget": {"amount": 2e-7, "per": "day"}, "cost": {"amount": 1, "per": "accept"}}, "/budget/amount"),
        ({"caps": [{}]}, "/caps/0/limit"),
        ({"caps": [{"limit": 0, "window": "7d"}]}, "/caps/0/limit"),
        ({"caps": [{"limit": True, "window": "7d"}]}, "/caps/0/limit"),
        ({"caps": [{"limit": 1, "window": "7d"}, {"limit": 1, "window": "7 days"}]}, "/caps/1/window"),
        ({"caps": [{"limit": 1, "window": "0d"}]}, "/caps/0/window"),
        ({"caps": [{"limit": 1, "window": "367d"}]}, "/caps/0/window"),
        ({"caps": [{"limit": 1, "window": "calendar_year"}]}, "/caps/0/window"),
        ({"caps": [{"limit": 1, "window": "7d", "of": "brand"}]}, "/caps/0/of"),
        ({"caps": [{"limit": 1, "window": "7d", "of": "category"}]}, "/caps/0/of"),
        ({"caps": [{"limit": 1, "window": "7d", "per": "visitor"}]}, "/caps/0/per"),
        ({"caps": [{"limit": 1, "window": "7d"}] * 51}, "/caps"),
        ({"pacing": True}, "/pacing"),
        ({"pacing": 0}, "/pacing"),
        (
            {"pacing": True, "budget": {"amount": 1, "per": "total"}, "cost": {"amount": 1, "per": "accept"}},
            "/pacing",
        ),
    ],
)
def test_a_faulty_offer_is_a_422_that_points_at_the_field_and_stores_nothing(client, changes, pointer):
    answer = client.put("/v1/offers/o-9", json={**OFFER, **changes})
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert client.get("/v1/offers/o-9").status_code == 404


def test_all_faults_of_an_offer_are_told_at_once(client):
    body = {**OFFER, "currency": "USD", "pacing": True, "eligibility": "aeg > 1"}
    answer = client.put("/v1/offers/o-9", json=body).json()
    assert [error["pointer"] for error in answer["errors"]] == ["/currency", "/eligibility", "/pacing"]


@pytest.mark.parametrize(
    ("changes", "pointer", "named"),
    [
        ({"channels": ["web", 5]}, "/channels/1", "channels[1]: "),
        ({"caps": [{"limit": 0, "window": "7d"}]}, "/caps/0/limit", "limit: "),
    ],
)
def test_the_sentence_of_a_fault_begins_with_the_field_and_the_number_of_the_item(client, changes, pointer, named):
    (error,) = client.put("/v1/offers/o-9", json={**OFFER, **changes}).json()["errors"]
    assert error["detail"].startswith(named), error
    assert error["pointer"].startswith(pointer)


def test_an_unknown_name_in_a_rule_is_answered_with_the_close_ones(client):
    answer = client.put("/v1/offers/o-9", json={**OFFER, "eligibility": "not spend_30d < 20"})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == ("/eligibility", "bad_rule")
    assert "at character 5" in error["detail"]  # where the name stands, counted from 1
    assert "spent_30d" in error["detail"]


def test_one_customers_odd_value_does_not_keep_a_rule_from_being_saved(client, service):
    for n in range(3):
        client.put(f"/v1/customers/c-{n}", json={"attributes": {"age": 20 + n}})
    client.put("/v1/customers/odd", json={"attributes": {"age": "seventeen"}})
    assert client.put("/v1/offers/o-9", json={**OFFER, "eligibility": "age >= 18"}).status_code == 201


@pytest.mark.parametrize(("path", "field", "body"), [("offers", "eligibility", OFFER), ("levers", "where", LEVER)])
def test_a_rule_that_stays_as_it_is_is_not_judged_again(client, path, field, body):
    client.put("/v1/customers/c-1", json={"attributes": {"age": 20}})
    assert client.put(f"/v1/{path}/x", json={**body, field: "age >= 18"}).status_code == 201
    for n in range(2):  # now most customers have a text
        client.put(f"/v1/customers/odd-{n}", json={"attributes": {"age": "seventeen"}})
    assert client.put(f"/v1/{path}/x", json={**body, field: "age >= 18", "name": "another"}).status_code == 200
    for other, rule in (("x", "age >= 19"), ("y", "age >= 18")):
        assert client.put(f"/v1/{path}/{other}", json={**body, field: rule}).status_code == 422


def test_a_rule_may_name_an_attribute_as_soon_as_one_customer_has_it(client):
    rule = {**OFFER, "eligibility": "shoe_size >= 38"}
    assert client.put("/v1/offers/o-9", json=rule).status_code == 422
    client.put("/v1/customers/c", json={"attributes": {"shoe_size": 40}})
    assert client.put("/v1/offers/o-9", json=rule).status_code == 201
    text = client.put("/v1/offers/o-9", json={**rule, "eligibility": 'shoe_size == "large"'})
    assert text.json()["errors"][0]["pointer"] == "/eligibility"


@pytest.mark.parametrize("amount", [0, 0.000001, 0.1 + 0.2, 123456.789012, 999999999999.99])
def test_money_in_whole_millionths_is_stored_as_given(client, amount):
    sent = OFFER | {"cost": {"amount": amount, "per": "impression"}, "budget": None}
    assert client.put("/v1/offers/tea", json=sent).json()["cost"]["amount"] == amount


@pytest.mark.parametrize(
    ("changes", "left", "budget_left"),
    [
        ({}, None, None),
        ({"inventory": 500}, 490, None),
        ({"inventory": 10}, 0, None),
        ({"inventory": 3}, 0, None),  # a PUT may set the total below what was used
        ({"budget": {"amount": 100.0, "per": "total"}}, None, 49.5),
        ({"budget": {"amount": 100.0, "per": "day"}}, None, 79.9),
        ({"budget": {"amount": 10.0, "per": "day"}}, None, 0.0),
    ],
)
def test_an_offer_shows_what_is_left(client, service, changes, left, budget_left):
    stock = Stock({"o-9": Level(units=10, spent=50.5, spent_today=20.1)}, "2026-03-01")
    service.contacts = SimpleNamespace(stock=lambda now_us: stock)
    client.put("/v1/offers/o-9", json={**OFFER, "cost": {"amount": 1, "per": "accept"}, **changes})
    body = client.get("/v1/offers/o-9").json()
    assert (body["left"], body["budget_left"]) == (left, budget_left)


def test_of_an_offer_that_was_never_shown_all_is_left(client, service):
    service.contacts = SimpleNamespace(stock=lambda now_us: Stock())
    assert client.put("/v1/offers/o-9", json=FULL).json()["left"] == 500


def test_an_offer_can_be_withdrawn_while_its_stock_cannot_be_read(client, service):
    def down(now_us):
        raise StoreUnavailable("locked")

    service.contacts = SimpleNamespace(stock=down)
    client.put("/v1/offers/o-9", json=FULL)
    answer = client.delete("/v1/offers/o-9")
    assert (answer.status_code, answer.json()["status"]) == (200, "archived")
    assert "left" not in answer.json()


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
        ({"max_per_brand": 0}, "/max_per_brand"),
        ({"max_per_brand": "1"}, "/max_per_brand"),
        ({"guaranteed_offer_ids": ["a", "b", "a"]}, "/guaranteed_offer_ids/2"),
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
        "max_per_brand": None,
        "version": body["version"],
        "updated_at": "2026-03-01T12:00:00Z",
    }
