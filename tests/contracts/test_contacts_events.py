"""What events do to claims: in time, late, without a decision, and exactly once."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier, Thread

import pytest

from features.catalogue import Budget, Cap, Cost
from features.events import Event, to_us
from features.log import DecisionRow
from features.sqlite_log import SqliteLog
from tests.contracts.contact_world import ONCE, SCARCE, START, a_policy, an_offer, limits_of

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
