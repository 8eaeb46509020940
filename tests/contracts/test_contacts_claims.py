"""Claims: all or nothing, seen by everybody at once, judged by windows and pauses; and how they are undone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features.catalogue import Budget, Cap, Cooldown, Cost, Pause
from features.events import to_us
from serving.state.contacts import Claim, Claimed
from tests.contracts.contact_world import ONCE, SCARCE, START, a_policy, an_offer, limits_of

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
