"""The contract, held by the real service over HTTP, with one worker and with two."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest
from typer.testing import CliRunner

from serving.api.decisions import DecisionOut
from serving.cli import app
from serving.keys import FRESH_S
from tests.e2e.conftest import PATIENCE_S, serving

ASK = {"customer_id": "c-1", "placements": [{"placement_id": "hero", "limit": 2}]}
AS_OF = "2018-01-31T00:00:00Z"


@pytest.fixture
def client(served):
    with served.client() as client:
        yield client


def each_worker(served, ask, times=12):
    """The answers to one question over fresh connections, so that every worker gets some."""
    answers = []
    for _ in range(times):
        with served.client() as client:
            answers.append(ask(client))
    return answers


def now() -> str:
    return datetime.now(UTC).isoformat()


def test_a_decision_offers_what_the_catalogue_has(client):
    answer = client.post("/v1/decisions", json=ASK)
    assert answer.status_code == 200
    decision = DecisionOut.model_validate_json(answer.content)
    offers = decision.placements[0].offers
    assert {offer.offer_id for offer in offers} == {"o-1", "o-2"}
    assert [offer.rank for offer in offers] == [1, 2]
    assert all(0 < offer.selection_probability <= 1 for offer in offers)
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", decision.decision_id)
    assert (decision.expires_at - decision.decided_at).total_seconds() == 1800


def test_a_decision_is_in_the_log_soon_after_its_answer(client):
    decision_id = client.post("/v1/decisions", json=ASK).json()["decision_id"]
    deadline = time.monotonic() + 10  # the bench says how soon; here only that it comes
    while (found := client.get(f"/v1/decisions/{decision_id}")).status_code != 200:
        assert time.monotonic() < deadline
    assert found.json()["decision_id"] == decision_id


def test_a_refused_channel_is_obeyed_by_the_next_decision_of_every_worker(served, client):
    asked = {**ASK, "customer_id": "c-refuses"}

    def shown():
        return [
            len(a.json()["placements"][0]["offers"])
            for a in each_worker(served, lambda c: c.post("/v1/decisions", json=asked), 6)
        ]

    assert shown() == [2] * 6
    client.put("/v1/customers/c-refuses", json={"consent": {"web": False}})
    assert shown() == [0] * 6
    event = {"event_id": "opt-in-1", "event_type": "opt_in", "customer_id": "c-refuses", "occurred_at": now()}
    told = client.post("/v1/events", json={"events": [{**event, "properties": {"channel": "web"}}]})
    assert told.json()["accepted"] == 1
    assert shown() == [2] * 6
    told = client.post(
        "/v1/events",
        json={
            "events": [{**event, "event_id": "opt-out-1", "event_type": "opt_out", "properties": {"channel": "web"}}]
        },
    )
    assert told.json()["accepted"] == 1
    assert shown() == [0] * 6


def test_a_dry_run_is_not_logged(client):
    decision_id = client.post("/v1/decisions", json={**ASK, "dry_run": True}).json()["decision_id"]
    time.sleep(0.1)
    assert client.get(f"/v1/decisions/{decision_id}").status_code == 404


def test_an_accepted_event_is_seen_by_every_worker_at_once(served, client):
    customer = "seen/by all"
    event = {"event_type": "view", "customer_id": customer, "occurred_at": now(), "offer_id": "o-1"}
    for i in range(10):
        assert client.post("/v1/events", json={"events": [{**event, "event_id": f"seen-{i}"}]}).json()["accepted"] == 1
        with served.client() as other:
            found = other.get(f"/v1/customers/{quote(customer, safe='')}").json()
        assert len(found["recent_interactions"]) == i + 1
        assert found["recent_interactions"][0]["category"] == "c"


def test_the_same_events_from_many_callers_are_accepted_once(served):
    events = [
        {"event_id": f"many-{i}", "event_type": "visit", "customer_id": "many", "occurred_at": now()} for i in range(50)
    ]

    def send(_):
        with served.client() as client:
            return client.post("/v1/events", json={"events": events}).json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert sum(answer["accepted"] for answer in answers) == 50
    assert sum(answer["duplicates"] for answer in answers) == 15 * 50


def test_the_same_idempotency_key_gives_one_answer_from_every_worker(served):
    def ask(_):
        with served.client() as client:
            return client.post("/v1/decisions", json={**ASK, "idempotency_key": "same", "deadline_ms": 5_000}).content

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(40)))) == 1
    with served.client() as client:
        answer = client.post("/v1/decisions", json={**ASK, "idempotency_key": "same", "deadline_ms": 51})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")


def test_a_change_of_the_catalogue_is_live_in_every_worker_within_a_second(served, client):
    placement = {"name": "late", "channel": "web"}
    ask = {**ASK, "placements": [{"placement_id": "late", "limit": 1}], "dry_run": True}
    client.put("/v1/placements/late", json=placement)
    time.sleep(PATIENCE_S)
    assert {answer.status_code for answer in each_worker(served, lambda c: c.post("/v1/decisions", json=ask))} == {200}
    client.delete("/v1/placements/late")
    time.sleep(PATIENCE_S)
    assert {answer.status_code for answer in each_worker(served, lambda c: c.post("/v1/decisions", json=ask))} == {422}


def test_an_archived_offer_is_never_returned_again(served, client):
    offer = {"name": "o-3", "value": 1e6, "status": "approved", "treatments": [{"treatment_id": "a", "payload": {}}]}
    client.put("/v1/offers/o-3", json=offer)
    time.sleep(PATIENCE_S)

    def shown(c):
        answer = c.post("/v1/decisions", json={**ASK, "placements": [{"placement_id": "hero", "limit": 10}]}).json()
        return {offer["offer_id"] for offer in answer["placements"][0]["offers"]}

    assert "o-3" in shown(client)
    client.delete("/v1/offers/o-3")
    time.sleep(PATIENCE_S)
    assert not any("o-3" in one for one in each_worker(served, shown))


def test_a_profile_is_used_from_any_worker(served, client):
    client.put("/v1/customers/told", json={"attributes": {"age": 44}, "time_zone": "Asia/Tokyo"})
    answers = each_worker(served, lambda c: c.get("/v1/customers/told").json()["attributes"])
    assert answers == [{"age": 44}] * len(answers)


def test_a_revoked_key_is_refused_by_every_worker(served):
    """The commands run in this process, which is another than the service's."""
    home = {"NBO_HOME": served_home(served)}
    made = CliRunner().invoke(app, ["keys", "create", "--scope", "decide"], env=home)
    key = made.stdout.strip()
    ask = {"url": f"{served.url}/v1/decisions", "json": ASK, "headers": {"Authorization": f"Bearer {key}"}}
    assert {httpx.post(**ask).status_code for _ in range(12)} == {200}
    assert httpx.get(f"{served.url}/v1/offers", headers=ask["headers"]).status_code == 403
    revoked = CliRunner().invoke(app, ["keys", "revoke", key[:15]], env=home)
    assert revoked.exit_code == 0, revoked.output
    time.sleep(FRESH_S)
    assert {httpx.post(**ask).status_code for _ in range(12)} == {401}


def served_home(served) -> str:
    with open(f"/proc/{served.process.pid}/environ", "rb") as environ:
        return next(one[9:].decode() for one in environ.read().split(b"\0") if one.startswith(b"NBO_HOME="))


def test_without_a_key_nothing_is_answered(served):
    assert httpx.post(f"{served.url}/v1/decisions", json=ASK).status_code == 401
    assert httpx.get(f"{served.url}/livez").status_code == 200
    assert httpx.get(f"{served.url}/docs").status_code == 200
    assert "/nbo.js" not in httpx.get(f"{served.url}/openapi.json").json()["paths"]


@pytest.mark.parametrize("size_mib", [2, 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body_is_a_413_and_the_service_goes_on(client, size_mib, chunked):
    body = b" " * (size_mib * 1024 * 1024)
    content = (body[i : i + 65536] for i in range(0, len(body), 65536)) if chunked else body
    try:
        answer = client.post("/v1/decisions", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    except httpx.WriteError:
        pass  # the answer came, and the connection was closed, while this client was still writing
    assert client.get("/livez").status_code == 200


@pytest.fixture(scope="module")
def at_another_time(tmp_path_factory):
    """A service whose clock was set, and its home."""
    home = tmp_path_factory.mktemp("set") / "home"
    with serving(home, NBO_AS_OF=AS_OF) as service:
        yield service, home


def test_the_clock_can_be_set(at_another_time):
    service, _ = at_another_time
    with service.client() as client:
        client.put("/v1/placements/hero", json={"name": "hero", "channel": "web"})
        time.sleep(PATIENCE_S)
        assert client.post("/v1/decisions", json=ASK).json()["decided_at"].startswith("2018-01-31T00:00:")
        event = {"event_id": "1", "event_type": "visit", "customer_id": "c-1", "occurred_at": "2018-01-31T00:10:00Z"}
        answer = client.post("/v1/events", json={"events": [event]}).json()
        assert answer["rejected"][0]["code"] == "in_the_future"


def test_an_acknowledged_event_survives_a_kill_keys_are_printed_once_and_no_worker_outlives_its_parent(at_another_time):
    """It ends the service that had its clock set; the next one in its home is told the same time."""
    first, home = at_another_time
    event = {"event_type": "visit", "customer_id": "c-1", "occurred_at": AS_OF}
    with first.client() as client:
        for i in range(20):
            answer = client.post("/v1/events", json={"events": [{**event, "event_id": f"kill-{i}"}]})
            assert answer.json()["accepted"] == 1
    first.kill()
    with serving(home, workers=2, NBO_AS_OF=AS_OF) as second, second.client() as client:
        assert second.key == first.key
        assert home.with_suffix(".out").read_text().count("sk_") == 1
        assert len(client.get("/v1/customers/c-1").json()["recent_interactions"]) == 20
        answer = client.post("/v1/events", json={"events": [{**event, "event_id": "kill-0"}]})
        assert answer.json()["duplicates"] == 1
        second.process.kill()  # alone: workers that lived on would hold the address
        second.process.wait(20)
        assert _ends(second.process.pid)


def test_an_interrupt_ends_every_process(served):
    """The last in this file: the service that all tests shared is ended by it, with one worker and with two."""
    group = served.process.pid
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(20) in (0, -signal.SIGINT, 130)
    assert _ends(group)


def _ends(group: int) -> bool:
    end = time.monotonic() + 15
    while _alive(group) and time.monotonic() < end:
        time.sleep(0.05)
    return not _alive(group)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
