"""The admin port of a running service: one view over all workers."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import free_port, serving

WITHIN_S = 10.0
OFFER = {"name": "one", "value": 1.0, "status": "approved", "treatments": [{"treatment_id": "t"}]}


def scraped(url):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for sample in family.samples
    }


def eventually(read, expected):
    """Workers write each second, so what they did is known soon, not at once."""
    deadline = time.monotonic() + WITHIN_S
    while (found := read()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def watched(request, tmp_path_factory):
    """A service with an offer to show and one that is a draft, and the address of its admin port."""
    home, port = tmp_path_factory.mktemp("admin") / "home", free_port()
    with serving(home, request.param, "--admin-port", str(port)) as service:
        with service.client() as client:
            for name, status in (("shown", "approved"), ("hidden", "draft")):
                assert client.put(f"/v1/offers/{name}", json={**OFFER, "status": status}).status_code == 201
            assert client.put("/v1/placements/hero", json={"name": "hero", "channel": "web"}).status_code == 201
        time.sleep(1.0)  # a change is live in every worker within a second
        yield service, f"http://127.0.0.1:{port}", request.param, home


def test_what_all_workers_did_is_counted_together(watched):
    service, admin, n_workers, _ = watched
    asked = {"placements": [{"placement_id": "hero"}]}
    for i in range(12):  # each on a connection of its own, so that every worker gets some
        with service.client() as client:
            assert client.post("/v1/decisions", json={**asked, "customer_id": f"c{i}"}).status_code == 200
    with service.client() as client:
        batch = {"requests": [{**asked, "customer_id": "b"}] * 5}
        assert client.post("/v1/decisions/batch", json=batch).status_code == 200
        bad = {"event_id": "e", "event_type": "nonsense", "customer_id": "c", "occurred_at": "2026-01-01T00:00:00Z"}
        assert client.post("/v1/events", json={"events": [bad]}).json()["rejected"]
    eventually(lambda: scraped(admin).get(("nbo_decisions_total", "epsilon_greedy")), 17.0)
    found = scraped(admin)
    assert found["nbo_offer_drops_total", "hidden", "status"] == 17
    assert found["nbo_offers_shown_total", "shown"] == 17
    assert found["nbo_decision_seconds_count",] == 17
    assert found["nbo_events_rejected_total", "unknown_event_type"] == 1
    assert found["nbo_workers",] == n_workers
    assert found["nbo_offers",] == 2


def test_the_admin_port_says_who_is_alive_and_ready(watched):
    _, admin, n_workers, _ = watched
    eventually(lambda: httpx.get(f"{admin}/livez").status_code, 200)
    ready = httpx.get(f"{admin}/readyz")
    assert ready.status_code == 200
    workers = next(check for check in ready.json()["checks"] if check["name"] == "workers")
    assert workers["detail"] == f"{n_workers} of {n_workers} are alive"


def test_any_worker_explains_a_decision_and_replays_those_of_the_others(watched):
    service, _, _, _ = watched
    with service.client() as client:
        asked = {"customer_id": "why", "placements": [{"placement_id": "hero"}], "explain": True}
        made = client.post("/v1/decisions", json=asked).json()
    (placement,) = made["placements"]
    assert placement["not_offered"] == [{"offer_id": "hidden", "rule": "status", "seen": {"status": "draft"}}]
    assert placement["offers"][0]["factors"]["score"] == placement["offers"][0]["score"]
    time.sleep(0.2)  # the row is written within 50 ms
    for _ in range(6):
        with service.client() as client:
            again = client.post(f"/v1/decisions/{made['decision_id']}/replay?explain=true").json()
        assert (again["equal"], again["diff"], again["decision"]) == (True, [], made)


def test_metrics_are_not_on_the_port_of_the_service(watched):
    service, admin, _, _ = watched
    with service.client() as client:
        assert client.get("/metrics").status_code == 404
    assert httpx.get(f"{admin}/v1/offers").status_code == 404


def test_a_worker_that_dies_takes_no_counts_with_it(watched):
    service, admin, n_workers, _ = watched
    if n_workers == 1:
        pytest.skip("the only worker is the service")
    before = scraped(admin)["nbo_offers_shown_total", "shown"]
    found = subprocess.run(
        ["pgrep", "-P", str(service.process.pid), "-f", "spawn_main"], capture_output=True, text=True
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    eventually(lambda: scraped(admin).get(("nbo_workers",)), 2.0)  # it is replaced
    assert scraped(admin)["nbo_offers_shown_total", "shown"] >= before
