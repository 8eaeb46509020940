"""A replay over HTTP: equal or not, with what differs, or why it cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from features.errors import InputsExpired, NotFound
from serving.decision import DecisionRequest, OfferWhy, PlacementRequest, PlacementWhy
from serving.replay import Difference, Replayed


@pytest.fixture
def replay(client, service):
    """Asks for a replay that comes out as given, or raises what is given."""

    def make(outcome=(), query=""):
        asked = []

        def replay(decision_id, *, explain):
            asked.append((decision_id, explain))
            if isinstance(outcome, Exception):
                raise outcome
            request = DecisionRequest(customer_id="c-1", placements=(PlacementRequest("hero", 1),), explain=explain)
            return Replayed(service.decider.decide(request), tuple(outcome))

        service.replayer = SimpleNamespace(replay=replay)
        answer = client.post(f"/v1/decisions/01J/replay{query}")
        assert asked == [("01J", "explain=true" in query)]
        return answer

    return make


def test_an_equal_replay_says_so_and_shows_the_decision(replay):
    answer = replay()
    assert answer.status_code == 200
    found = answer.json()
    assert (found["decision_id"], found["equal"], found["diff"]) == ("01J", True, [])
    assert found["decision"]["placements"][0]["offers"][0]["offer_id"] == "o-1"


def test_what_differs_is_named(replay):
    found = replay([Difference("/p_churn", 0.25, None)]).json()
    assert found["equal"] is False
    assert found["diff"] == [{"at": "/p_churn", "was": 0.25, "now": None}]


def test_a_replay_may_be_explained(replay):
    assert replay(query="?explain=true").status_code == 200


def test_a_parameter_that_nobody_knows_is_a_422(client):
    answer = client.post("/v1/decisions/01J/replay?explian=true")
    assert (answer.status_code, answer.json()["errors"][0]["in"]) == (422, "query")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("decision", "01J"), 404, "not_found"),
        (InputsExpired("too old"), 410, "inputs_expired"),
    ],
)
def test_what_cannot_be_replayed_is_a_problem(replay, error, status, code):
    answer = replay(error)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_explanation_is_part_of_the_answer(client, service):
    """The shape of API.md: factors and reasons of each offer shown, and of every other one why not."""
    plain = service.decider.decide

    def explained(request):
        why = PlacementWhy(
            (OfferWhy({"p_model": 0.05, "levers": []}, ("This is new.",)),),
            ({"offer_id": "o-2", "rank": 2}, {"offer_id": "o-3", "rule": "status", "seen": {"status": "draft"}}),
        )
        return msgspec.structs.replace(plain(request), explanation=(why,))

    service.decider.decide = explained
    asked = {"customer_id": "c-1", "placements": [{"placement_id": "hero"}], "explain": True}
    (placement,) = client.post("/v1/decisions", json=asked).json()["placements"]
    assert placement["offers"][0]["factors"] == {"p_model": 0.05, "levers": []}
    assert placement["offers"][0]["reasons"] == ["This is new."]
    assert placement["not_offered"] == [
        {"offer_id": "o-2", "rank": 2}, {"offer_id": "o-3", "rule": "status", "seen": {"status": "draft"}},
    ]  # fmt: skip
