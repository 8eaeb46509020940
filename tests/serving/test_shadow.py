"""A shadow release: scored beside the traffic, logged, never shown, and never waited for."""

from __future__ import annotations

import time

import msgspec
import pytest

from features.catalogue import Cap, Placement
from features.facts import Facts
from features.home import Home
from features.log import ShadowRow
from serving.decision import DecisionRequest, PlacementRequest
from serving.settings import Settings
from serving.shadow import MOST_WAITING, Shadow
from serving.shadowed import compared
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import point_to, write_release
from training.scorers import digest

PEOPLE = [f"c-{n}" for n in range(40)]


@pytest.fixture
def service_with(tmp_path):
    made = []

    def start(shadow="2", **settings):
        home = Home(tmp_path / "home")
        facts = Facts(home.facts_db)
        for item in (
            Placement(placement_id="hero", name="hero", channel="web"),
            an_offer("o1", 3.0),
            an_offer("o2", 2.9),
            an_offer("o3", 2.0, caps=(Cap(limit=1, window="1d"),)),
        ):
            facts.put(item, NOW)
        facts.close()
        write_release(home.releases, "1", {"o1": 1.0, "o2": 1.0, "o3": 1.0})
        folder = write_release(home.releases, "2", {"o1": 0.0, "o2": 50.0, "o3": 0.0}, champion=False)
        if shadow:
            point(home.releases, folder)
        given = {"policy": "greedy", "refresh_s": 60.0, "shadow_share": 1.0, **settings}
        service = build(Settings(home=home, as_of=NOW, **given))
        service.start()
        made.append(service)
        return service

    yield start
    for service in made:
        service.close()


def point(releases, folder):
    """The shadow's pointer, as `nbo models shadow` leaves it."""
    champion = (releases / "champion.json").read_bytes()
    point_to(releases, folder.name, digest((folder / "manifest.json").read_bytes()))
    (releases / "champion.json").rename(releases / "shadow.json")
    (releases / "champion.json").write_bytes(champion)


def decided(service, who, **rest):
    request = DecisionRequest(customer_id=who, placements=(PlacementRequest("hero", 2),), **rest)
    return service.decider.decide(request)


def written(service):
    service.shadow.close()  # writes what is done
    return service.log_store.shadows_after(0, 1_000)


def test_customers_see_the_champions_offers_and_the_log_has_the_shadows_beside_them(service_with):
    service = service_with()
    decisions = {one.decision_id: one for one in (decided(service, who) for who in PEOPLE)}
    assert {one.model_versions["release"] for one in decisions.values()} == {"1"}
    assert {one.placements[0].offers[0].offer_id for one in decisions.values()} == {"o1"}
    rows = written(service)
    assert {row.decision_id for row in rows} == set(decisions)
    for row in rows:
        body = msgspec.json.decode(row.payload)
        (placement,) = body["placements"]
        assert (row.release, body["release"], body["served"], row.customer_id) == (
            "2", "2", "1", decisions[row.decision_id].customer_id,
        )  # fmt: skip
        # Release 2 thinks far more of o2, which is worth almost as much as o1.
        assert [one["offer_id"] for one in placement["shadow"]] == ["o2", "o1"]
        assert [one["offer_id"] for one in placement["shown"]] == ["o1", "o2"]
        by_offer = {one["offer_id"]: one for one in placement["shadow"]}
        assert all(one == by_offer[one["offer_id"]] for one in placement["shown"])  # figures are the shadow's
        assert by_offer["o2"]["p_accept"] > by_offer["o1"]["p_accept"]
    (one,) = compared(service.log_store)
    assert (one.release, one.served, one.n_decisions, one.same_first) == ("2", "1", 40, 0.0)
    assert one.p_own > one.p_shown


def test_the_shadow_is_shown_to_nobody_counts_against_no_cap_and_asks_no_dry_run_or_holdout(service_with):
    service = service_with(holdout=0.5)
    held = {one.decision_id for who in PEOPLE if (one := decided(service, who)).holdout}
    decided(service, "dry", dry_run=True)
    rows = written(service)
    assert 5 < len(held) < 35
    assert len(rows) == len(PEOPLE) - len(held)
    assert not held & {row.decision_id for row in rows}
    assert [history.contacts for history in service.contacts.histories(["dry"])] == [()]


def test_a_share_of_the_decisions_is_scored(service_with):
    service = service_with(shadow_share=0.25)
    for n in range(400):
        decided(service, f"c-{n}")
    time.sleep(0.3)
    # Binomial(400, 1/4): a mean of 100 and a deviation of 8.7; five of them.
    assert 56 <= len(written(service)) <= 144


def test_a_release_that_is_no_shadow_any_more_scores_nothing_and_another_takes_over(service_with):
    service = service_with()
    releases = service.settings.home.releases
    (releases / "shadow.json").unlink()
    service.refresh()
    decided(service, "c-1")
    assert written(service) == []
    point(releases, write_release(releases, "3", {"o3": 1.0}, champion=False))
    service.refresh()
    decided(service, "c-2")
    assert [row.release for row in written(service)] == ["3"]


def test_a_shadow_that_cannot_be_loaded_or_fails_disturbs_nobody(service_with, caplog):
    service = service_with()
    edition = service.decider.edition
    assert edition.shadow is not None
    edition.shadow.score = None  # whatever it is asked, it fails
    answers = [decided(service, who) for who in PEOPLE[:5]]
    assert all(one.placements[0].offers and not one.degraded for one in answers)
    assert written(service) == []
    counted = {sample.labels: sample.value for sample in service.meter.samples() if "shadow" in sample.name}
    assert counted[("left_out",)] == 5
    (service.settings.home.releases / "2" / "manifest.json").write_bytes(b"{")
    service._shadow_release = None
    service.decider.edition = service._next_edition(service._look())
    assert service.decider.edition.shadow is None
    assert decided(service, "c-1").placements[0].offers
    assert "there is no shadow" in caplog.text


def test_nobody_waits_for_a_shadow_that_does_not_keep_up(service_with):
    service = service_with()
    slow = Shadow(service.log_store, 1.0, service.meter)
    slow._thread = object()  # it takes nothing
    service.decider.shadow = slow
    for n in range(MOST_WAITING + 3):
        decided(service, f"c-{n}")
    counted = {sample.labels: sample.value for sample in service.meter.samples() if "shadow" in sample.name}
    assert counted[("left_out",)] == 3


def test_shadows_are_erased_with_their_customer(service_with):
    service = service_with()
    for who in ("c-1", "c-2"):
        decided(service, who)
    assert len(written(service)) == 2
    service.log_store.erase(["c-1"])
    assert [row.customer_id for row in service.log_store.shadows_after(0, 10)] == ["c-2"]
    service.log_store.append_shadows([ShadowRow("d", "2", "c-1", 0, b"{}")])
    assert [row.customer_id for row in service.log_store.shadows_after(0, 10)] == ["c-2"]
