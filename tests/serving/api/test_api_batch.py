"""Many decisions in one request: each stands for itself, as if it had been asked alone."""

from __future__ import annotations

import pytest

from tests.serving.api.fakes import FakeAnswering

HERO = {"placement_id": "hero"}
ASKED = {"deadline_ms": 5000, "customer_id": "c-1", "placements": [HERO]}


@pytest.fixture
def batch(client):
    def post(*requests):
        return client.post("/v1/decisions/batch", json={"requests": list(requests)})

    return post


def without_ids(problem):
    return {name: value for name, value in problem.items() if name != "request_id"}


def test_each_request_is_answered_in_its_place(batch, service):
    answer = batch(*({**ASKED, "customer_id": f"c-{i}"} for i in range(25)))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["index"] for one in results] == list(range(25))
    assert [one["decision"]["customer_id"] for one in results] == [f"c-{i}" for i in range(25)]
    assert len({one["decision"]["decision_id"] for one in results}) == 25


def test_every_decision_of_a_batch_is_logged(batch, service):
    results = batch(ASKED, {**ASKED, "dry_run": True}, ASKED).json()["results"]
    service.log.close()
    logged = [service.log_store.decision(one["decision"]["decision_id"]) is not None for one in results]
    assert logged == [True, False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"customer_id": "c-1"},
        {**ASKED, "typo": 1},
        {**ASKED, "anonymous_id": "a"},
        {**ASKED, "placements": [{"placement_id": "nowhere"}]},
        {**ASKED, "placements": [HERO, HERO]},
        {**ASKED, "deadline_ms": 1},
        {**ASKED, "channel": "a\x00b"},
        {**ASKED, "context": {"n": 2**70}},
        [],
        "what",
        5,
    ],
)
def test_a_fault_is_the_same_problem_as_alone_and_spares_the_others(batch, client, wrong):
    first, faulty, last = batch(ASKED, wrong, ASKED).json()["results"]
    assert "decision" in first
    assert "decision" in last
    alone = client.post("/v1/decisions", json=wrong)
    assert without_ids(faulty["problem"]) == without_ids(alone.json())


def test_idempotency_keys_count_within_a_batch_and_across(batch, client):
    asked = {**ASKED, "idempotency_key": "k"}
    same, again, other = batch(asked, asked, {**asked, "channel": "app"}).json()["results"]
    assert same["decision"] == again["decision"]
    assert other["problem"]["code"] == "idempotency_conflict"
    assert client.post("/v1/decisions", json=asked).json() == same["decision"]


def test_what_breaks_on_our_side_is_a_problem_of_one_item(batch, service):
    class Broken(FakeAnswering):
        async def decide(self, request, received):
            if request.customer_id == "c-2":
                raise RuntimeError("boom")
            return await super().decide(request, received)

    service.answering = Broken(service.decider)
    one, two = batch(ASKED, {**ASKED, "customer_id": "c-2"}).json()["results"]
    assert "decision" in one
    assert (two["problem"]["code"], two["problem"]["status"]) == ("internal", 500)
    assert "boom" not in str(two)


def test_an_explanation_is_for_one_decision_at_a_time(batch):
    (one,) = batch({**ASKED, "explain": True}).json()["results"]
    assert one["problem"]["errors"][0]["pointer"] == "/explain"


@pytest.mark.parametrize("requests", [[], [ASKED] * 1001, None, {}])
def test_a_batch_has_1_to_1000_requests(client, requests):
    answer = client.post("/v1/decisions/batch", json={"requests": requests})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/requests"


def test_a_batch_is_for_secret_keys_that_may_decide(client_with):
    for kind, scopes in (("secret", ("events",)), ("public", ("decide",))):
        answer = client_with(*scopes, kind=kind).post("/v1/decisions/batch", json={"requests": [ASKED]})
        assert answer.status_code == 403


def test_each_deadline_runs_from_its_own_turn(batch, service):
    received = []

    class Watched(FakeAnswering):
        async def decide(self, request, at):
            received.append(at)
            return await super().decide(request, at)

    service.answering = Watched(service.decider)
    batch(*[ASKED] * 50)
    assert received == sorted(received)
    assert received[-1] > received[0]
