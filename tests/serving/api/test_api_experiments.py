"""Experiments over HTTP: bodies and lifecycle; what they share with offers is in test_api_catalogue.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features.catalogue import Lever
from tests.serving.api.fakes import NOW

CONTROL = {"name": "control", "weight": 0.5, "is_control": True, "policy": "greedy"}
THOMPSON = {"name": "thompson", "weight": 0.5, "policy": "thompson", "release": None, "levers": []}
EXPERIMENT = {  # the contract's example
    "hypothesis": "…",
    "unit": "customer",
    "layer": "policy",
    "audience": None,
    "traffic": 1.0,
    "variants": [CONTROL, THOMPSON],
    "primary_metric": "offer_value_per_visitor",
    "secondary_metrics": ["acceptance_rate"],
    "guardrails": [{"metric": "dismissal_rate", "max_relative": 0.1}],
    "planned_units": 20000,
}
UNSTARTED = {
    "status": "draft",
    "phases": [],
    "buckets": [],
    "started_at": None,
    "stopped_at": None,
    "stop_reason": None,
    "decided": None,
}
AT = "2026-03-01T12:00:00Z"


@pytest.fixture
def put(client):
    def send(name="x", **changes):
        return client.put(f"/v1/experiments/{name}", json={**EXPERIMENT, **changes})

    return send


@pytest.fixture
def move(client):
    def send(how, name="x", **body):
        return client.post(f"/v1/experiments/{name}/{how}", **({"json": body} if how != "start" else {}))

    return send


def weighing(*weights):
    return [{**one, "weight": weight} for one, weight in zip((CONTROL, THOMPSON), weights, strict=True)]


def refused(answer, code, *pointers):
    body = answer.json()
    assert (answer.status_code, body["code"]) == (409, code), body
    assert [error["pointer"] for error in body["errors"]] == list(pointers)
    return body["detail"]


def test_the_contracts_example_comes_back_with_every_field(put, client):
    body = put().json()
    full = {"policy": None, "release": None, "levers": [], "treatments": {}, "is_control": False}
    assert {name: body[name] for name in UNSTARTED} == UNSTARTED
    assert body["variants"] == [{**full, **CONTROL}, {**full, **THOMPSON}]
    assert body["guardrails"] == [{"metric": "dismissal_rate", "max_relative": 0.1, "min_relative": None}]
    assert (body["alpha"], body["planned_units"], body["experiment_id"]) == (0.05, 20000, "x")
    assert [one["change"] for one in body["changes"]] == ["created"]
    assert client.get("/v1/experiments/x").json() == body


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"hypothesis": ""}, "/hypothesis"),
        ({"hypothesis": None}, "/hypothesis"),
        ({"unit": "visitor"}, "/unit"),
        ({"layer": "a b"}, "/layer"),
        ({"audience": ""}, "/audience"),
        ({"audience": "spent_30d >="}, "/audience"),
        ({"audience": "spend_30d > 3"}, "/audience"),
        ({"audience": "spent_30d == 'much'"}, "/audience"),
        ({"audience": 'offer.category == "running"'}, "/audience"),
        ({"traffic": 0}, "/traffic"),
        ({"traffic": 1.01}, "/traffic"),
        ({"traffic": 0.00005}, "/traffic"),
        ({"traffic": "all"}, "/traffic"),
        ({"variants": []}, "/variants"),
        ({"variants": [{**CONTROL, "weight": 1}]}, "/variants"),
        ({"variants": weighing(0.5, 0.4)}, "/variants"),
        ({"variants": weighing(0.5, 0.5 + 1e-8)}, "/variants"),
        ({"variants": weighing(0, 1)}, "/variants/0/weight"),
        ({"variants": weighing(0.00005, 0.99995)}, "/variants/0/weight"),
        ({"variants": [{**CONTROL, "is_control": False}, THOMPSON]}, "/variants"),
        ({"variants": [CONTROL, {**THOMPSON, "is_control": True}]}, "/variants"),
        ({"variants": [CONTROL, {**THOMPSON, "name": "control"}]}, "/variants/1/name"),
        ({"variants": [CONTROL, {**THOMPSON, "policy": "thomson"}]}, "/variants/1/policy"),
        ({"variants": [CONTROL, {**THOMPSON, "release": "99"}]}, "/variants/1/release"),
        ({"variants": [CONTROL, {**THOMPSON, "release": "../12"}]}, "/variants/1/release"),
        ({"variants": [CONTROL, {**THOMPSON, "levers": ["none"]}]}, "/variants/1/levers/0"),
        ({"variants": [CONTROL, {**THOMPSON, "treatments": {"o/~1": "t"}}]}, "/variants/1/treatments/o~1~01"),
        ({"variants": [CONTROL, {**THOMPSON, "treatments": {"o-1": "t"}}]}, "/variants/1/treatments/o-1"),
        ({"variants": [CONTROL, {**THOMPSON, "polcy": "greedy"}]}, "/variants/1/polcy"),
        ({"primary_metric": "clicks"}, "/primary_metric"),
        ({"primary_metric": "lifecycle"}, "/primary_metric"),
        ({"secondary_metrics": ["nps", "clicks"]}, "/secondary_metrics/1"),
        ({"secondary_metrics": ["offer_value_per_visitor"]}, "/secondary_metrics/0"),
        ({"guardrails": [{"metric": "clicks", "max_relative": 0.1}]}, "/guardrails/0/metric"),
        ({"guardrails": [{"metric": "nps"}]}, "/guardrails/0"),
        ({"guardrails": [{"metric": "nps", "max_relative": -0.1}]}, "/guardrails/0/max_relative"),
        ({"guardrails": [{"metric": "nps", "min_relative": 0.1}]}, "/guardrails/0/min_relative"),
        ({"guardrails": [{"metric": "nps", "min_relative": -0.1}] * 2}, "/guardrails/1/metric"),
        ({"planned_units": 0}, "/planned_units"),
        ({"alpha": 0}, "/alpha"),
        ({"alpha": 0.6}, "/alpha"),
        ({"weights": [1]}, "/weights"),
    ],
)
def test_a_faulty_experiment_is_a_422_that_points_at_the_field_and_stores_nothing(put, client, changes, pointer):
    answer = put(**changes)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert client.get("/v1/experiments/x").status_code == 404


def test_a_fault_says_what_was_expected(put):
    variants = [{**CONTROL, "weight": 0.7, "policy": "gready"}, {**THOMPSON, "weight": 0.2}]
    told = {error["pointer"]: error["detail"] for error in put(variants=variants).json()["errors"]}
    assert told["/variants"] == "variants: their weights sum to 0.9, expected 1"
    assert told["/variants/0/policy"] == (
        "policy: is 'gready', expected one of greedy, epsilon_greedy, softmax, thompson"
    )


@pytest.mark.parametrize("n", [3, 7, 10])
def test_weights_may_miss_one_by_what_floats_do(put, n):
    others = [{"name": f"v{i}", "weight": 1 / n} for i in range(n - 1)]
    assert put(variants=[{**CONTROL, "weight": 1 / n}, *others]).status_code == 201


def test_what_a_variant_names_is_looked_up(put, client, service):
    client.put("/v1/levers/push", json={"name": "n", "factor": 2, "reason": "r"})
    for number in ("7", "12", "13.tmp"):
        (service.settings.home.releases / number).mkdir(parents=True)
        (service.settings.home.releases / number / "manifest.json").touch()
    rich = {**THOMPSON, "release": "12", "levers": ["push"], "treatments": {"o-1": "o-1/a"}}
    assert put(variants=[CONTROL, rich]).status_code == 201
    unfinished = put(variants=[CONTROL, {**rich, "release": "13.tmp"}])
    assert unfinished.json()["errors"][0]["detail"] == "release: is '13.tmp', expected one of 7, 12"


def test_the_holdouts_id_is_taken(put):
    assert put("holdout").json()["errors"][0]["pointer"] == "/experiment_id"


def test_from_draft_to_decision(put, move, service):
    key = f"key {service.keys.verify(service.secret).key_id}"
    put(traffic=0.25)
    body = move("start").json()
    first = {"number": 1, "starts_at": AT, "traffic": 0.25, "weights": {"control": 0.5, "thompson": 0.5}}
    assert (body["status"], body["started_at"], body["buckets"]) == ("running", AT, [[0, 2500]])
    assert body["phases"] == [{**first, "stops_at": None}]
    service.now += timedelta(days=14)
    body = move("stop", reason="planned end").json()
    later = "2026-03-15T12:00:00Z"
    assert (body["status"], body["stopped_at"], body["stop_reason"]) == ("stopped", later, "planned end")
    assert body["phases"] == [{**first, "stops_at": later}]
    answer = move("decide", variant="thompson", reason="it won")
    body = answer.json()
    assert body["status"] == "decided"
    assert body["decided"] == {"variant": "thompson", "reason": "it won", "at": later, "by": key}
    assert answer.headers["etag"] == f'"{body["version"]}"'
    assert [(one["change"], one["by"]) for one in body["changes"]] == [
        (change, key) for change in ("decided", "stopped", "started", "created")
    ]


@pytest.mark.parametrize(
    ("moves", "then", "code"),
    [
        ([], "stop", "experiment_not_started"),
        ([], "decide", "experiment_not_started"),
        (["start"], "start", "experiment_running"),
        (["start"], "decide", "experiment_running"),
        (["start", "stop"], "start", "experiment_over"),
        (["start", "stop"], "stop", "experiment_over"),
        (["start", "stop", "decide"], "start", "experiment_over"),
        (["start", "stop", "decide"], "decide", "experiment_over"),
    ],
)
def test_a_move_out_of_turn_is_a_409_that_says_the_state(put, move, client, moves, then, code):
    bodies = {"start": {}, "stop": {"reason": "r"}, "decide": {"variant": "control", "reason": "r"}}
    put()
    for one in moves:
        assert move(one, **bodies[one]).status_code == 200
    before = client.get("/v1/experiments/x").json()
    assert f"x is {before['status']}" in refused(move(then, **bodies[then]), code)
    assert client.get("/v1/experiments/x").json() == before


def test_a_move_needs_its_reason_and_its_variant(put, move):
    put()
    move("start")
    assert move("stop").json()["errors"][0]["pointer"] == "/reason"
    assert move("stop", reason="").status_code == 422
    move("stop", reason="r")
    answer = move("decide", variant="thomson", reason="r")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "variant is 'thomson', expected one of control, thompson"
    assert move("start", "none").status_code == 404


def test_if_match_guards_a_move_too(put, client):
    tag = put().headers["etag"]
    assert client.post("/v1/experiments/x/start", headers={"If-Match": '"0"'}).status_code == 412
    assert client.post("/v1/experiments/x/start", headers={"If-Match": tag}).status_code == 200


def test_while_it_runs_nothing_but_its_split_may_change(put, move, client):
    put(traffic=0.5)
    move("start")
    changes = {
        "hypothesis": "another",
        "unit": "session",
        "layer": "other",
        "audience": "spent_30d > 3",
        "variants": [CONTROL, {**THOMPSON, "policy": "softmax"}],
        "primary_metric": "nps",
        "secondary_metrics": [],
        "guardrails": [],
        "planned_units": 30000,
        "alpha": 0.1,
    }
    for field, value in changes.items():
        assert field in refused(put(traffic=0.5, **{field: value}), "experiment_running", f"/{field}")
    extra = [*weighing(0.5, 0.3), {"name": "third", "weight": 0.2}]
    refused(put(traffic=0.5, variants=extra), "experiment_running", "/variants")
    told = refused(put(traffic=0.4), "experiment_running", "/traffic")
    assert "expected at least 0.5" in told
    assert put(traffic=0.5, variants=weighing(0.5, 0.6)).status_code == 422
    assert len(client.get("/v1/experiments/x").json()["phases"]) == 1


def test_other_weights_or_more_traffic_start_a_new_phase(put, move, client, service):
    put(traffic=0.2)
    move("start")
    service.now += timedelta(days=1)
    put(traffic=0.3)
    service.now += timedelta(days=1)
    body = put(traffic=0.3, variants=weighing(0.2, 0.8)).json()
    assert [(one["number"], one["traffic"], one["weights"]["thompson"]) for one in body["phases"]] == [
        (1, 0.2, 0.5),
        (2, 0.3, 0.5),
        (3, 0.3, 0.8),
    ]
    assert [one["starts_at"] for one in body["phases"][1:]] == [one["stops_at"] for one in body["phases"][:-1]]
    assert body["buckets"] == [[0, 3000]]
    assert body["changes"][0]["change"] == "reallocated"
    again = client.put("/v1/experiments/x", json=body)  # what a GET gave changes nothing
    assert (again.status_code, again.json()) == (200, body)


@pytest.mark.parametrize("how", ["stop", "decide"])
def test_what_is_over_stays_as_it_is(put, move, client, how):
    made = put().json()
    move("start")
    move("stop", reason="r")
    if how == "decide":
        move("decide", variant="control", reason="r")
    assert client.put("/v1/experiments/x", json=made).status_code == 200  # the same changes nothing
    assert "under a new id" in refused(put(variants=weighing(0.2, 0.8)), "experiment_over", "/variants")
    refused(client.delete("/v1/experiments/x"), "experiment_over")


def test_only_a_draft_can_be_deleted(put, move, client):
    put()
    move("start")
    refused(client.delete("/v1/experiments/x"), "experiment_running")
    put("y")
    assert client.delete("/v1/experiments/y").status_code == 200
    listed = client.get("/v1/experiments?deleted=true").json()["experiments"]
    assert [one["experiment_id"] for one in listed] == ["y"]


def test_experiments_of_a_layer_share_no_bucket_and_who_has_them_is_told(put, move):
    put("a", traffic=0.6)
    put("b", traffic=0.5)
    move("start", "a")
    told = refused(move("start", "b"), "overlapping_layers", "/traffic", "/layer")
    assert "a holds 6,000" in told
    assert "4,000 of 10,000 are free" in told
    put("b", traffic=0.4)
    assert move("start", "b").json()["buckets"] == [[6000, 10000]]
    refused(put("a", traffic=0.7), "overlapping_layers", "/traffic", "/layer")
    move("stop", "b", reason="r")
    assert put("a", traffic=0.7).json()["buckets"] == [[0, 7000]]


def test_a_layer_splits_by_one_unit(put, move):
    put("a", traffic=0.1)
    put("b", traffic=0.1, unit="session")
    move("start", "a")
    refused(move("start", "b"), "overlapping_layers", "/unit", "/layer")


def test_only_one_layer_may_set_policy_or_release(put, move):
    put("a", traffic=0.1)
    put("b", traffic=0.1, layer="other")
    put("c", traffic=0.1)
    move("start", "a")
    told = refused(move("start", "b"), "policy_layer", "/layer")
    assert "a sets policy or release in layer 'policy'" in told
    assert move("start", "c").status_code == 200


@pytest.mark.parametrize("field", ["levers", "treatments"])
def test_two_layers_do_not_set_the_same_thing(put, move, service, field):
    service.facts.put(Lever(lever_id="push", name="n", factor=2.0, reason="r"), NOW)
    value = {"levers": ["push"], "treatments": {"o-1": "o-1/a"}}[field]
    variants = [{"name": "off", "weight": 0.5, "is_control": True}, {"name": "on", "weight": 0.5, field: value}]
    for name, layer in (("a", "one"), ("b", "two"), ("c", "one")):
        put(name, traffic=0.1, layer=layer, variants=variants)
    move("start", "a")
    refused(move("start", "b"), "overlapping_layers", f"/variants/1/{field}")
    assert move("start", "c").status_code == 200


def test_what_an_experiment_names_must_still_be_there_when_it_starts(put, move, client):
    client.put("/v1/levers/push", json={"name": "n", "factor": 2, "reason": "r"})
    put(variants=[CONTROL, {**THOMPSON, "levers": ["push"]}])
    client.delete("/v1/levers/push")
    answer = move("start")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/variants/1/levers/0")
    assert client.get("/v1/experiments/x").json()["status"] == "draft"


def test_an_audience_that_leaves_no_room_is_warned_of(put):
    body = put(audience="visits_7d > 5 and visits_7d < 3 and context.device == 'tv'").json()
    assert body["warnings"] == ["audience asks of visits_7d what no value can be: the ranges leave no room"]


def test_a_catalogue_of_the_past_has_its_experiments(put, move, service):
    draft = put().json()["version"]
    running = move("start").json()["version"]
    states = [service.facts.catalogue_at(version).experiments[0].status for version in (draft, running)]
    assert states == ["draft", "running"]
    assert [one.status for one in service.facts.catalogue().experiments] == ["running"]


def test_experiments_are_not_for_public_keys_nor_for_other_scopes(client_with):
    for path in ("/v1/experiments/x/start", "/v1/experiments/x/stop"):
        assert client_with("decide", "events").post(path).status_code == 403


def test_what_a_running_variant_is_made_of_cannot_change_under_it(put, move, client, service):
    lever = {"name": "push", "factor": 1.3, "reason": "r"}
    offer = {"name": "n", "value": 1, "treatments": [{"treatment_id": "o/a"}, {"treatment_id": "o/b"}]}
    assert client.put("/v1/levers/push", json=lever).status_code == 201
    assert client.put("/v1/offers/o", json=offer).status_code == 201
    put(variants=[CONTROL, {**THOMPSON, "levers": ["push"], "treatments": {"o": "o/b"}}])
    assert client.put("/v1/levers/push", json={**lever, "factor": 1.4}).status_code == 200  # a draft binds nobody
    assert move("start").status_code == 200
    refused(client.put("/v1/levers/push", json=lever), "experiment_running")
    refused(client.delete("/v1/levers/push"), "experiment_running")
    without = {**offer, "treatments": offer["treatments"][:1]}
    refused(client.put("/v1/offers/o", json=without), "experiment_running", "/treatments")
    assert client.put("/v1/levers/push", json={**lever, "factor": 1.4}).status_code == 200  # as it is
    assert client.put("/v1/offers/o", json={**offer, "value": 2}).status_code == 200
    assert client.delete("/v1/offers/o").status_code == 200  # an offer may always be withdrawn
    assert move("stop", reason="r").status_code == 200
    assert client.delete("/v1/levers/push").status_code == 200
