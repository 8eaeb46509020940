"""Whatever is sent, the answer is never a 5xx, and always JSON that anybody reads."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.app import create_app
from tests.serving.api.fakes import FakeService
from tests.serving.api.test_api_catalogue import DEFAULTS

ODD = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**53 + 1,
        2**63,
        -(2**64),
        10**400,
        1e308,
        5e-324,
        -0.0,
        float("nan"),
        float("inf"),
        "",
        "\x00",
        "\ud800",
        "\U0001f986",
        "a/b",
        "..",
        "%2F",
        "hero",
        "o-1",
        "c-1",
        "EUR",
        "eur",
        "2026-03-01T12:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "7d",
        "999999d",
        "24:00",
        "age >=",
        "not " * 5000,
        "(" * 9999,
        "2026-02-30T00:00:00Z",
        "x" * 300,
        "\x85",
        "\u2028",
        [],
        {},
    ]
)
VALUES = st.recursive(
    ODD | st.text() | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | ODD.filter(lambda o: isinstance(o, str)), inner, max_size=3)
    ),
    max_leaves=8,
)

DECISION = {
    "customer_id": "c-1",
    "anonymous_id": None,
    "placements": [{"placement_id": "hero", "limit": 1}],
    "channel": "web",
    "context": {"a": 1},
    "exclude_offer_ids": ["o-3"],
    "idempotency_key": "k",
    "deadline_ms": 50,
    "explain": False,
    "dry_run": True,
}
EVENT = {
    "event_id": "e",
    "event_type": "purchase",
    "customer_id": "c-1",
    "anonymous_id": None,
    "occurred_at": "2026-03-01T11:00:00Z",
    "decision_id": "01J",
    "offer_id": "o-1",
    "placement_id": "hero",
    "session_id": "s",
    "channel": "web",
    "category": "a",
    "value": 25.2,
    "currency": "EUR",
    "properties": {"reason": "x"},
}
OFFER = {
    **DEFAULTS,
    "name": "n",
    "value": 1,
    "category": "shoes",
    "cost": {"amount": 1, "per": "accept"},
    "inventory": 5,
    "budget": {"amount": 9.5, "per": "day"},
    "pacing": True,
    "caps": [{"of": "offer", "limit": 3, "window": "7d", "per": "customer"}],
    "eligibility": "spent_30d >= 1",
    "treatments": [{"treatment_id": "t", "payload": {}}],
}
POLICY = {
    "name": "n",
    "channels": ["web"],
    "caps": [{"of": "all", "limit": 3, "window": "calendar_day", "per": "customer"}],
    "cooldown": {"impression": "1h", "dismiss": "30d"},
    "pause_after": {"ignored": 5, "rejected": 2, "for": "14d"},
    "quiet_hours": ["22:00", "07:00"],
}
LEVER = {"name": "n", "factor": 2, "where": "offer.a == 1", "starts_at": None, "ends_at": None, "reason": "r"}
PLACEMENT = {
    "name": "n",
    "channel": "web",
    "max_offers": 1,
    "fallback_offer_id": None,
    "guaranteed_offer_ids": [],
    "max_per_category": None,
    "max_per_brand": None,
}
CUSTOMER = {"attributes": {"age": 3}, "consent": {"web": True}, "time_zone": "Europe/Berlin"}
EXPERIMENT = {
    "hypothesis": "n",
    "unit": "session",
    "layer": "policy",
    "audience": "spent_30d >= 1",
    "traffic": 0.5,
    "variants": [
        {"name": "a", "weight": 0.5, "is_control": True, "policy": "greedy", "release": None, "levers": []},
        {"name": "b", "weight": 0.5, "treatments": {"o-1": "o-1/a"}},
    ],
    "primary_metric": "acceptance_rate",
    "secondary_metrics": ["dismissal_rate"],
    "guardrails": [{"metric": "opt_out_rate", "max_relative": 0.1, "min_relative": None}],
    "planned_units": 20,
    "alpha": 0.1,
}
BODIES = {
    ("POST", "/v1/decisions"): DECISION,
    ("POST", "/v1/decisions/batch"): {"requests": [DECISION, DECISION]},
    ("POST", "/v1/events"): {"events": [EVENT, EVENT]},
    ("PUT", "/v1/offers/o-fuzz"): OFFER,
    ("PUT", "/v1/placements/p-fuzz"): PLACEMENT,
    ("PUT", "/v1/contact-policies/c-fuzz"): POLICY,
    ("PUT", "/v1/levers/l-fuzz"): LEVER,
    ("PUT", "/v1/experiments/e-fuzz"): EXPERIMENT,
    ("PUT", "/v1/customers/c-fuzz"): CUSTOMER,
    ("PUT", "/v1/customers/c-fuzz/preferences"): {"muted_categories": ["a"], "less_like": ["o-1"]},
    ("POST", "/v1/customers/c-fuzz/identities"): {"anonymous_id": "a-1"},
}


def places(value, path=()):
    """Every place inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def near_misses(draw):
    """A route with a good body in which up to three values are replaced by something odd."""
    route = draw(st.sampled_from(sorted(BODIES)))
    body = BODIES[route]
    for _ in range(draw(st.integers(1, 3))):
        body = replaced(body, draw(st.sampled_from(list(places(body)))), draw(VALUES))
    return *route, body


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    service = FakeService(tmp_path_factory.mktemp("fuzz"))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {service.secret}"
        yield client


def fine(answer):
    assert answer.status_code < 500, answer.text
    body = json.loads(answer.content.decode("utf-8", "strict"))
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert body["status"] == answer.status_code
        assert all(one["pointer"] == "" or one["pointer"].startswith("/") for one in body["errors"])
    return body


@pytest.mark.parametrize(("route", "body"), BODIES.items(), ids=str)
def test_the_bodies_that_the_fuzz_starts_from_are_good(client, route, body):
    assert client.request(*route, json=body).status_code < 300


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(near_misses())
def test_a_body_that_is_nearly_right_is_never_our_fault(client, case):
    method, path, body = case
    content = json.dumps(body)  # NaN, Infinity and lone surrogates as Python writes them
    found = fine(client.request(method, path, content=content, headers={"Content-Type": "application/json"}))
    if "accepted" in found:
        n_asked = len(body["events"])
        assert found["accepted"] + found["duplicates"] + len(found["rejected"]) == n_asked
    if "results" in found:
        assert [one["index"] for one in found["results"]] == list(range(len(body["requests"])))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(BODIES)),
    st.binary(max_size=200),
    st.sampled_from(["application/json", "text/plain", "", "a/b/c;;="]),
)
def test_bytes_are_never_our_fault(client, route, content, kind):
    fine(client.request(*route, content=content, headers={"Content-Type": kind}))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["offers", "placements", "contact-policies", "levers", "experiments", "customers", "decisions"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.sampled_from(["GET", "DELETE", "PATCH"]),
)
def test_a_path_is_never_our_fault(client, kind, name, method):
    fine(client.request(method, f"/v1/{kind}/{quote(name, safe='')}"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["limit", "cursor", "x"]), st.text(max_size=20), max_size=3))
def test_a_query_is_never_our_fault(client, query):
    fine(client.get("/v1/offers", params=query))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["If-Match", "Authorization", "X-Request-Id", "Content-Type"]), st.binary(max_size=40))
def test_a_header_is_never_our_fault(client, name, value):
    value = bytes(c for c in value if c not in b"\r\n\0")
    fine(client.put("/v1/offers/o-1", json=OFFER, headers={name: value}))
