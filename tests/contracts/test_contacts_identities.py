"""Customers who are joined, or erased."""

from __future__ import annotations

import sqlite3

from features.catalogue import Cap
from features.events import to_us
from tests.contracts.contact_world import SCARCE, START, an_offer, limits_of


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
