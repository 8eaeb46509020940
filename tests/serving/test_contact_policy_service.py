"""Contact policies, stock and events together in a service: what one decision took, the next one cannot have."""

from __future__ import annotations

from datetime import UTC, timedelta
from itertools import count

import msgspec
import pytest

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Placement
from features.events import Event, to_us
from features.facts import Facts
from features.home import Home
from serving.caps_left import caps_left
from serving.decision import DecisionRequest, PlacementRequest
from serving.settings import Settings
from serving.wiring import build
from tests.conftest import NOW
from tests.serving.conftest import an_offer

number = count()


@pytest.fixture
def service_with(tmp_path):
    """A started service whose clock a test may turn: `service.hand[0]`."""
    made = []

    def make(*items):
        facts = Facts(Home(tmp_path).facts_db)
        for name in ("hero", "strip"):
            facts.put(Placement(placement_id=name, name=name, channel="web"), NOW)
        for item in items:
            facts.put(item, NOW)
        facts.close()
        service = build(Settings(home=Home(tmp_path), epsilon=0.0, new_offer_share=0.0))
        made.append(service)
        service.hand = [NOW]
        service.clock = service.contacts._clock = lambda: service.hand[0]
        service.start()
        return service

    yield make
    for service in made:
        service.close()


def decide(service, *placements, customer="c", limit=1):
    asked = tuple(PlacementRequest(name, limit) for name in placements or ("hero",))
    return service.decider.decide(DecisionRequest(customer_id=customer, placements=asked))


def shown(decision):
    return [offer.offer_id for placement in decision.placements for offer in placement.offers]


def happens(service, event_type, decision, offer_id, customer="c"):
    event = Event(
        event_id=f"e-{next(number)}", event_type=event_type, customer_id=customer, occurred_at=service.clock(),
        decision_id=decision.decision_id, offer_id=offer_id,
    )  # fmt: skip
    service.log.submit([event], service.clock()).result(timeout=10)


def test_a_cap_holds_from_one_decision_to_the_next_and_frees_what_nobody_saw(service_with):
    service = service_with(an_offer("a", 9.0, caps=(Cap(limit=1, window="7d"),)), an_offer("b", 1.0))
    seen = decide(service)
    assert (shown(seen), shown(decide(service)), shown(decide(service, customer="other"))) == (["a"], ["b"], ["a"])
    happens(service, "impression", seen, "a")
    service.hand[0] += timedelta(minutes=31)
    assert shown(decide(service)) == ["b"]  # it was seen
    assert shown(decide(service, customer="other")) == ["a"]  # nobody saw it


def test_an_impression_is_reflected_in_the_very_next_decision(service_with):
    calm = ContactPolicy(policy_id="calm", name="calm", cooldown=Cooldown(dismiss="30d"))
    service = service_with(calm, an_offer("a", 9.0), an_offer("b", 1.0))
    first = decide(service)
    happens(service, "dismiss", first, "a")
    assert shown(decide(service)) == ["b"]
    service.hand[0] += timedelta(days=30)
    assert shown(decide(service)) == ["a"]


def test_a_policys_cap_holds_within_a_slate_and_across_placements(service_with):
    calm = ContactPolicy(policy_id="calm", name="calm", caps=(Cap(limit=3, window="1d", of="all"),))
    service = service_with(calm, *(an_offer(name) for name in "abcdef"))
    assert len(shown(decide(service, "hero", "strip", limit=2))) == 3
    assert shown(decide(service, "hero", "strip", limit=2)) == []
    assert len(shown(decide(service, limit=5, customer="other"))) == 3


def test_what_was_shown_on_another_channel_counts_there_also_if_its_events_do_not_say_where(service_with):
    calm = ContactPolicy(policy_id="calm", name="calm", channels=("web",), caps=(Cap(limit=1, window="1d", of="all"),))
    service = service_with(
        calm, an_offer("a", 9.0), an_offer("b", 1.0), Placement(placement_id="mail", name="mail", channel="email")
    )
    mailed = decide(service, "mail")
    happens(service, "impression", mailed, "a")
    assert shown(decide(service)) == ["a"]
    assert shown(decide(service)) == []


def test_the_last_unit_goes_to_one_and_a_budget_to_as_many_as_it_pays_for(service_with):
    cost, budget = Cost(amount=0.5, per="impression"), Budget(amount=1.0, per="day")
    service = service_with(
        an_offer("a", 9.0, inventory=1), an_offer("b", 5.0, cost=cost, budget=budget), an_offer("c", 1.0)
    )
    assert [shown(decide(service, customer=f"c-{n}"))[0] for n in range(5)] == ["a", "b", "b", "c", "c"]


def test_another_worker_counts_what_this_one_gave(service_with):
    service = service_with(an_offer("a", 9.0, inventory=2, caps=(Cap(limit=1, window="1d"),)), an_offer("b", 1.0))
    other = build(service.settings)
    other.clock = other.contacts._clock = service.clock
    other.start()
    assert [shown(decide(one)) for one in (service, other)] == [["a"], ["b"]]
    assert [shown(decide(one, customer="d"))[0] for one in (other, service)] == ["a", "b"]
    assert shown(decide(other, customer="e")) == ["b"]  # the second unit is gone
    other.close()


@pytest.mark.parametrize(("total", "taken"), [(1, 1), (2, 2), (None, 3)])
def test_late_impressions_take_of_the_total_as_it_was_last_put(service_with, total, taken):
    service = service_with(an_offer("a", 9.0, inventory=3), an_offer("b", 1.0))
    late = [decide(service, customer=f"c-{n}") for n in range(3)]
    service.hand[0] += timedelta(minutes=31)
    assert shown(decide(service, customer="other")) == ["a"]  # all three lapsed
    service.hand[0] += timedelta(minutes=31)
    service.decider.catch_up()  # gives back what "other" was shown as well
    service.facts.put(an_offer("a", 9.0, inventory=total), NOW)
    service.refresh()
    for n, decision in enumerate(late):
        happens(service, "impression", decision, "a", customer=f"c-{n}")
    service.decider.catch_up()
    assert service.contacts.stock(to_us(service.clock())).levels["a"].units == taken


def test_of_whom_no_more_can_be_counted_nothing_limited_is_drawn_and_no_race_is_claimed_lost(service_with, monkeypatch):
    monkeypatch.setattr("serving.decide.FULL", 3)
    monkeypatch.setattr("serving.caps_left.FULL", 3)
    service = service_with(an_offer("a", 9.0, caps=(Cap(limit=100, window="7d"),)), an_offer("b", 1.0))
    decisions = [decide(service) for _ in range(5)]
    assert [shown(one) for one in decisions] == [["a"], ["a"], ["a"], ["b"], ["b"]]
    assert [[degraded.code for degraded in one.degraded] for one in decisions[2:]] == [
        ["model_unavailable"], *2 * [["state_unavailable", "model_unavailable"]],
    ]  # fmt: skip
    rows = [msgspec.json.decode(one.log_payload) for one in decisions]
    assert not any(row["redrawn"] or row["lost"] for row in rows)
    assert rows[-1]["support"][0]["dropped"] == {"caps": 1}
    (history,) = service.contacts.histories(["c"])
    (left,) = caps_left(service.decider.edition.limits, history, to_us(NOW), UTC)
    assert (left["used"], left["left"]) == (3, 0)
