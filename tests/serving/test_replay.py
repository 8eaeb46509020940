"""A decision made again from its row of the log comes out the same, whatever happened since."""

from __future__ import annotations

import random
from datetime import timedelta

import msgspec
import pytest

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Lever, Placement
from features.errors import InputsExpired, NotFound, StoreUnavailable
from features.events import check_event, to_us
from features.facts import Facts
from features.home import Home
from features.log import DecisionRow
from serving.decide import NO_DECISION
from serving.decision import DecisionRequest, PlacementRequest
from serving.policies import POLICIES
from serving.replay import MOST_DIFFERENCES, differences
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer
from tests.serving.releases import write_release

N_OFFERS = 14
CUSTOMERS = [f"c{i}" for i in range(4)]


class Unlucky:
    """The real contacts, which now and then lose a race or do not answer."""

    def __init__(self, contacts, rng):
        self.contacts, self.rng = contacts, rng
        self.n_lost = self.n_refused = 0

    def __getattr__(self, name):
        return getattr(self.contacts, name)

    def histories(self, customer_ids):
        self._fail(0.05)
        return self.contacts.histories(customer_ids)

    def claim(self, claims, limits):
        self._fail(0.1)
        if self.rng.random() < 0.3:
            self.n_lost += 1
            return [claim.picks[:1] for claim in claims]
        return self.contacts.claim(claims, limits)

    def _fail(self, share):
        if self.rng.random() < share:
            self.n_refused += 1
            raise StoreUnavailable("injected")


def catalogue(rng):
    """Offers with every kind of limit, rule and weight."""
    for i in range(N_OFFERS):
        yield an_offer(
            f"o{i:02}",
            rng.choice([1.0, 2.5, 10.0 / 3.0]),
            category=rng.choice([None, "shoes", "hats"]),
            priority=rng.choice([0, 0, 0, 1]),
            eligibility=rng.choice([None, None, "context.page != 'none'", "tier is missing or tier > 1"]),
            caps=(Cap(limit=3, window="1d"),) if rng.random() < 0.4 else (),
            inventory=rng.choice([None, None, 6]),
            cost=Cost(amount=0.7, per="impression"),
            budget=Budget(amount=9.0, per="day") if rng.random() < 0.3 else None,
            attributes={"brand": rng.choice(["x", "y"])},
        )


def fill(home, rng):
    facts = Facts(home.facts_db)
    hero = Placement(placement_id="hero", name="hero", channel="web", max_per_category=2, fallback_offer_id="o00")
    for item in (
        hero,
        Placement(placement_id="mail", name="mail", channel="email", max_per_brand=1, guaranteed_offer_ids=("o03",)),
        ContactPolicy(policy_id="calm", name="calm", cooldown=Cooldown(impression="30m"), channels=("web",)),
        Lever(lever_id="push", name="push", factor=1.3, reason="spring", where='offer.category == "shoes"'),
        Lever(lever_id="tv", name="tv", factor=0.7, reason="small", where='context.device == "tv"'),
        *catalogue(rng),
    ):
        facts.put(item, NOW)
    for customer in CUSTOMERS[:2]:
        facts.merge_profile(customer, NOW, attributes={"tier": rng.choice([1, 2])}, time_zone="Asia/Tokyo")
    facts.close()


@pytest.fixture
def service_at(tmp_path):
    """A started service over one home, at an instant; started again at a later one, it has all that it logged."""
    made = []

    def start(now=NOW, policy="thompson", **settings):
        rng = random.Random(7)
        home = Home(tmp_path / "home")
        if not home.facts_db.exists():
            fill(home, rng)
            write_release(home.releases, "1", {f"o{i:02}": i / 3 for i in range(N_OFFERS - 3)})
        service = build(
            Settings(home=home, as_of=now, policy=policy, epsilon=0.2, draws=40, refresh_s=60.0, **settings)
        )
        service.start()
        made.append(service)
        return service

    yield start
    for service in made:
        service.close()


def question(rng):
    """A random request."""
    placements = rng.choice([("hero",), ("mail",), ("hero", "mail"), ("mail", "hero")])
    return DecisionRequest(
        customer_id=rng.choice(CUSTOMERS),
        placements=tuple(PlacementRequest(name, rng.randint(1, 4)) for name in placements),
        channel=rng.choice([None, None, "app"]),
        context={
            "device": rng.choice(["tv", "mobile"]),
            "page": rng.choice(["/", "none"]),
            "nested": {"x": [1.5, None]},
        },
        exclude_offer_ids=frozenset(rng.sample([f"o{i:02}" for i in range(N_OFFERS)], rng.choice([0, 0, 2]))),
    )


def keep(service, decision):
    decided_us = to_us(decision.decided_at)
    row = DecisionRow(decision.decision_id, decision.customer_id, decided_us, decision.log_payload)
    service.log_store.append_decisions([row])


def respond(service, decision, rng):
    """What was shown is seen, and some of it clicked; learning takes it in."""
    events = []
    for offer in (offer for placement in decision.placements for offer in placement.offers):
        for event_type, share in (("impression", 0.9), ("click", 0.3), ("dismiss", 0.1)):
            if rng.random() < share:
                raw = {
                    "event_id": f"{decision.decision_id}-{offer.offer_id}-{event_type}", "event_type": event_type,
                    "customer_id": decision.customer_id, "offer_id": offer.offer_id,
                    "decision_id": decision.decision_id, "occurred_at": decision.decided_at.isoformat(),
                }  # fmt: skip
                events.append(check_event(raw, service.clock()))
    if events:
        service.log_store.append(events, service.clock())
        service.learner.refresh()


def some_decisions(service, rng, n):
    made = []
    for _ in range(n):
        decision = service.decider.decide(question(rng))
        keep(service, decision)
        respond(service, decision, rng)
        made.append(decision)
    return made


def assert_equal(service, decisions):
    for decision in decisions:
        again = service.replayer.replay(decision.decision_id)
        assert again.equal, again.diff
        assert again.decision.log_payload == decision.log_payload  # to the last bit
        assert again.decision.placements == decision.placements


@pytest.mark.parametrize("policy", POLICIES)
def test_any_decision_comes_out_the_same_to_the_last_bit(service_at, policy):
    service, rng = service_at(policy=policy), random.Random(policy)
    decisions = some_decisions(service, rng, 40)
    assert_equal(service, decisions)
    shown = [one for decision in decisions for one in msgspec.json.decode(decision.log_payload)["placements"]]
    assert any(offer["p_model"] != offer["p_accept"] for one in shown for offer in one["offers"])  # it had learned


def test_draws_repeated_after_a_lost_race_and_those_without_counters_replay_too(service_at):
    service, rng = service_at(), random.Random(1)
    service.decider.contacts = unlucky = Unlucky(service.contacts, rng)
    decisions = some_decisions(service, rng, 120)
    rows = [msgspec.json.decode(decision.log_payload) for decision in decisions]
    assert min(unlucky.n_lost, unlucky.n_refused) > 5
    assert any(row["redrawn"] for row in rows)
    assert any(row["history"] is None and row["n_draws"] > 1 for row in rows)
    assert_equal(service, decisions)


def test_what_changed_since_changes_nothing(service_at):
    """A new release, another catalogue, other settings, more learned, a later day."""
    before, rng = service_at(), random.Random(2)
    decisions = some_decisions(before, rng, 25)
    write_release(before.settings.home.releases, "2", {"o01": 9.0})
    for name in ("o02", "o05"):
        before.facts.put(an_offer(name, 99.0, status="draft"), NOW)
    before.facts.remove(Lever, "push", NOW)
    before.refresh()
    decisions += some_decisions(before, rng, 10)
    changed = {"policy": "greedy", "prior_strength": 3.0, "segment_by": "tier", "time_zone": "America/New_York"}
    after = service_at(NOW + timedelta(days=20), **changed)
    assert {decision.model_versions["release"] for decision in decisions} == {"1", "2"}
    assert_equal(after, decisions)


def test_a_replay_logs_and_reserves_nothing(service_at):
    service = service_at()
    (decision,) = some_decisions(service, random.Random(3), 1)
    position = service.log_store.last_position()
    stock = service.contacts.stock(to_us(NOW))
    assert_equal(service, [decision, decision])
    assert (service.log_store.last_position(), service.contacts.stock(to_us(NOW))) == (position, stock)


def test_a_replay_explains_what_was_not_explained_then(service_at):
    service = service_at()
    (decision,) = some_decisions(service, random.Random(4), 1)
    again = service.replayer.replay(decision.decision_id, explain=True)
    assert again.equal
    assert len(again.decision.explanation) == len(decision.placements)


def test_what_differs_is_named(service_at):
    service = service_at()
    (decision,) = some_decisions(service, random.Random(5), 1)
    row = msgspec.json.decode(decision.log_payload)
    row["decision_id"], row["p_churn"] = "forged", 0.25
    keep(service, replace_payload(decision, "forged", msgspec.json.encode(row)))
    again = service.replayer.replay("forged")
    assert not again.equal
    assert [tuple(one) for one in again.diff] == [("/p_churn", 0.25, None)]


def replace_payload(decision, decision_id, payload):
    return msgspec.structs.replace(decision, decision_id=decision_id, log_payload=payload)


def test_a_decision_that_is_not_logged_is_not_found(service_at):
    with pytest.raises(NotFound):
        service_at().replayer.replay("01J")


@pytest.mark.parametrize("days", [31, 400])
def test_after_30_days_the_inputs_are_expired(service_at, days):
    (decision,) = some_decisions(service_at(), random.Random(6), 1)
    with pytest.raises(InputsExpired, match="30 days"):
        service_at(NOW + timedelta(days=days)).replayer.replay(decision.decision_id)


def test_without_its_release_a_decision_does_not_replay(service_at, tmp_path):
    service = service_at()
    (decision,) = some_decisions(service, random.Random(6), 1)
    (tmp_path / "home/releases/1").rename(tmp_path / "elsewhere")
    with pytest.raises(InputsExpired, match="release 1"):
        service.replayer.replay(decision.decision_id)


@pytest.mark.parametrize("lacking", ["inputs", "n_draws", "segment"])
def test_a_row_of_an_older_version_is_expired_and_no_error(service_at, lacking):
    service = service_at()
    (decision,) = some_decisions(service, random.Random(6), 1)
    row = msgspec.json.decode(decision.log_payload)
    for part in (row, *row["placements"]):
        part.pop(lacking, None)
    keep(service, replace_payload(decision, "old", msgspec.json.encode({**row, "decision_id": "old"})))
    with pytest.raises(InputsExpired):
        service.replayer.replay("old")


def test_an_answer_that_no_decision_stands_behind_is_logged_and_does_not_replay(service_at):
    service = service_at()
    asked = DecisionRequest(customer_id="c0", placements=(PlacementRequest("hero", 1),))
    edition = service.decider.edition
    decision = service.decider.nothing(edition, asked, NO_DECISION)
    keep(service, decision)
    row = msgspec.json.decode(service.log_store.decision(decision.decision_id).payload)
    assert row["placements"] == [{"placement_id": "hero", "segment": "", "offers": []}]
    assert row["request"]["placements"] == [{"placement_id": "hero", "limit": 1}]
    assert (row["catalogue_version"], row["n_draws"]) == (edition.view.version, 0)
    assert not {"log_payload", "exposures", "explanation"} & row.keys()
    with pytest.raises(InputsExpired, match="nothing was drawn"):
        service.replayer.replay(decision.decision_id)


def test_differences_point_at_what_differs():
    was = {"a": [1, {"b/c": 2.0}], "same": None, "gone": 1}
    now = {"a": [1, {"b/c": 2}], "same": None, "new": True}
    assert [tuple(one) for one in differences(was, now)] == [
        ("/a/1/b~1c", 2.0, 2), ("/gone", 1, None), ("/new", None, True)
    ]  # fmt: skip
    assert len(list(differences(list(range(500)), list(range(1, 501))))) == MOST_DIFFERENCES
