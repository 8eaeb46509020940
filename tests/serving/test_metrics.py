"""What is counted, and what Prometheus is told of it over all workers."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import metrics
from serving.admin import answer
from serving.counting import counted
from serving.decision import DecisionRequest, PlacementRequest
from serving.metrics import BUCKETS_S, METRICS, OTHERS, Meter, Sample
from serving.snapshots import ALIVE_S, Ready, Snapshot, SnapshotWriter, read_snapshots
from tests.conftest import NOW, ROOT
from tests.serving.conftest import an_offer

ASKED = DecisionRequest(customer_id="c", placements=(PlacementRequest("hero", 1),), deadline_ms=50)


@pytest.fixture
def meter():
    return Meter()


@pytest.fixture
def deciding(decider_with, ask, meter):
    """Makes decisions that the meter counts."""

    def make(offers, n=1, **rest):
        decider = decider_with(offers, **rest)
        decider.meter = meter
        return [ask(decider) for _ in range(n)]

    return make


def snapshot(meter=None, at=None, samples=(), ready=(), pid=1):
    meter = meter or Meter()
    buckets, total_s = meter.seconds()
    at = time.time() if at is None else at
    return Snapshot(pid, at, list(ready), [*meter.samples(), *samples], meter.tables(), buckets, total_s)


def scraped(*snapshots):
    """{(name, labels): value} as Prometheus reads it."""
    text = answer("/metrics", "", snapshots, len(snapshots)).body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found[name, tuple(sorted(labels.items()))]


def test_drops_are_counted_by_rule_and_offer(deciding, meter):
    offers = [
        an_offer("a"),
        an_offer("b", status="draft"),
        an_offer("c", ends_at=NOW),
        an_offer("d", channels=("app",)),
    ]
    deciding(offers, n=3)
    found = scraped(snapshot(meter))
    for offer_id, rule in (("b", "status"), ("c", "schedule"), ("d", "channel")):
        assert value(found, "nbo_offer_drops_total", offer_id=offer_id, rule=rule) == 3
    assert value(found, "nbo_offers_shown_total", offer_id="a") == 3
    assert sum(n for (name, _), n in found.items() if name == "nbo_offer_drops_total") == 9


def test_counts_survive_a_new_catalogue(deciding, meter):
    deciding([an_offer("a"), an_offer("b", status="draft")], n=2)
    deciding([an_offer("b", status="draft"), an_offer("c")], n=3)
    first = scraped(snapshot(meter))
    deciding([an_offer("a", status="draft"), an_offer("b")], n=1)
    found = scraped(snapshot(meter))
    assert value(first, "nbo_offer_drops_total", offer_id="b", rule="status") == 5
    assert value(found, "nbo_offer_drops_total", offer_id="b", rule="status") == 5
    assert value(found, "nbo_offer_drops_total", offer_id="a", rule="status") == 1
    assert [value(found, "nbo_offers_shown_total", offer_id=name) for name in "abc"] == [2, 1, 3]


def test_offers_of_a_large_catalogue_share_one_series_behind_the_first(deciding, meter, monkeypatch):
    monkeypatch.setattr(metrics, "MOST_OFFERS", 2)
    deciding([an_offer(name, status="draft") for name in "abcde"] + [an_offer("f")])
    found = scraped(snapshot(meter))
    dropped = {dict(labels)["offer_id"]: n for (name, labels), n in found.items() if name == "nbo_offer_drops_total"}
    assert dropped == {"a": 1, "b": 1, OTHERS: 3}
    assert value(found, "nbo_offers_shown_total", offer_id=OTHERS) == 1


def test_a_dry_run_is_not_counted(decider_with, ask, meter):
    decider = decider_with({"a": 1.0})
    decider.meter = meter
    decision = ask(decider, dry_run=True)
    meter.answered(decision, DecisionRequest(customer_id="c", placements=(), dry_run=True), 0.001)
    found = scraped(snapshot(meter))
    assert not any(name.startswith(("nbo_decisions_total", "nbo_offers_shown_total")) for name, _ in found)


def test_answers_are_counted_with_their_time_and_whether_they_were_late(deciding, meter):
    (decision,) = deciding({"a": 1.0})
    for seconds in (0.0004, 0.049, 0.051, 7.0):
        meter.answered(decision, ASKED, seconds)
    found = scraped(snapshot(meter))
    assert value(found, "nbo_decisions_total", policy="epsilon_greedy") == 4
    assert value(found, "nbo_decisions_late_total") == 2
    assert value(found, "nbo_decisions_degraded_total", code="model_unavailable") == 4
    assert value(found, "nbo_decision_seconds_bucket", le="0.001") == 1
    assert value(found, "nbo_decision_seconds_bucket", le="0.05") == 2
    assert value(found, "nbo_decision_seconds_bucket", le="+Inf") == 4
    assert value(found, "nbo_decision_seconds_sum") == pytest.approx(7.1004)


def test_a_placement_without_an_offer_is_counted(deciding, meter):
    (decision,) = deciding([an_offer("a", status="draft")])
    meter.answered(decision, ASKED, 0.001)
    assert value(scraped(snapshot(meter)), "nbo_empty_placements_total", placement_id="hero") == 1


def test_events_are_counted_by_what_became_of_them(meter):
    meter.received(5, 2, ["unknown_event_type", "unknown_event_type", "erased"])
    found = scraped(snapshot(meter))
    assert value(found, "nbo_events_total", outcome="new") == 5
    assert value(found, "nbo_events_total", outcome="duplicate") == 2
    assert value(found, "nbo_events_rejected_total", code="unknown_event_type") == 2


def test_counters_hold_what_ended_workers_counted_and_gauges_only_who_is_alive():
    one, other = Meter(), Meter()
    one.received(1, 0, [])
    other.received(2, 0, [])
    old = time.time() - 2 * ALIVE_S
    found = scraped(
        snapshot(one, samples=[Sample("nbo_workers", (), 1.0), Sample("nbo_catalogue_version", (), 8.0)]),
        snapshot(other, samples=[Sample("nbo_workers", (), 1.0), Sample("nbo_catalogue_version", (), 7.0)]),
        snapshot(other, at=old, samples=[Sample("nbo_workers", (), 1.0), Sample("nbo_catalogue_version", (), 1.0)]),
    )
    assert value(found, "nbo_events_total", outcome="new") == 5
    assert value(found, "nbo_workers") == 2
    assert value(found, "nbo_catalogue_version") == 7  # the oldest that is still served


def test_every_metric_is_there_from_the_start_in_valid_exposition():
    text = answer("/metrics", "", [], 1).body.decode()
    assert {family.name for family in text_string_to_metric_families(text)} == {metric.name for metric in METRICS}


def test_an_openmetrics_scraper_gets_its_format():
    found = answer("/metrics", "application/openmetrics-text; version=1.0.0", [], 1)
    assert found.media_type.startswith("application/openmetrics-text")
    assert found.body.endswith(b"# EOF\n")


def test_readiness_is_that_of_the_worker_that_misses_something():
    fine, bad = Ready("log", True, "writing", False), Ready("log", False, "decisions wait 3.0 s", False)
    needed = Ready("catalogue", False, "locked", True)
    assert answer("/readyz", "", [snapshot(ready=[fine])], 1).status == 200
    degraded = answer("/readyz", "", [snapshot(ready=[fine]), snapshot(ready=[bad])], 2)
    assert degraded.status == 200
    assert b"decisions wait 3.0 s" in degraded.body
    assert answer("/readyz", "", [snapshot(ready=[needed])], 1).status == 503


def test_without_a_living_worker_nothing_is_alive_or_ready():
    dead = snapshot(at=time.time() - 2 * ALIVE_S, ready=[Ready("log", True, "writing", False)])
    assert [answer(path, "", [dead], 1).status for path in ("/livez", "/readyz")] == [503, 503]
    assert answer("/livez", "", [snapshot()], 1).status == 200
    assert answer("/etc/passwd", "", [snapshot()], 1).status == 404


def test_a_worker_writes_what_it_measured_until_it_ends(tmp_path, deciding, meter):
    deciding({"a": 1.0})
    edition = SimpleNamespace(view=SimpleNamespace(version=3, __len__=None), release_number="4", limits=None)
    edition.view = type("View", (), {"version": 3, "__len__": lambda self: 12})()
    edition.limits = SimpleNamespace(takes={})
    service = SimpleNamespace(
        meter=meter,
        decider=SimpleNamespace(edition=edition),
        log=SimpleNamespace(delayed_s=0.5, n_lost=0),
        learner=SimpleNamespace(delay_s=0.0),
        answering=SimpleNamespace(lanes=(SimpleNamespace(name="contacts", stuck_s=2.5, n_failed=3),)),
        readiness=lambda: [SimpleNamespace(name="log", ok=False, detail="slow", needed=False)],
    )
    writer = SnapshotWriter(tmp_path, service)
    writer.start()
    deadline = time.monotonic() + 10
    while not (living := read_snapshots(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    writer.close()
    found = scraped(*living)
    assert value(found, "nbo_lane_stuck_seconds", lane="contacts") == 2.5
    assert value(found, "nbo_lane_failures_total", lane="contacts") == 3
    assert value(found, "nbo_release", release="4") == 1
    assert value(found, "nbo_offers") == 12
    assert value(found, "nbo_not_ready", check="log") == 1
    assert value(found, "nbo_resident_bytes") > 1e6
    (ended,) = read_snapshots(tmp_path)
    after = scraped(ended)
    assert value(after, "nbo_offers_shown_total", offer_id="a") == 1
    assert value(after, "nbo_workers") == 0


def test_the_page_of_metrics_lists_every_metric_with_its_labels():
    page = (ROOT / "docs/reference/metrics.md").read_text()
    for metric in METRICS:
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        assert f"| `{name}` | {metric.kind} | {labels} | {metric.help} |" in page, name


def test_counting_drops_takes_the_first_rule_of_each_offer():
    drops, in_draw = np.array([0, -1, 1, 1, -1], np.int8), np.array([False, False, False, False, True])
    drafted = SimpleNamespace(dropped_by=drops, in_draw=in_draw)
    into = np.zeros((3, 3), np.int64)  # the offers behind the third column share it
    for n in (1, 2):
        dropped, n_in_draw, out_of_stock = counted(("status", "inventory"), drafted, into)
        assert dropped == {"status": 1, "inventory": 2}
        assert (n_in_draw, out_of_stock.tolist()) == (1, [2, 3])
        assert into.tolist() == [[n, 0, 0], [0, 0, 2 * n], [0, 0, 0]]
    assert list(BUCKETS_S) == sorted(BUCKETS_S)
