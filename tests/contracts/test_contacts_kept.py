"""What is kept of long histories, and what is forgotten without any limit noticing."""

from __future__ import annotations

import random
import sqlite3

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Cap, ContactPolicy, Cooldown, Pause
from features.events import to_us
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Stock
from serving.state.keeping import kept
from tests.contracts.contact_world import START, a_policy, an_offer, limits_of


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
