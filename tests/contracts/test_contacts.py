"""What every store of contacts and stock promises; SQLite is the first."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier, Thread
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Budget, Cap, ContactPolicy, Cooldown, Cost, Offer, Pause, Placement, Treatment
from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.events import Event, to_us
from features.facts import Catalogue
from features.log import DecisionRow, LogEvent, SqliteLog
from serving.catalogue_view import CatalogueView
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Stock
from serving.state.keeping import FULL, kept
from serving.state.sqlite_contacts import SqliteContacts

START = datetime(2026, 3, 4, 12, tzinfo=UTC)
LAPSES_AFTER = timedelta(minutes=30)
STORES = (SqliteContacts,)


class Events:
    """A log of nothing but events, in memory."""

    def __init__(self):
        self.rows = []

    def append(self, events, received_at):
        for event in events:
            self.rows.append(
                LogEvent(
                    len(self.rows) + 1, event.event_id, event.event_type, event.customer_id, to_us(event.occurred_at),
                    event.decision_id, event.offer_id, event.placement_id, None, event.channel, event.category, None,
                    None, "{}", to_us(received_at),
                )
            )  # fmt: skip

    def last_position(self):
        return len(self.rows)

    def events_after(self, position, limit):
        return self.rows[position : position + limit]


class World:
    """A store, a log and a clock, with words for what happens to them."""

    def __init__(self, store, folder):
        self.make, self.folder = store, folder
        self.now = START
        self.log = Events()
        self.opened = []
        self.n = 0
        self.contacts = self.open()

    def open(self, **more):
        self.opened.append(self.make(self.folder / "state.db", lambda: self.now, **more))
        return self.opened[-1]

    def later(self, **span):
        self.now += timedelta(**span)
        return self

    def decide(self, limits, *offer_ids, customer="c-1", channel="web", placement="hero", category=None, at=None):
        """The decision's id; None if any of it was lost."""
        self.n += 1
        at_us = to_us(at or self.now)
        picks = tuple(Claimed(0, offer_id, category, placement, channel) for offer_id in offer_ids)
        lapses_us = at_us + LAPSES_AFTER // timedelta(microseconds=1)
        claim = Claim(f"d-{self.n}", customer, at_us, lapses_us, picks)
        (lost,) = self.contacts.claim([claim], limits)
        return None if lost else claim.decision_id

    def happens(self, event_type, offer_id, decision_id=None, customer="c-1", at=None, limits=None, **more):
        self.n += 1
        money = {"value": Decimal(1), "currency": "EUR"} if event_type == "purchase" else {}
        event = Event(
            event_id=f"e-{self.n}", event_type=event_type, customer_id=customer, occurred_at=at or self.now,
            offer_id=offer_id, decision_id=decision_id, **money, **more,
        )  # fmt: skip
        self.log.append([event], self.now)
        return self.contacts.catch_up(self.log, limits)

    def read(self):
        return self.contacts.catch_up(self.log)

    def history(self, customer="c-1"):
        return self.contacts.histories([customer])[0].contacts

    def level(self, offer_id="o-1"):
        level = self.contacts.stock(to_us(self.now)).levels.get(offer_id)
        return level and (level.units, level.spent, level.spent_today)

    def close(self):
        for contacts in self.opened:
            contacts.close()


@pytest.fixture(params=STORES, ids=lambda store: store.__name__)
def world(request, tmp_path):
    made = World(request.param, tmp_path)
    yield made
    made.close()


def an_offer(offer_id="o-1", **changes):
    treatment = Treatment(treatment_id="t")
    return Offer(
        offer_id=offer_id, name="x", value=1, currency="EUR", status="approved", treatments=(treatment,), **changes
    )


def limits_of(*offers, policies=()):
    hero = Placement(placement_id="hero", name="hero", channel="web")
    made = tuple(an_offer(one) if isinstance(one, str) else one for one in offers)
    return Limits(CatalogueView(Catalogue(1, made, (hero,), contact_policies=tuple(policies))))


def a_policy(*caps, **more):
    return ContactPolicy(policy_id="calm", name="calm", caps=caps, **more)


SCARCE = limits_of(an_offer(inventory=2))
ONCE = limits_of(an_offer(caps=(Cap(limit=1, window="7d"),)), "o-2")
PER_IMPRESSION = limits_of(an_offer(cost=Cost(amount=0.1, per="impression"), budget=Budget(amount=0.3, per="total")))
PER_ACCEPT = limits_of(an_offer(cost=Cost(amount=2, per="accept"), budget=Budget(amount=4, per="total")))
DAILY = limits_of(an_offer(cost=Cost(amount=1, per="impression"), budget=Budget(amount=2, per="day")))


# claims


def test_a_claim_counts_at_once_and_in_every_process(world):
    assert world.decide(ONCE, "o-1")
    assert world.decide(ONCE, "o-1") is None
    (contact,) = world.open().histories(["c-1"])[0].contacts
    assert (contact.offer_id, contact.decided_us, contact.seen_us) == ("o-1", to_us(START), None)


def test_another_customer_has_caps_of_their_own(world):
    assert world.decide(ONCE, "o-1")
    assert world.decide(ONCE, "o-1", customer="c-2")


def test_one_lost_pick_leaves_nothing_of_its_claim(world):
    limits = limits_of(an_offer(inventory=1), an_offer("o-2", inventory=5))
    assert world.decide(limits, "o-1", customer="c-2")
    at_us = to_us(world.now)
    picks = (Claimed(1, "o-2", None, "hero", "web"), Claimed(0, "o-1", None, "hero", "web"))
    (lost,) = world.contacts.claim([Claim("d", "c-1", at_us, at_us + 1, picks)], limits)
    assert lost == [picks[1]]
    assert world.history() == ()
    assert world.level("o-2") is None


def test_claims_of_one_batch_see_each_other(world):
    at_us = to_us(world.now)
    pick = (Claimed(0, "o-1", None, "hero", "web"),)
    claims = [Claim(f"d-{n}", f"c-{n}", at_us, at_us + 1, pick) for n in range(5)]
    assert [bool(lost) for lost in world.contacts.claim(claims, SCARCE)] == [False, False, True, True, True]
    same = [Claim(f"s-{n}", "c", at_us, at_us + 1, pick) for n in range(3)]
    assert [bool(lost) for lost in world.contacts.claim(same, ONCE)] == [False, True, True]


def test_a_claim_made_twice_is_made_once(world):
    at_us = to_us(world.now)
    claim = Claim("d", "c-1", at_us, at_us + 10**9, (Claimed(0, "o-1", None, "hero", "web"),))
    assert [list(world.contacts.claim([claim], SCARCE)[0]) for _ in range(3)] == [[], [], []]
    assert world.level() == (1, 0.0, 0.0)
    assert len(world.history()) == 1


def test_histories_come_in_the_order_asked_for(world):
    world.decide(ONCE, "o-1", customer="c-2")
    found = world.contacts.histories(["nobody", "c-2", "nobody", "c-2"])
    assert [len(one.contacts) for one in found] == [0, 1, 0, 1]


def test_stock_is_the_same_object_until_it_moves(world):
    world.decide(SCARCE, "o-1")
    first = world.contacts.stock(to_us(world.now))
    assert world.contacts.stock(to_us(world.now)) is first
    world.decide(SCARCE, "o-1")
    assert world.contacts.stock(to_us(world.now)).levels["o-1"].units == 2
    assert first.levels["o-1"].units == 1  # what was read does not change under its reader


# lapse, impression, late


def test_what_nobody_saw_is_given_back_when_it_lapses(world):
    assert world.decide(SCARCE, "o-1")
    assert world.decide(ONCE, "o-1", customer="c-2")
    world.later(minutes=30).read()
    assert world.level() == (0, 0.0, 0.0)
    assert world.decide(ONCE, "o-1", customer="c-2")


@pytest.mark.parametrize("event_type", ["impression", "click", "accept", "purchase"])
def test_the_first_event_that_names_decision_and_offer_keeps_the_unit(world, event_type):
    decision = world.decide(SCARCE, "o-1")
    world.later(minutes=29).happens(event_type, "o-1", decision)
    world.happens("impression", "o-1", decision)
    assert len(world.history()) == 1
    world.later(days=40).read()
    assert world.level() == (1, 0.0, 0.0)


def test_an_impression_in_the_log_is_in_time_even_if_it_is_read_after_the_lapse(world):
    decision = world.decide(ONCE, "o-1")
    stocked = world.decide(SCARCE, "o-1", customer="c-2")
    world.read()
    world.later(minutes=29)
    for customer, named in (("c-1", decision), ("c-2", stocked)):
        event = Event(
            event_id=customer, event_type="impression", customer_id=customer, occurred_at=world.now,
            offer_id="o-1", decision_id=named,
        )  # fmt: skip
        world.log.append([event], world.now)
    world.later(minutes=2)
    assert world.decide(ONCE, "o-1") is None  # before anybody read the log
    assert world.level() == (1, 0.0, 0.0)
    world.read()
    assert world.decide(ONCE, "o-1") is None
    assert world.level() == (1, 0.0, 0.0)


def test_a_late_event_is_told_from_one_in_time_and_takes_stock_if_some_is_left(world):
    limits = limits_of(an_offer(inventory=1))
    late = world.decide(limits, "o-1")
    world.later(minutes=31).read()
    assert world.level() == (0, 0.0, 0.0)
    world.happens("impression", "o-1", late)
    assert world.level() == (1, 0.0, 0.0)
    (contact,) = world.history()
    assert contact.seen_us > contact.lapses_us


def test_a_late_event_takes_nothing_where_nothing_is_left(world):
    limits = limits_of(an_offer(inventory=1))
    late = world.decide(limits, "o-1")
    world.later(minutes=31).read()
    assert world.decide(limits, "o-1", customer="c-2")
    world.happens("impression", "o-1", late)
    assert world.level() == (1, 0.0, 0.0)
    assert world.history()[0].seen_us is not None  # and yet it counts for the customer's caps


@pytest.mark.parametrize("days", [8, 20])  # the attribution window is 7: the hold itself is forgotten
def test_an_event_that_comes_after_its_hold_is_forgotten_still_takes_stock_if_some_is_left(world, days):
    limits = limits_of(an_offer(inventory=2))
    late = [world.decide(limits, "o-1", customer=f"c-{n}") for n in (1, 2)]
    world.later(minutes=31).read()
    world.later(days=days).read()
    assert world.decide(limits, "o-1", customer="c-3")
    for _ in range(2):  # a click follows the impression, and keeps what is kept
        world.happens("impression", "o-1", late[0], limits=limits)
        world.happens("click", "o-1", late[0], limits=limits)
    assert world.level() == (2, 0.0, 0.0)
    world.happens("impression", "o-1", late[1], customer="c-2", limits=limits)
    assert world.level() == (2, 0.0, 0.0)  # nothing was left
    world.later(days=days).read()
    assert world.level() == (1, 0.0, 0.0)  # the third, whom nobody saw, has lapsed
    world.happens("impression", "o-1", "never-made", customer="c-2", limits=limits)
    assert world.level() == (1, 0.0, 0.0)


def test_money_per_acceptance_of_a_forgotten_hold_waits_for_the_acceptance_again(world):
    limits = limits_of(an_offer(cost=Cost(amount=1, per="accept"), budget=Budget(amount=5, per="total")))
    late = world.decide(limits, "o-1")
    world.later(minutes=31).read()
    world.later(days=8).read()
    world.happens("impression", "o-1", late, limits=limits)
    assert world.level() == (0, 1.0, 1.0)
    world.later(days=8).read()
    assert world.level()[:2] == (0, 0.0)


def costing(total, per="total"):
    return limits_of(an_offer(cost=Cost(amount=1, per="impression"), budget=Budget(amount=total, per=per)))


@pytest.mark.parametrize(
    ("before", "now", "level"),
    [
        (limits_of(an_offer(inventory=3)), limits_of(an_offer(inventory=1)), (1, 0.0, 0.0)),
        (limits_of(an_offer(inventory=3)), limits_of(an_offer(inventory=0)), (0, 0.0, 0.0)),
        (costing(3), costing(2), (0, 2.0, 2.0)),
        (costing(3), costing(1, "day"), (0, 1.0, 1.0)),
        (limits_of(an_offer(inventory=3)), limits_of(an_offer()), (3, 0.0, 0.0)),
    ],
)
def test_a_late_event_takes_of_the_present_total_not_of_that_at_the_claim(world, before, now, level):
    late = [world.decide(before, "o-1", customer=f"c-{n}") for n in range(3)]
    world.later(minutes=31).read()
    for n, decision in enumerate(late):
        world.happens("impression", "o-1", decision, customer=f"c-{n}", limits=now)
    assert world.level() == level


def test_a_late_event_takes_of_a_total_that_was_raised(world):
    one, two = limits_of(an_offer(inventory=1)), limits_of(an_offer(inventory=2))
    late = world.decide(one, "o-1")
    world.later(minutes=31).read()
    assert world.decide(one, "o-1", customer="c-2")
    world.happens("impression", "o-1", late, limits=two)
    assert world.level() == (2, 0.0, 0.0)


def test_a_dismissal_counts_as_seen_but_keeps_no_unit(world):
    decision = world.decide(SCARCE, "o-1")
    world.happens("dismiss", "o-1", decision)
    world.later(minutes=31).read()
    (contact,) = world.history()
    assert (contact.answer, contact.seen_us) == ("dismiss", to_us(START))
    assert world.level() == (0, 0.0, 0.0)


def test_the_last_answer_stays_whatever_order_the_events_come_in(world):
    decision = world.decide(ONCE, "o-1")
    world.later(minutes=5).happens("dismiss", "o-1", decision)
    world.happens("click", "o-1", decision, at=START + timedelta(minutes=1))
    (contact,) = world.history()
    assert (contact.answer, contact.answered_us) == ("dismiss", to_us(START + timedelta(minutes=5)))


def test_an_event_that_claims_to_be_from_before_its_decision_is_not_believed(world):
    decision = world.decide(ONCE, "o-1")
    world.later(minutes=1).happens("impression", "o-1", decision, at=START - timedelta(days=90))
    assert world.history()[0].seen_us == to_us(START)


# what names no decision


def test_an_impression_without_a_decision_counts(world):
    world.happens("impression", "o-1", channel="app")
    (contact,) = world.history()
    assert (contact.offer_id, contact.channel, contact.decision_id, contact.seen_us) == (
        "o-1",
        "app",
        None,
        to_us(START),
    )
    assert world.decide(ONCE, "o-1") is None


def test_an_impression_without_a_decision_is_that_of_the_claim_it_can_belong_to(world):
    world.decide(ONCE, "o-1")
    world.later(minutes=1).happens("impression", "o-1")
    assert len(world.history()) == 1
    world.happens("impression", "o-1")
    assert len(world.history()) == 2  # shown again


def test_an_unknown_decision_counts_once_for_the_customer_and_for_no_stock(world):
    world.decide(SCARCE, "o-1", customer="c-2")
    for event_type in ("impression", "click", "accept"):
        world.happens(event_type, "o-1", "from another life")
    (contact,) = world.history()
    assert contact.answer == "positive"
    assert world.level() == (1, 0.0, 0.0)


def test_a_purchase_elsewhere_is_no_contact(world):
    for event_type in ("purchase", "click", "accept"):
        world.happens(event_type, "o-1")
    world.happens("view", "o-1")
    world.happens("visit", None)
    assert world.history() == ()


def test_a_no_without_a_decision_is_that_of_the_newest_contact(world):
    world.decide(limits_of("o-1", policies=[a_policy(Cap(limit=9, window="7d", of="all"))]), "o-1")
    world.later(minutes=1).happens("dismiss", "o-1")
    world.happens("reject", "o-9")
    assert [(c.offer_id, c.answer) for c in world.history()] == [("o-1", "dismiss"), ("o-9", "reject")]


def test_events_by_another_name_of_the_customer_find_the_decision(world):
    decision = world.decide(ONCE, "o-1", customer="\x1fvisitor")
    world.happens("impression", "o-1", decision, customer="c-1")
    assert world.history("\x1fvisitor")[0].seen_us is not None
    assert world.history("c-1") == ()


# money


def test_money_per_impression_is_held_and_then_kept(world):
    decisions = [world.decide(PER_IMPRESSION, "o-1", customer=f"c-{n}") for n in range(4)]
    assert [one is not None for one in decisions] == [True, True, True, False]  # 0.1 three times is 0.3, exactly
    world.happens("impression", "o-1", decisions[0], customer="c-0")
    world.later(minutes=31).read()
    assert world.level() == (0, 0.1, 0.1)


def test_money_per_acceptance_is_held_until_the_acceptance(world):
    decision = world.decide(PER_ACCEPT, "o-1")
    world.happens("impression", "o-1", decision)
    world.later(days=6).happens("accept", "o-1", decision)
    world.later(days=30).read()
    assert world.level()[1] == 2.0


def test_money_per_acceptance_comes_back_when_the_attribution_window_ends(world):
    decision = world.decide(PER_ACCEPT, "o-1")
    world.happens("impression", "o-1", decision)
    world.later(days=7).read()
    assert world.level()[1] == 0.0
    world.happens("accept", "o-1", decision)  # nobody waits for it any more
    assert world.level()[1] == 0.0


def test_what_an_acceptance_is_is_said_by_the_attribution(world):
    world.contacts = world.open(attribution=Attribution(outcomes=("purchase",), window_days=2))
    bought, accepted = world.decide(PER_ACCEPT, "o-1"), world.decide(PER_ACCEPT, "o-1")
    world.happens("purchase", "o-1", bought)
    world.happens("accept", "o-1", accepted)
    world.later(days=2).read()
    assert world.level()[1] == 2.0


def test_an_offer_may_say_how_long_its_acceptance_is_waited_for(world):
    cost, budget = Cost(amount=2, per="accept"), Budget(amount=4, per="total")
    limits = limits_of(
        an_offer(cost=cost, budget=budget, attributes={"days": 10}),
        an_offer("o-2", cost=cost, budget=budget, attributes={"days": "odd"}),
    )
    world.contacts = world.open(attribution=Attribution(window_attribute="days", at_most_days=8))
    decision = world.decide(limits, "o-1", "o-2")
    for offer_id in ("o-1", "o-2"):
        world.happens("impression", offer_id, decision)
    for days, left in ((7, (2.0, 0.0)), (1, (0.0, 0.0))):  # ten days, but at most eight; the other has the default
        world.later(days=days).read()
        assert (world.level("o-1")[1], world.level("o-2")[1]) == left


def test_a_flood_of_impressions_ends_in_a_customer_left_alone_and_forgets_no_claim(world):
    limits = limits_of(*(f"o-{n}" for n in range(5)), policies=[a_policy(Cap(limit=1_000_000, window="7d", of="all"))])
    decision = world.decide(limits, "o-1")
    for n in range(FULL + 5):
        world.log.append(
            [
                Event(
                    event_id=f"f-{n}", event_type="impression", customer_id="c-1", occurred_at=world.now, offer_id="o-2"
                )
            ],
            world.now,
        )
    while world.read():
        pass
    assert len(world.history()) == FULL
    assert world.decide(limits, "o-3") is None
    world.happens("impression", "o-1", decision)
    assert world.history()[0].seen_us is not None
    assert world.later(days=32).decide(limits, "o-3")


def test_a_days_budget_is_whole_again_at_midnight_of_the_deployment(world):
    world.contacts = world.open(time_zone=ZoneInfo("Europe/Berlin"))
    decided = [world.decide(DAILY, "o-1", customer=f"c-{n}") for n in range(3)]
    assert decided[2] is None
    world.now = datetime(2026, 3, 4, 22, 59, 59, tzinfo=UTC)
    assert world.decide(DAILY, "o-1", customer="c-4") is None or world.level()[2] <= 2
    world.now = datetime(2026, 3, 4, 23, 0, tzinfo=UTC)  # midnight in Berlin
    stock = world.contacts.stock(to_us(world.now))
    assert (stock.day, stock.levels["o-1"].spent_today) == ("2026-03-05", 0.0)
    assert world.decide(DAILY, "o-1", customer="c-5")


def test_what_a_day_held_and_gave_back_does_not_enrich_the_next(world):
    world.now = datetime(2026, 3, 4, 23, 45, tzinfo=UTC)
    assert world.decide(DAILY, "o-1", customer="c-1")
    world.later(minutes=20)  # 00:05
    assert world.decide(DAILY, "o-1", customer="c-2")
    world.later(minutes=10).read()  # the first has lapsed
    assert world.level() == (0, 1.0, 1.0)


def test_a_clock_that_is_behind_goes_on_in_the_later_day(world):
    tomorrow = datetime(2026, 3, 5, 0, 0, tzinfo=UTC)
    for n in range(2):
        assert world.decide(DAILY, "o-1", customer=f"c-{n}", at=tomorrow)
    assert world.decide(DAILY, "o-1", customer="c-3", at=tomorrow - timedelta(seconds=1)) is None


def test_a_paced_offer_spends_no_faster_than_the_day_passes(world):
    cost, budget = Cost(amount=1, per="impression"), Budget(amount=24, per="day")
    limits = limits_of(an_offer(cost=cost, budget=budget, pacing=True))
    world.now = datetime(2026, 3, 4, 0, 0, tzinfo=UTC)
    spent = []
    for hour in range(24):
        world.now = datetime(2026, 3, 4, hour, 0, tzinfo=UTC)
        n = 0
        while decision := world.decide(limits, "o-1", customer=f"c-{hour}-{n}"):
            world.happens("impression", "o-1", decision, customer=f"c-{hour}-{n}")
            n += 1
        spent.append(world.level()[2])
    assert spent == [1.0, *(float(hour) for hour in range(1, 24))]  # the first one goes at once, then one per hour


# a PUT changes the total


def test_another_total_counts_what_was_used_before(world):
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1")
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1", customer="c-2") is None
    assert world.decide(limits_of(an_offer(inventory=2)), "o-1", customer="c-2")
    assert world.decide(limits_of(an_offer(inventory=1)), "o-1", customer="c-3") is None
    assert world.level() == (2, 0.0, 0.0)


# cancel


def test_a_cancelled_decision_leaves_nothing(world):
    both = limits_of(
        an_offer(inventory=1, caps=(Cap(limit=1, window="7d"),), cost=Cost(amount=1, per="accept"),
                 budget=Budget(amount=1, per="total"))
    )  # fmt: skip
    decision = world.decide(both, "o-1")
    world.contacts.cancel([decision, "never made"])
    assert world.level() == (0, 0.0, 0.0)
    assert world.history() == ()
    assert world.decide(both, "o-1")
    world.contacts.cancel([decision])
    assert world.level() == (1, 1.0, 1.0)


def test_what_was_seen_is_not_cancelled(world):
    decision = world.decide(SCARCE, "o-1")
    world.happens("impression", "o-1", decision)
    world.contacts.cancel([decision])
    assert world.level() == (1, 0.0, 0.0)
    assert len(world.history()) == 1


# exactly once


def test_events_are_taken_in_once_by_whichever_worker(world):
    other = world.open()
    world.happens("impression", "o-1")
    assert other.catch_up(world.log) == 0
    world.happens("impression", "o-2")
    assert (other.catch_up(world.log), world.read(), len(world.history())) == (0, 0, 2)


def test_many_workers_at_once_take_every_event_in_once(world):
    events = [
        Event(
            event_id=f"e-{n}", event_type="impression", customer_id=f"c-{n % 7}", occurred_at=START, offer_id="o-1"
        )
        for n in range(700)
    ]  # fmt: skip
    world.log.append(events, START)
    workers = [world.open() for _ in range(4)]
    barrier, taken = Barrier(4), []

    def work(contacts):
        barrier.wait()
        taken.append(contacts.catch_up(world.log))

    threads = [Thread(target=work, args=(one,)) for one in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 700
    assert [len(world.history(f"c-{n}")) for n in range(7)] == [100] * 7


def test_decisions_between_events_are_passed_over(world, tmp_path):
    world.log = SqliteLog(tmp_path / "log.db")
    world.log.append_decisions([DecisionRow(f"d-{n}", "c-1", 1, b"{}") for n in range(300)])
    assert world.read() == 0
    assert world.happens("impression", "o-1") == 1
    assert len(world.history()) == 1
    world.log.close()


# joining and erasing


def test_joined_customers_have_one_history_and_their_caps_add_up(world):
    twice = limits_of(an_offer(caps=(Cap(limit=2, window="7d"),)))
    anonymous = world.decide(twice, "o-1", customer="\x1fv")
    world.later(minutes=1).decide(twice, "o-1", customer="c-1")
    assert world.contacts.join("\x1fv", "c-1") == 1
    assert [c.decided_us for c in world.history()] == [to_us(START), to_us(world.now)]
    assert world.history("\x1fv") == world.history()
    assert world.decide(twice, "o-1", customer="\x1fv") is None
    world.happens("impression", "o-1", anonymous, customer="\x1fv")
    assert world.history()[0].seen_us is not None
    assert world.contacts.join("\x1fv", "c-1") == 0  # again


def test_a_join_of_joined_ones_leads_to_the_last(world):
    world.happens("impression", "o-1", customer="a")
    world.contacts.join("a", "b")
    world.contacts.join("b", "c")
    world.happens("impression", "o-2", customer="a")
    assert [c.offer_id for c in world.history("c")] == ["o-1", "o-2"]
    assert world.contacts.join("c", "a") == 0  # they are one already
    assert len(world.history("b")) == 2


def test_an_erased_customer_is_forgotten_with_all_that_were_joined(world, tmp_path):
    world.decide(SCARCE, "o-1", customer="\x1fv")
    world.happens("impression", "o-2", customer="c-1")
    world.contacts.join("\x1fv", "c-1")
    assert world.contacts.erase("c-1") == 2
    assert world.contacts.erase("c-1") == 0
    assert world.history() == world.history("\x1fv") == ()
    assert world.level() == (1, 0.0, 0.0)  # what the offer used stays used
    with sqlite3.connect(tmp_path / "state.db") as db:
        dump = "\n".join(db.iterdump())
    db.close()
    assert "c-1" not in dump
    assert "\x1fv" not in dump


def test_an_erased_customer_is_not_in_free_pages_either(world, tmp_path):
    for n in range(30):
        world.happens("impression", "o-1", customer=f"somebody-{n}")
        world.happens("impression", f"offer-of-erased-{n}", customer="erased")
    world.contacts.erase("erased")
    world.close()
    assert b"erased" not in (tmp_path / "state.db").read_bytes()


# what is kept


def test_contacts_older_than_every_window_are_forgotten(world):
    limits = limits_of(an_offer(caps=(Cap(limit=5, window="90d"),)))
    world.happens("impression", "o-1")
    world.later(days=89).decide(limits, "o-1")
    assert len(world.history()) == 2
    world.later(days=1, seconds=1).decide(limits, "o-1")
    assert len(world.history()) == 2


MANY_CAPS = (
    limits_of("o-0", "o-1", "o-2", "o-3", policies=[a_policy(Cap(limit=3, window="2d"))]),
    limits_of("o-0", "o-1", "o-2", "o-3", policies=[a_policy(Cap(limit=20, window="7d", of="all"), channels=("web",))]),
    limits_of(
        *(an_offer(f"o-{n}", category=f"k-{n % 2}", caps=(Cap(limit=n + 1, window="3d"),)) for n in range(4)),
        policies=[a_policy(Cap(limit=30, window="calendar_month", of="category"), channels=("app",))],
    ),
    limits_of("o-0", "o-1", policies=[a_policy(cooldown=Cooldown(impression="4h", dismiss="9d"))]),
    limits_of("o-0", "o-1", "o-2", "o-3", policies=[a_policy(cooldown=Cooldown(impression="1h"))]),
    limits_of("o-0", "o-1", policies=[a_policy(pause_after=Pause(for_="2h", ignored=20))]),
    limits_of("o-0", "o-1", policies=[a_policy(pause_after=Pause(for_="1d", ignored=50, rejected=7))]),
    limits_of("o-0", "o-1", policies=[a_policy(pause_after=Pause(for_="1h", rejected=5), channels=("app",))]),
    limits_of(
        *(an_offer(f"o-{n}", caps=(Cap(limit=n + 1, window="3d"),)) for n in range(4)),
        policies=[
            a_policy(Cap(limit=9, window="2d"), pause_after=Pause(for_="3h", ignored=5), channels=("web",)),
            ContactPolicy(policy_id="calmer", name="calmer", pause_after=Pause(for_="12h", ignored=30, rejected=9)),
        ],
    ),
)


@pytest.mark.parametrize("limits", MANY_CAPS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), n_contacts=st.integers(100, 250))
def test_forgetting_contacts_changes_no_cap_cool_down_or_pause(limits, seed, n_contacts):
    """Against a customer of whom everything is kept: the same claims are lost, step by step, whenever seen."""
    minute_us, contacts, some, now_us = 60_000_000, [], [], to_us(START)
    chance = random.Random(seed)
    p_yes, most_minutes = chance.choice([0.02, 0.3]), chance.choice([20, 600])
    unseen = []
    for n in range(n_contacts):
        offer, channel = chance.randrange(4), chance.choice(["web", "app"])
        now_us += chance.randrange(1, most_minutes) * minute_us
        for seen_us, decision_id in [one for one in unseen if one[0] <= now_us]:
            answer = "positive" if chance.random() < p_yes else chance.choice(["", "", "dismiss"])
            changes = {"seen_us": seen_us, "answer": answer, "answered_us": seen_us if answer else None}
            for held in (contacts, some):
                (at,) = (at for at, one in enumerate(held) if one.decision_id == decision_id)
                held[at] = msgspec.structs.replace(held[at], **changes)
        unseen = [one for one in unseen if one[0] > now_us]
        if n > 60 and chance.random() < 0.3:
            _same_claims_are_lost(limits, contacts, some, now_us + chance.randrange(90) * minute_us)
        some = list(kept(some, limits.needs, now_us, now_us))
        one = Contact(
            f"o-{offer}", f"k-{offer % 2}", "hero", channel, f"d-{n}", now_us, now_us + 30 * minute_us
        )  # fmt: skip
        contacts.append(one)
        some.append(one)
        if chance.random() < 0.7:
            unseen.append((now_us + chance.randrange(29) * minute_us, one.decision_id))
    _same_claims_are_lost(limits, contacts, kept(some, limits.needs, now_us, now_us), now_us)
    whole = {one.decision_id: one.decided_us for one in contacts}
    assert [one.decided_us for one in some] == sorted(whole[one.decision_id] for one in some)


def _same_claims_are_lost(limits, contacts, some, now_us):
    for offer in range(4):
        for channel in ("web", "app"):
            pick = (Claimed(0, f"o-{offer}", f"k-{offer % 2}", "hero", channel),)
            claim = Claim("d", "c", now_us, now_us + 1, pick)
            whole = limits.broken(claim, ContactHistory(tuple(contacts)), Stock())
            assert list(limits.broken(claim, ContactHistory(tuple(some)), Stock())) == list(whole)


def test_an_offer_rests_from_when_it_was_seen_last_even_if_an_older_decision_was():
    limits = limits_of("o-0", "o-1", policies=[a_policy(cooldown=Cooldown(impression="1h"))])
    start_us, minute_us = to_us(START), 60_000_000
    times = [("o-0", 0, 29), ("o-0", 1, 2), *(("o-1", 30 + n / 4, 30 + n / 4) for n in range(70))]
    contacts = []
    for n, (offer_id, decided, seen) in enumerate(times):
        decided_us, seen_us = (start_us + int(at * minute_us) for at in (decided, seen))
        lapses_us = decided_us + 30 * minute_us
        contacts.append(Contact(offer_id, None, "hero", "web", f"d-{n}", decided_us, lapses_us, seen_us))
    now_us = start_us + 65 * minute_us
    some = kept(contacts, limits.needs, now_us, now_us)
    assert len(some) < len(contacts)
    claim = Claim("d", "c", now_us, now_us + 1, (Claimed(0, "o-0", None, "hero", "web"),))
    assert limits.broken(claim, ContactHistory(tuple(some)), Stock()) == [claim.picks[0]]


@pytest.mark.parametrize("ignored", [5, 20, 50])
def test_a_pause_comes_after_as_many_ignored_contacts_however_long_the_history(world, ignored):
    patient = a_policy(Cap(limit=1, window="30m", of="offer"), pause_after=Pause(for_="12h", ignored=ignored))
    limits = limits_of("o-0", "o-1", "o-2", policies=[patient])
    shown, runs = 0, []
    for n in range(280):
        decision = world.later(hours=1).decide(limits, f"o-{n % 3}")
        if decision:
            world.happens("impression", f"o-{n % 3}", decision)
            shown += 1
        elif shown:
            runs.append(shown)
            shown = 0
    assert set(runs) == {ignored}


def test_a_run_goes_on_over_months_and_one_that_ended_counts_no_more(world):
    limits = limits_of("o-1", policies=[a_policy(pause_after=Pause(for_="1d", ignored=3))])
    paused = []
    for _ in range(9):
        decision = world.later(days=20).decide(limits, "o-1")
        world.happens("impression", "o-1", decision)
        paused.append(world.later(minutes=31).decide(limits, "o-1") is None)
        world.contacts.cancel([f"d-{world.n}"])
    assert paused == [False, False, True] * 3
    assert len(world.history()) < 6


def test_a_hot_customer_of_uncapped_offers_stays_small(world):
    limits = limits_of(
        "o-1", "o-2", policies=[a_policy(Cap(limit=3, window="1d", of="placement"), channels=("email",))]
    )
    for _ in range(300):
        assert world.later(seconds=1).decide(limits, "o-1")
    assert len(world.history()) <= 75


def test_customers_and_claims_that_are_over_are_forgotten(world, tmp_path):
    weekly = limits_of(an_offer(caps=(Cap(limit=1, window="45d"),)))
    world.decide(weekly, "o-1")
    world.happens("impression", "o-2", customer="c-2")
    world.contacts.join("alias", "c-1")
    for days, left in ((44, {"c-1", "c-2", "alias"}), (2, {"alias"})):
        world.later(days=days).contacts.keep_house(world.log)
        with sqlite3.connect(tmp_path / "state.db") as db:
            assert {name for (name,) in db.execute("SELECT customer_id FROM contacts")} == left
            assert db.execute("SELECT count(*) FROM claims").fetchone() == (0,)
        db.close()


# windows, cool-down and pause hold at the claim as well


@pytest.mark.parametrize(
    ("policy", "span"),
    [
        (a_policy(Cap(limit=1, window="2h", of="all")), timedelta(hours=2)),
        (a_policy(cooldown=Cooldown(impression="2h")), timedelta(hours=2)),
        (a_policy(Cap(limit=1, window="calendar_day", of="all")), timedelta(hours=12)),
    ],
)  # fmt: skip
def test_a_claim_stands_again_when_the_window_is_over(world, policy, span):
    limits = limits_of("o-1", policies=[policy])
    decision = world.decide(limits, "o-1")
    world.happens("impression", "o-1", decision)
    world.now = START + span - timedelta(microseconds=1)
    assert world.decide(limits, "o-1") is None
    world.later(microseconds=1)
    assert world.decide(limits, "o-1")


def test_a_pause_holds_at_the_claim(world):
    limits = limits_of("o-1", "o-2", policies=[a_policy(pause_after=Pause(for_="14d", rejected=2))])
    for offer_id in ("o-1", "o-2"):
        world.happens("reject", offer_id, world.decide(limits, offer_id))
    assert world.decide(limits, "o-1") is None
    assert world.later(days=14).decide(limits, "o-1")


# many at once


def _hammer(path, store, n, found):
    contacts = store(path, lambda: START, wait_s=30.0)
    at_us, made = to_us(START), 0
    for k in range(60):
        name = f"{n}-{k}"
        pick = (Claimed(0, f"o-{k % 3}", None, "hero", "web"),)
        (lost,) = contacts.claim([Claim(name, f"c-{k % 5}", at_us, at_us + 10**9, pick)], HOT)
        made += not lost
        if not lost and k % 7 == 0:
            contacts.cancel([name])
            made -= 1
    found.put(made)
    contacts.close()


HOT = limits_of(*(an_offer(f"o-{n}", inventory=20, caps=(Cap(limit=9, window="1d"),)) for n in range(3)))


def test_processes_that_race_for_the_last_units_never_exceed_a_limit(world, tmp_path):
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    workers = [context.Process(target=_hammer, args=(tmp_path / "state.db", world.make, n, found)) for n in range(2)]
    for worker in workers:
        worker.start()
    made = sum(found.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join()
    levels = world.contacts.stock(to_us(START)).levels
    assert sum(level.units for level in levels.values()) == made
    assert {offer_id: level.units for offer_id, level in levels.items()} == {f"o-{n}": 20 for n in range(3)}
    for customer in range(5):
        counted = Counter(c.offer_id for c in world.history(f"c-{customer}"))
        assert all(n <= 9 for n in counted.values())


def test_a_store_that_cannot_be_written_says_so_and_goes_on_when_it_can(world, tmp_path):
    world.decide(SCARCE, "o-1")
    impatient = world.open(wait_s=0.05)
    with sqlite3.connect(tmp_path / "state.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        at_us = to_us(START)
        claim = Claim("d", "c", at_us, at_us + 1, (Claimed(0, "o-1", None, "hero", "web"),))
        with pytest.raises(StoreUnavailable):
            impatient.claim([claim], SCARCE)
        assert len(impatient.histories(["c-1"])[0].contacts) == 1  # who only reads need not wait
        assert impatient.stock(at_us).levels["o-1"].units == 1
        other.execute("ROLLBACK")
    other.close()
    assert impatient.claim([claim], SCARCE) == [[]]
