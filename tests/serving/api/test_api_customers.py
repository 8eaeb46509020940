"""PUT and GET /v1/customers/{id} and its preferences."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import quote

import pytest

from features.catalogue import Cap, ContactPolicy, Offer
from features.errors import StoreUnavailable
from features.events import to_us
from features.facts import Catalogue
from serving.catalogue_view import CatalogueView
from serving.rules.limits import Limits
from serving.state.contacts import Contact, ContactHistory


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
        "muted_categories": [],
        "less_like": [],
        "anonymous_ids": [],
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
        ({"consent": {"category:": False}}, "/consent/category:"),
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


def test_a_faulty_key_is_said_to_be_one(put):
    (error,) = put({"attributes": {"": 1}}).json()["errors"]
    assert error["detail"].startswith("a key of attributes: ")


def test_recent_interactions_come_newest_first(client, get):
    events = [
        {"event_id": f"e-{i}", "event_type": "visit", "customer_id": "c-1", "occurred_at": f"2026-03-01T11:{i:02}:00Z"}
        for i in range(60)
    ]
    client.post("/v1/events", json={"events": events})
    recent = get().json()["recent_interactions"]
    assert len(recent) == 50
    assert (recent[0]["event_id"], recent[0]["occurred_at"]) == ("e-59", "2026-03-01T11:59:00Z")


def test_caps_left_are_those_that_counted_and_those_on_everything(service, get):
    at_us = to_us(service.now) - 3_600_000_000
    contacts = tuple(
        Contact(offer_id, "shoes", "hero", channel, f"d{n}", at_us + n, at_us + n, seen_us=at_us + n)
        for n, (offer_id, channel) in enumerate([("o-1", "web"), ("o-1", "email"), ("o-2", "web")])
    )
    service.contacts = SimpleNamespace(histories=lambda ids: [ContactHistory(contacts)])
    policy = ContactPolicy(
        policy_id="calm", name="calm", channels=("web",), caps=(Cap(limit=5, window="7d", of="all"),)
    )  # fmt: skip
    offer = Offer(
        offer_id="o-1", name="one", value=1.0, currency="EUR", treatments=(), caps=(Cap(limit=1, window="1d"),),
    )  # fmt: skip
    service.decider.edition.limits = Limits(CatalogueView(Catalogue(1, (offer,), (), (policy,))))
    asked = ("policy_id", "offer_id", "channels", "of", "counted", "window", "limit", "used", "left")
    assert [tuple(cap[name] for name in asked) for cap in get().json()["caps_left"]] == [
        ("calm", None, ["web"], "all", None, "7d", 5, 2, 3),
        (None, "o-1", [], "offer", "o-1", "1d", 1, 2, 0),
    ]


def test_a_cap_on_categories_has_no_entry_for_contacts_without_one_which_it_does_not_limit(service, get):
    at_us = to_us(service.now) - 3_600_000_000
    contacts = tuple(
        Contact("o-1", category, "hero", "web", f"d{n}", at_us + n, at_us + n, seen_us=at_us + n)
        for n, category in enumerate((None, None, "shoes"))
    )
    service.contacts = SimpleNamespace(histories=lambda ids: [ContactHistory(contacts)])
    policy = ContactPolicy(policy_id="calm", name="calm", caps=(Cap(limit=1, window="7d", of="category"),))
    offer = Offer(offer_id="o-1", name="one", value=1.0, currency="EUR", treatments=())
    service.decider.edition.limits = Limits(CatalogueView(Catalogue(1, (offer,), (), (policy,))))
    assert [(cap["counted"], cap["used"]) for cap in get().json()["caps_left"]] == [("shoes", 1)]


def test_contacts_that_cannot_be_read_are_not_shown_as_none_used(service, get):
    def fails(ids):
        raise StoreUnavailable("locked")

    service.contacts = SimpleNamespace(histories=fails)
    answer = get()
    assert (answer.status_code, answer.json()["caps_left"]) == (200, None)


# Preferences


@pytest.fixture
def preferences(client):
    def ask(method, body=None, customer_id="c-1"):
        content = {} if body is None else {"json": body}
        return client.request(method, f"/v1/customers/{quote(customer_id, safe='')}/preferences", **content)

    return ask


def test_preferences_are_kept_each_list_for_itself(preferences, service, get):
    nothing = {"customer_id": "a/b", "muted_categories": [], "less_like": [], "updated_at": None}
    assert preferences("GET", customer_id="a/b").json() == nothing
    preferences("PUT", {"muted_categories": ["shoes", "toys", "shoes"]})
    found = preferences("PUT", {"less_like": ["o-1"]}).json()
    assert (found["muted_categories"], found["less_like"]) == (["shoes", "toys"], ["o-1"])
    assert get().json()["muted_categories"] == ["shoes", "toys"]
    profile = service.facts.profile("c-1")
    assert (profile.muted_categories, profile.less_like) == (("shoes", "toys"), ("o-1",))
    assert preferences("PUT", {"muted_categories": []}).json()["muted_categories"] == []
    assert preferences("PUT", preferences("GET").json()).json()["less_like"] == ["o-1"]


def test_preferences_and_profile_do_not_touch_each_other(preferences, put, get):
    put({"attributes": {"age": 30}, "consent": {"web": True}})
    preferences("PUT", {"muted_categories": ["shoes"], "less_like": ["o-1"]})
    put({"attributes": {"age": 31}})
    found = get().json()
    assert (found["attributes"], found["consent"], found["muted_categories"]) == (
        {"age": 31}, {"web": True, "category:shoes": False}, ["shoes"],
    )  # fmt: skip
    assert preferences("DELETE").json()["muted_categories"] == []
    found = get().json()
    assert (found["attributes"], found["consent"], found["less_like"]) == ({"age": 31}, {"web": True}, [])


def test_a_mute_is_one_thing_however_it_is_said(client, preferences, put, get):
    def say(event_type, at):
        event = {"event_id": at, "event_type": event_type, "customer_id": "c-1", "occurred_at": at}
        given = {"events": [{**event, "properties": {"category": "toys"}}]}
        assert client.post("/v1/events", json=given).json()["accepted"] == 1

    say("opt_out", "2026-03-01T11:58:00Z")
    assert preferences("GET").json()["muted_categories"] == get().json()["muted_categories"] == ["toys"]
    assert preferences("PUT", {"muted_categories": []}).json()["muted_categories"] == []
    assert get().json()["consent"] == {}
    say("opt_out", "2026-03-01T11:59:00Z")  # late: unmuted since
    assert preferences("GET").json()["muted_categories"] == []
    preferences("PUT", {"muted_categories": ["toys"]})
    say("opt_in", "2026-03-01T12:00:01Z")
    assert preferences("GET").json()["muted_categories"] == []
    assert put({"consent": {"category:toys": False}}).json()["muted_categories"] == ["toys"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"muted_categories": "shoes"}, "/muted_categories"),
        ({"muted_categories": [""]}, "/muted_categories/0"),
        ({"muted_categories": ["a\nb"]}, "/muted_categories/0"),
        ({"less_like": ["no such id!"]}, "/less_like/0"),
        ({"less_like": [f"o-{n}" for n in range(257)]}, "/less_like"),
        ({"muted": []}, "/muted"),
    ],
)
def test_a_faulty_preference_is_a_422_that_points_at_it(preferences, body, pointer):
    answer = preferences("PUT", body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
