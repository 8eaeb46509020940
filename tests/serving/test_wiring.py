"""The service put together: new releases and catalogues come in while it answers, broken ones do not."""

from __future__ import annotations

import json
import threading
import time

import msgspec
import pytest

from features.catalogue import Placement
from features.definitions import feature_set
from features.errors import NboError, StoreUnavailable
from features.events import check_event
from features.facts import Facts
from features.home import Home
from features.online import Snapshot
from serving import wiring
from serving.decision import DecisionRequest, PlacementRequest
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import point_to, write_release
from training.scorers import digest


@pytest.fixture
def home(tmp_path):
    facts = Facts(Home(tmp_path).facts_db)
    facts.put(Placement(placement_id="hero", name="hero", channel="web"), NOW)
    for name in ("a", "b"):
        facts.put(an_offer(name), NOW)
    facts.close()
    return Home(tmp_path)


@pytest.fixture
def service(home):
    made = build(Settings(home=home, epsilon=0.0, refresh_s=0.02))
    yield made
    made.close()


def decide(service, customer="c", limit=1):
    asked = (PlacementRequest("hero", limit),)
    return service.decider.decide(DecisionRequest(customer_id=customer, placements=asked))


def shown(service):
    return [o.offer_id for o in decide(service, limit=5).placements[0].offers]


def eventually(holds):
    """Waits for what a watcher does in the background; fails after 10 s."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_service_without_a_release_answers_and_says_so(service):
    service.start()
    decision = decide(service)
    assert decision.placements[0].offers
    assert [d.code for d in decision.degraded] == ["model_unavailable"]
    assert {check.name: check.ok for check in service.readiness()}["release"] is False


def test_the_champion_is_served(home, service):
    write_release(home.releases, "1", {"a": 0.0, "b": 3.0})
    service.start()
    decision = decide(service)
    assert decision.model_versions["release"] == "1"
    assert decision.degraded == ()
    assert shown(service) == ["b", "a"]


def test_a_new_champion_is_picked_up_and_no_answer_mixes_two(home, service):
    """Release 1 prefers a and gives it p = 0.02 × …, release 2 prefers b with another prior: answers are all of one."""
    write_release(home.releases, "1", {"a": 3.0, "b": 0.0}, prior=0.02)
    service.start()
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            decision = decide(service)
            (offer,) = decision.placements[0].offers
            answers.append((decision.model_versions["release"], offer.offer_id, round(offer.p_accept, 4)))

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        eventually(lambda: ("1", "a", 0.0381) in answers)
        write_release(home.releases, "2", {"a": 0.0, "b": 3.0}, prior=0.2)
        eventually(lambda: answers[-1][0] == "2")
    finally:
        stop.set()
        asker.join()
    # By hand: 2 × prior × logistic(3) = 2 × 0.02 × 0.95257 = 0.0381, and ten times that.
    assert set(answers) == {("1", "a", 0.0381), ("2", "b", 0.381)}


@pytest.mark.parametrize("damage", ["array", "manifest", "missing", "offers"])
def test_a_broken_release_is_refused_and_the_old_one_goes_on(home, service, damage):
    write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    service.start()
    folder = write_release(home.releases, "2", {"a": 0.0, "b": 3.0}, champion=False)
    if damage == "missing":
        (folder / "recommender/scores.npy").unlink()
    else:
        damaged = {"array": "recommender/scores.npy", "manifest": "manifest.json", "offers": "offers.json"}[damage]
        (folder / damaged).write_bytes((folder / damaged).read_bytes()[:-1] + b"?")
    write_pointer_of_an_intact_copy(home, folder)
    eventually(lambda: service.broken is not None)
    assert decide(service).model_versions["release"] == "1"
    assert "release" in [check.name for check in service.readiness() if not check.ok]


def write_pointer_of_an_intact_copy(home, folder):
    """champion.json as the promotion of the undamaged release would have written it."""
    spare = write_release(home.releases.parent / "spare", folder.name, {"a": 0.0, "b": 3.0}, champion=False)
    assert json.loads((spare / "manifest.json").read_bytes())["release"] == folder.name
    point_to(home.releases, folder.name, digest((spare / "manifest.json").read_bytes()))


def test_a_service_that_starts_on_a_broken_release_answers_without_models(home, service):
    folder = write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    (folder / "offers.json").write_text("[]")
    service.start()
    assert shown(service)
    assert [d.code for d in decide(service).degraded] == ["model_unavailable"]


def test_half_a_pointer_leaves_the_old_release_serving(home, service):
    write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    service.start()
    (home.releases / "champion.json").write_text('{"release": "2"')
    eventually(lambda: service.broken is not None)
    assert decide(service).model_versions["release"] == "1"


def test_a_change_of_the_catalogue_by_another_process_is_live_soon(home, service):
    service.start()
    other = Facts(home.facts_db)
    other.put(an_offer("c", value=9.0), NOW)
    other.put(an_offer("a", status="archived"), NOW)
    other.close()
    eventually(lambda: shown(service) == ["c", "b"])


def test_an_offer_that_the_release_does_not_know_is_scored_too(home, service):
    write_release(home.releases, "1", {"a": 3.0})
    service.start()
    (known, new) = decide(service, limit=2).placements[0].offers
    assert (known.offer_id, new.offer_id) == ("a", "b")
    assert "new_offer" in new.reason_codes
    assert 0 < new.p_accept < 1


def test_a_live_event_is_in_the_next_decision(home, service):
    service.start()
    event = {"event_id": "e", "event_type": "impression", "customer_id": "c", "offer_id": "a"}
    checked = check_event({**event, "occurred_at": service.clock().isoformat()}, service.clock())
    before = decide(service)
    assert service.log.submit([checked], service.clock()).result(10) == [True]
    after = decide(service)
    seen = [msgspec.json.decode(d.log_payload)["features"]["seen_1d"] for d in (before, after)]
    assert seen == [0.0, 1.0]


def test_an_unknown_policy_is_refused_at_the_door(home):
    with pytest.raises(NboError, match="policy is 'clever'"):
        build(Settings(home=home, policy="clever"))


def test_popularity_is_not_called_a_taste(home, service):
    write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    service.start()
    facts = Facts(home.facts_db)
    facts.merge_profile("c", NOW, {"age": 40})
    facts.close()
    assert decide(service).placements[0].offers[0].reason_codes == ("popular",)


def test_the_door_s_own_change_is_live_at_once(home, service):
    service.start()
    service.facts.put(an_offer("c", value=9.0), NOW)
    service.catalogue_changed()
    assert shown(service)[0] == "c"


def test_a_broken_champion_does_not_stop_the_catalogue(home, service):
    """An offer that is withdrawn must not be shown only because a promotion failed."""
    write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    service.start()
    (home.releases / "champion.json").write_text("{")
    eventually(lambda: service.broken is not None)
    other = Facts(home.facts_db)
    other.put(an_offer("a", status="archived"), NOW)
    other.close()
    eventually(lambda: shown(service) == ["b"])
    assert decide(service).model_versions["release"] == "1"


def test_a_champion_that_is_repaired_is_served(home, service, monkeypatch):
    monkeypatch.setattr("serving.wiring.RETRY_BROKEN_S", 0.05)
    folder = write_release(home.releases, "1", {"a": 3.0, "b": 0.0})
    whole = (folder / "offers.json").read_bytes()
    (folder / "offers.json").write_text("[]")
    service.start()
    assert service.broken
    (folder / "offers.json").write_bytes(whole)
    eventually(lambda: decide(service).model_versions["release"] == "1")
    assert service.broken is None


class LostOnline:
    """An online store whose file is gone, until it is there again."""

    feature_set = feature_set()
    snapshot = Snapshot("2026-03-01", 0, 0, 0, "online.db", "digest")
    is_there = False

    def offers(self):
        if not self.is_there:
            raise StoreUnavailable("the file is gone")
        return {}

    def customer(self, key):
        return None if self.is_there else self.offers()


def test_a_service_without_its_online_file_starts_says_so_and_recovers(home, service, monkeypatch):
    online = LostOnline()
    monkeypatch.setattr(wiring, "open_online", lambda home, facts: online)
    monkeypatch.setattr(wiring, "RETRY_BROKEN_S", 0.05)
    service.start()
    decision = decide(service)
    assert decision.placements[0].offers
    assert "features_unavailable" in {one.code for one in decision.degraded}
    assert not {check.name: check.ok for check in service.readiness()}["features"]
    online.is_there = True
    eventually(lambda: {check.name: check.ok for check in service.readiness()}["features"])
    assert "features_unavailable" not in {one.code for one in decide(service).degraded}
