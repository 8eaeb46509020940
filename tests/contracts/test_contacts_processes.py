"""Many processes at once, and one that cannot write."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections import Counter

import pytest

from features.catalogue import Cap
from features.errors import StoreUnavailable
from features.events import to_us
from serving.state.contacts import Claim, Claimed
from tests.contracts.contact_world import SCARCE, START, an_offer, limits_of


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
