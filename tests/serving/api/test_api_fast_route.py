"""The plain way beside the application: it takes only what the application takes, and answers the same."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.app import create_app
from serving.fast_route import FastDecisions, plain_request
from tests.serving.api.fakes import FakeService
from tests.serving.api.test_api_fuzz import DECISION, VALUES, places, replaced

PLAIN = {"customer_id": "c-1", "placements": [{"placement_id": "hero", "limit": 1}]}
FULL = {
    **PLAIN,
    "placements": [{"placement_id": "hero"}, {"placement_id": "strip", "limit": 3}],
    "channel": "web",
    "context": {"page": "/", "list": [1, {"a": None}], "nested": {"a": {"b": 2.5}}},
    "exclude_offer_ids": ["o-3", "o-4"],
    "deadline_ms": 50,
}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The service, the application, and the application behind the plain way."""
    service = FakeService(tmp_path_factory.mktemp("fast"))
    app = create_app(service)
    with TestClient(app, raise_server_exceptions=False) as slow:
        fast = TestClient(FastDecisions(app, service), raise_server_exceptions=False)
        yield service, slow, fast


def post(client, key, body, **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    return client.post("/v1/decisions", content=content, headers=given)


def same_but_for_ids(answer):
    body = answer.json()
    body.pop("decision_id", None)
    body.pop("request_id", None)
    return answer.status_code, answer.headers["content-type"], body


@pytest.mark.parametrize("body", [PLAIN, FULL, {"anonymous_id": "c-1", "placements": [{"placement_id": "hero"}]}])
def test_a_plain_question_is_taken_and_answered_as_by_the_application(both, body):
    service, slow, fast = both
    assert plain_request(json.dumps(body).encode()) is not None
    assert same_but_for_ids(post(fast, service.secret, body)) == same_but_for_ids(post(slow, service.secret, body))
    assert service.decider.asked[-1] == service.decider.asked[-2]


def test_the_answer_names_the_request_as_it_was_named_and_the_log_has_the_row(both):
    service, _, fast = both
    answer = post(fast, service.secret, PLAIN, **{"X-Request-Id": "r-17"})
    assert answer.headers["x-request-id"] == "r-17"
    assert len(post(fast, service.secret, PLAIN).headers["x-request-id"]) == 24
    service.log.submit_decisions([]).result(10)
    assert service.log_store.decision(answer.json()["decision_id"]) is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"customer_id": "a", "placements": []}',
        b'{"customer_id": "a", "customer_id": "b", "placements": [{"placement_id": "hero"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero", "limit": 1, "limit": 2}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "h", "limit": 1, "limit": 2}, {"placement_id": "b"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "context": {"a": 1, "a": 2}}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "context": {"a": "\\u0000"}}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "context": {"a": NaN}}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "context": {"a": "\\ud800"}}',
        b'{"customer_id": "a\\u0007", "placements": [{"placement_id": "hero"}]}',
        b'{"customer_id": "a", "anonymous_id": "a", "placements": [{"placement_id": "hero"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero", "limit": 1.5}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero", "limit": "1"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}, {"placement_id": "hero"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "h ro"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "nowhere"}]}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "typo": 1}',
        b'{"customer_id": "a", "placements": [{"placement_id": "hero"}], "deadline_ms": 4}',
        b"\xff",
    ],
)
def test_a_faulty_question_gets_the_error_of_the_application(both, body):
    service, slow, fast = both
    answer = post(fast, service.secret, body)
    assert answer.status_code >= 400
    assert same_but_for_ids(answer) == same_but_for_ids(post(slow, service.secret, body))


@pytest.mark.parametrize("key", ["sk_no", "pk_no", "", "sk_" + "a" * 4000])
def test_without_a_good_key_the_application_refuses(both, key):
    _, slow, fast = both
    assert post(fast, key, PLAIN).status_code == 401
    assert same_but_for_ids(post(fast, key, PLAIN)) == same_but_for_ids(post(slow, key, PLAIN))


def test_a_key_of_another_scope_is_refused_by_the_application(both):
    service, _, fast = both
    key = service.keys.create("secret", ("events",), "", service.now)
    assert post(fast, key, PLAIN).status_code == 403


@st.composite
def near_misses(draw):
    """A good question, with up to three values replaced by something odd and parts left out, as bytes."""
    body = {name: value for name, value in DECISION.items() if name not in ("idempotency_key", "dry_run", "explain")}
    body.pop("anonymous_id")
    for _ in range(draw(st.integers(0, 3))):
        body = replaced(body, draw(st.sampled_from(list(places(body)))), draw(VALUES))
        if not isinstance(body, dict):
            break
    text = json.dumps(body, allow_nan=True, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


@given(near_misses())
@settings(deadline=None, max_examples=150)
def test_what_the_plain_way_takes_the_application_takes_for_the_same(both, body):
    service, slow, _ = both
    request = plain_request(body)
    if request is not None:
        answer = post(slow, service.secret, body)
        if answer.status_code != 200:
            assert "there is no placement" in answer.json()["detail"]
        else:
            assert service.decider.asked[-1] == request
