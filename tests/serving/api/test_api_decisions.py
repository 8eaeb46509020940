"""POST /v1/decisions and its log row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from features.errors import StoreUnavailable
from serving.api.decisions import DecisionOut

HERO = {"placement_id": "hero", "limit": 1}
ASK = {"customer_id": "c-1", "placements": [HERO]}


@pytest.fixture
def decide(client):
    # A deadline that a busy machine keeps, too.
    return lambda **changes: client.post("/v1/decisions", json={**ASK, "deadline_ms": 5000, **changes})


def rows(service):
    service.log.submit((), service.now).result()  # what was submitted before is now written
    return service.log_store.decisions_after(0, 100)


def test_the_answer_has_the_fields_of_the_contract_and_no_other(decide):
    answer = decide()
    assert answer.status_code == 200
    assert answer.json() == {
        "decision_id": "01J00000000000000000000001",
        "customer_id": "c-1",
        "decided_at": "2026-03-01T12:00:00Z",
        "expires_at": "2026-03-01T12:30:00Z",
        "currency": "EUR",
        "placements": [
            {
                "placement_id": "hero",
                "offers": [
                    {
                        "rank": 1,
                        "offer_id": "o-1",
                        "treatment_id": "o-1/a",
                        "score": 0.5,
                        "p_accept": 0.05,
                        "selection_probability": 0.975,
                        "value": 10.0,
                        "reason_codes": ["similar_customers"],
                        "payload": {"title": "hello"},
                        "is_fallback": False,
                    }
                ],
            }
        ],
        "policy": "greedy",
        "experiments": [],
        "holdout": False,
        "model_versions": {"release": "12", "recommender": "4", "acceptance": "7", "churn": "3"},
        "degraded": [],
    }


def test_the_answer_is_what_the_description_says(decide):
    DecisionOut.model_validate_json(decide().content)


def test_the_question_reaches_the_decider_as_asked(decide, service):
    decide(channel="app", context={"page": "/"}, exclude_offer_ids=["o-3"], deadline_ms=20)
    asked = service.decider.asked[0]
    assert (asked.customer_id, asked.channel, asked.context, asked.deadline_ms) == ("c-1", "app", {"page": "/"}, 20)
    assert asked.exclude_offer_ids == {"o-3"}
    assert (asked.placements[0].placement_id, asked.placements[0].limit) == ("hero", 1)


def test_an_anonymous_visitor_gets_back_the_id_it_came_with(decide, service):
    answer = decide(customer_id=None, anonymous_id="c-1").json()
    assert (answer["customer_id"], answer["anonymous_id"]) == (None, "c-1")
    assert service.decider.asked[0].customer_id == "\x1fc-1"


def test_the_decision_is_logged_with_the_row_the_decider_made(decide, service):
    decision_id = decide().json()["decision_id"]
    (row,) = rows(service)
    assert (row.decision_id, row.customer_id) == (decision_id, "c-1")
    assert orjson.loads(row.payload)["decision_id"] == decision_id


def test_a_dry_run_logs_nothing_and_ignores_the_idempotency_key(decide, service):
    first, second = (decide(dry_run=True, idempotency_key="k").json()["decision_id"] for _ in range(2))
    assert first != second
    assert rows(service) == []
    assert decide(idempotency_key="k", context={"other": 1}).status_code == 200


def test_a_logged_decision_can_be_read(decide, client, service):
    decision_id = decide(customer_id=None, anonymous_id="a").json()["decision_id"]
    rows(service)
    found = client.get(f"/v1/decisions/{decision_id}").json()
    assert (found["decision_id"], found["customer_id"], found["anonymous_id"]) == (decision_id, None, "a")
    assert client.get("/v1/decisions/nope").status_code == 404


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"customer_id": None}, "/customer_id"),
        ({"anonymous_id": "a"}, "/customer_id"),
        ({"customer_id": ""}, "/customer_id"),
        ({"customer_id": "x" * 257}, "/customer_id"),
        ({"customer_id": "a\nb"}, "/customer_id"),
        ({"customer_id": "a\x85b"}, "/customer_id"),
        ({"customer_id": 17}, "/customer_id"),
        ({"placements": []}, "/placements"),
        ({"placements": [{**HERO, "placement_id": f"p{i}"} for i in range(21)]}, "/placements"),
        ({"placements": [HERO, HERO]}, "/placements/1/placement_id"),
        ({"placements": [HERO, {"placement_id": "unknown", "limit": 1}]}, "/placements/1/placement_id"),
        ({"placements": [{"placement_id": "a/b", "limit": 1}]}, "/placements/0/placement_id"),
        ({"placements": [{**HERO, "limit": 0}]}, "/placements/0/limit"),
        ({"placements": [{**HERO, "limit": 101}]}, "/placements/0/limit"),
        ({"placements": [{**HERO, "limit": True}]}, "/placements/0/limit"),
        ({"placements": [{**HERO, "limit": "1"}]}, "/placements/0/limit"),
        ({"placements": [{**HERO, "limits": 1}]}, "/placements/0/limits"),
        ({"placement": "hero"}, "/placement"),
        ({"a~b/c": 1}, "/a~0b~1c"),
        ({"deadline_ms": 4}, "/deadline_ms"),
        ({"deadline_ms": 5001}, "/deadline_ms"),
        ({"context": [1]}, "/context"),
        ({"context": {str(i): i for i in range(65)}}, "/context"),
        ({"context": {"a": "x" * 16_400}}, "/context"),
        ({"exclude_offer_ids": ["a b"]}, "/exclude_offer_ids/0"),
        ({"idempotency_key": ""}, "/idempotency_key"),
        ({"explain": "yes"}, "/explain"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"channel": ""}, "/channel"),
    ],
)
def test_a_fault_is_a_422_that_points_at_the_field(decide, service, changes, pointer):
    answer = decide(**changes)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid"
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert rows(service) == []


@pytest.mark.parametrize("customer_id", ["a/b", "ü", "🦆" * 256, " ", "'; DROP TABLE log; --", "%2F", "\u2028"])
def test_a_customer_id_is_any_text(decide, customer_id):
    assert decide(customer_id=customer_id).json()["customer_id"] == customer_id


def test_the_same_body_in_another_order_is_the_same_body(decide):
    one = decide(idempotency_key="k", context={"a": 1, "b": 2}, channel="web")
    two = decide(channel="web", context={"b": 2, "a": 1}, idempotency_key="k")
    assert one.content == two.content


def test_the_same_key_gives_the_same_answer_and_one_row_also_when_concurrent(decide, service):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: decide(idempotency_key="k", deadline_ms=5000).content, range(40)))
    assert len(set(answers)) == 1
    assert len(rows(service)) == 1
    assert len(service.decider.asked) == 1


def test_the_same_key_with_another_body_is_a_409(decide):
    decide(idempotency_key="k")
    answer = decide(idempotency_key="k", deadline_ms=4999)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


def test_the_same_key_of_another_customer_or_caller_is_another_key(decide, client_with):
    first = decide(idempotency_key="k").json()["decision_id"]
    assert decide(idempotency_key="k", customer_id="c-2").json()["decision_id"] != first
    other = client_with("decide").post("/v1/decisions", json={**ASK, "idempotency_key": "k"})
    assert other.json()["decision_id"] != first


def test_a_refused_question_leaves_its_idempotency_key_free(decide):
    assert decide(idempotency_key="k", placements=[{"placement_id": "unknown", "limit": 1}]).status_code == 422
    assert decide(idempotency_key="k").status_code == 200


def test_a_retry_logs_what_a_dead_worker_answered_and_did_not_log(decide, service):
    hand_over, lost = service.log.hand_over, []
    service.log.hand_over = lost.append
    first = decide(idempotency_key="k")
    service.log.hand_over = hand_over
    assert len(lost) == 1
    assert decide(idempotency_key="k").content == first.content
    assert [row.decision_id for row in rows(service)] == [first.json()["decision_id"]]


def test_without_its_store_a_key_is_not_honoured_and_the_answer_says_so(decide, service, monkeypatch):
    def gone(*_):
        raise StoreUnavailable("gone")

    monkeypatch.setattr(service.idempotency, "claim", gone)
    answer = decide(idempotency_key="k")
    assert answer.status_code == 200
    assert [one["code"] for one in answer.json()["degraded"]] == ["state_unavailable"]
    assert len(rows(service)) == 1


def test_a_log_that_lags_is_said_in_the_answer(decide, service, monkeypatch):
    monkeypatch.setattr(type(service.log), "delayed_s", 1.0)
    assert [one["code"] for one in decide().json()["degraded"]] == ["log_delayed"]


def test_a_decision_that_waits_for_the_log_says_so_and_is_counted(decide, service, monkeypatch):
    monkeypatch.setattr(type(service.log), "delayed_s", property(lambda _: 3.0))
    assert [one["code"] for one in decide().json()["degraded"]] == ["log_delayed"]
    counted = {sample.labels: sample.value for sample in service.meter.samples() if sample.name.endswith("degraded")}
    assert counted == {("log_delayed",): 1.0}
