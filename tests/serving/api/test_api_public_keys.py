"""Keys in web pages: for whom, from where, how often, and what they are shown."""

from __future__ import annotations

import time

import pytest

from serving.customer_token import sign
from serving.keys import KeyLimits
from tests.serving.api.fakes import NOW
from tests.serving.api.test_api_door import KEYED, is_problem

SHOP, OTHER = "https://shop.example", "https://evil.example"
ASK = {"placements": [{"placement_id": "hero"}]}
VISIT = {"event_type": "visit", "occurred_at": "2026-03-01T11:59:00Z"}


@pytest.fixture
def page(anybody, service):
    """A client in a page of the shop: its key may decide and send events."""

    def make(origins=(SHOP,), scopes=("decide", "events"), **rates):
        token = service.keys.create("public", scopes, "page", NOW, KeyLimits(tuple(origins), **rates))
        anybody.headers["Authorization"] = f"Bearer {token}"
        anybody.headers["Origin"] = SHOP
        anybody.signing_secret = service.keys.verify(token).signing_secret
        return anybody

    return make


def token_of(client, customer_id="c-1", age_s=0):
    return sign(client.signing_secret, customer_id, time.time() - age_s)


def test_an_anonymous_visitor_gets_the_shorter_answer(page):
    answer = page().post("/v1/decisions", json=ASK | {"anonymous_id": "v"})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {
        "decision_id", "customer_id", "anonymous_id", "decided_at", "expires_at", "currency", "placements", "policy",
        "holdout", "degraded",
    }  # fmt: skip
    (offer,) = body["placements"][0]["offers"]
    assert offer == {
        "rank": 1, "offer_id": "o-1", "treatment_id": "o-1/a", "selection_probability": 0.975,
        "reason_codes": ["similar_customers"], "payload": {"title": "hello"}, "is_fallback": False,
    }  # fmt: skip


def test_reasons_that_are_not_for_customers_are_left_out():
    from serving.public_keys import shorter

    offer = {"offer_id": "o", "score": 1, "reason_codes": ["explored", "similar_customers", "at_risk", "anything_new"]}
    short = shorter(
        {"placements": [{"placement_id": "p", "offers": [offer]}], "model_versions": {}, "policy": "greedy"}
    )
    assert short == {
        "placements": [{"placement_id": "p", "offers": [{"offer_id": "o", "reason_codes": ["similar_customers"]}]}],
        "policy": "greedy",
    }


def test_a_secret_key_sees_everything(client):
    body = client.post("/v1/decisions", json=ASK | {"anonymous_id": "v"}).json()
    assert {"model_versions", "experiments"} <= body.keys()
    assert {"score", "p_accept", "value"} <= body["placements"][0]["offers"][0].keys()


def test_a_customer_needs_the_sites_word(page):
    client = page()
    question = ASK | {"customer_id": "c-1"}
    is_problem(client.post("/v1/decisions", json=question), 403, "customer_token_refused")
    for token in (token_of(client, "c-2"), token_of(client, age_s=3700), "nonsense"):
        is_problem(
            client.post("/v1/decisions", json=question | {"customer_token": token}), 403, "customer_token_refused"
        )
    answer = client.post("/v1/decisions", json=question | {"customer_token": token_of(client)})
    assert (answer.status_code, answer.json()["customer_id"]) == (200, "c-1")


def test_a_token_of_another_key_is_none(page, service):
    first = token_of(page())
    answer = page().post("/v1/decisions", json=ASK | {"customer_id": "c-1", "customer_token": first})
    is_problem(answer, 403, "customer_token_refused")


def test_a_renewed_token_is_still_the_same_question(page):
    client = page()
    question = ASK | {"customer_id": "c-1", "idempotency_key": "once", "deadline_ms": 5000}
    one = client.post("/v1/decisions", json=question | {"customer_token": token_of(client, age_s=100)})
    two = client.post("/v1/decisions", json=question | {"customer_token": token_of(client)})
    assert (one.status_code, one.content) == (200, two.content)
    assert "score" not in two.json()["placements"][0]["offers"][0]


@pytest.mark.parametrize("field", ["explain", "dry_run"])
def test_explain_and_dry_run_are_for_secret_keys(page, field):
    answer = page().post("/v1/decisions", json=ASK | {"anonymous_id": "v", field: True})
    assert answer.status_code in (403, 422)
    assert "offers" not in answer.text


def test_events_are_of_the_visitor_or_of_whom_the_site_vouches_for(page, service):
    client = page()
    events = [
        VISIT | {"event_id": "a", "anonymous_id": "v"},
        VISIT | {"event_id": "b", "customer_id": "c-1"},
        VISIT | {"event_id": "c", "customer_id": "c-2"},
    ]
    found = client.post("/v1/events", json={"events": events}).json()
    assert [(one["index"], one["code"]) for one in found["rejected"]] == [
        (1, "customer_token_refused"), (2, "customer_token_refused"),
    ]  # fmt: skip
    found = client.post("/v1/events", json={"events": events, "customer_token": token_of(client)}).json()
    assert (found["accepted"], found["duplicates"], [one["index"] for one in found["rejected"]]) == (1, 1, [2])
    assert {one.event_id for one in service.log_store.events_after(0, 9)} == {"a", "b"}


@pytest.mark.parametrize(
    ("method", "path"), [one for one in KEYED if one not in (("POST", "/v1/decisions"), ("POST", "/v1/events"))]
)
def test_everything_else_is_for_secret_keys(page, method, path):
    is_problem(page().request(method, path, json={}), 403, "forbidden")


def test_a_public_key_has_scopes_too(page):
    is_problem(page(scopes=("decide",)).post("/v1/events", json={"events": []}), 403, "forbidden")


# Where a page may be


def test_the_keys_own_pages_may_read_the_answer_and_so_may_they_a_problem(page):
    client = page()
    for body, status in ((ASK | {"anonymous_id": "v"}, 200), ({}, 422), (ASK | {"customer_id": "c"}, 403)):
        answer = client.post("/v1/decisions", json=body)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert answer.headers["vary"] == "Origin"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", [OTHER, "null", "https://shop.example.evil.example", "http://shop.example", ""])
def test_pages_of_other_origins_are_refused_and_may_read_nothing(page, origin):
    client = page()
    answer = client.post("/v1/decisions", json=ASK | {"anonymous_id": "v"}, headers={"Origin": origin})
    is_problem(answer, 403, "forbidden")
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


def test_each_key_is_for_its_own_pages(page, service):
    service.keys.create("public", ["decide"], "", NOW, KeyLimits((OTHER,)))
    answer = page().post("/v1/decisions", json=ASK | {"anonymous_id": "v"}, headers={"Origin": OTHER})
    is_problem(answer, 403, "forbidden")


def test_an_app_that_sends_no_origin_may_call(page):
    client = page()
    del client.headers["Origin"]
    answer = client.post("/v1/decisions", json=ASK | {"anonymous_id": "v"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def preflight(client, path="/v1/decisions", origin=SHOP):
    client.headers.pop("Authorization", None)
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return client.options(path, headers=headers)


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/events"])
def test_a_preflight_passes_for_pages_that_some_key_is_for(page, path):
    answer = preflight(page(), path)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_of_others_does_not_pass(page, service):
    client = page()
    answer = preflight(client, origin=OTHER)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    for key in service.keys.all():
        service.keys.revoke(key.key_id, NOW)
    assert preflight(client).status_code == 403


def test_there_is_no_preflight_where_no_public_key_may_call(page):
    answer = preflight(page(), "/v1/offers")
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_a_secret_key_lets_no_page_read(client):
    answer = client.post("/v1/decisions", json=ASK | {"anonymous_id": "v"}, headers={"Origin": SHOP})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


# How often


def test_above_its_rate_a_key_waits(page):
    client = page(per_s=1.0)
    answers = [client.post("/v1/decisions", json=ASK | {"anonymous_id": f"v{n}"}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    is_problem(answers[2], 429, "too_many_requests")
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[2].headers["access-control-allow-origin"] == SHOP


def test_one_visitor_does_not_use_up_what_others_may(page):
    client = page(visitor_per_s=0.5)
    ask = [client.post("/v1/decisions", json=ASK | {"anonymous_id": "loud"}).status_code for _ in range(4)]
    assert ask == [200, 200, 200, 429]
    assert client.post("/v1/decisions", json=ASK | {"anonymous_id": "quiet"}).status_code == 200


def test_each_event_counts_for_its_visitor(page, service):
    client = page(visitor_per_s=0.5)
    events = [VISIT | {"event_id": f"e{n}", "anonymous_id": "loud"} for n in range(3)]
    assert client.post("/v1/events", json={"events": events}).status_code == 202
    is_problem(client.post("/v1/events", json={"events": events[:1]}), 429, "too_many_requests")


def test_a_secret_key_with_a_rate_is_held_to_it_on_every_way(anybody, service):
    token = service.keys.create("secret", ["decide"], "", NOW, KeyLimits(per_s=1.0))
    anybody.headers["Authorization"] = f"Bearer {token}"
    plain = {"customer_id": "c", "placements": [{"placement_id": "hero"}]}
    assert [anybody.post("/v1/decisions", json=plain).status_code for _ in range(3)] == [200, 200, 429]


def test_every_event_of_a_visitor_counts_however_many_come_at_once(page):
    client = page(visitor_per_s=0.5)

    def send(name, n):
        events = [{**VISIT, "event_id": f"{name}-{i}", "anonymous_id": "flood"} for i in range(n)]
        return client.post("/v1/events", json={"events": events})

    is_problem(send("a", 1000), 429, "too_many_requests")
    accepted = sum(answer.json().get("accepted", 0) for answer in (send(f"b{n}", 3) for n in range(8)))
    assert accepted == 3  # the burst of six seconds, which is not full again for as long
