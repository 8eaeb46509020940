"""Contacts when processes are killed, or their file is locked, broken or gone: exact, or said to be unavailable."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from bench import caps, caps_audit, caps_world
from features.catalogue import Cap, Offer, Treatment
from features.errors import StoreUnavailable
from features.events import Event, from_us, to_us
from features.facts import Catalogue
from features.sqlite_log import SqliteLog
from serving.catalogue_view import CatalogueView
from serving.rules.limits import Limits
from serving.state import sqlite_contacts
from serving.state.connections import PAGE_BYTES
from serving.state.contacts import Claim, Claimed
from serving.state.sqlite_contacts import SqliteContacts

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
N_EVENTS = 3_000

READER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from features.sqlite_log import SqliteLog
from serving.state.sqlite_contacts import SqliteContacts

folder = Path(sys.argv[1])
log = SqliteLog(folder / "log.db")
contacts = SqliteContacts(folder / "state.db", lambda: datetime(2026, 3, 4, 12, tzinfo=UTC), wait_s=20.0)
print("open", flush=True)
while contacts.catch_up(log):
    print("read", flush=True)
"""


def offers_with(**limits):
    a = (Treatment(treatment_id="a"),)
    offer = Offer(offer_id="o-1", name="x", value=1.0, currency="EUR", status="approved", treatments=a, **limits)
    return Limits(CatalogueView(Catalogue(1, (offer,), ())))


LIMITS = offers_with(inventory=100, caps=(Cap(limit=3, window="7d"),))


def a_claim(n, customer="c-1"):
    pick = (Claimed(0, "o-1", None, "hero", "web"),)
    return Claim(f"d-{n}", customer, to_us(NOW), to_us(NOW + timedelta(minutes=30)), pick)


@pytest.fixture
def contacts(tmp_path):
    made = SqliteContacts(tmp_path / "state.db", lambda: NOW, wait_s=0.1)
    yield made
    made.close()


def test_many_processes_one_of_them_killed_break_no_limit_and_leak_nothing(tmp_path):
    report = caps.run(decisions=1_000, processes=2, folder=tmp_path)
    assert report.examples == []
    assert report.good
    assert (report.killed, report.decisions) >= (1, 900)
    assert report.exhausted >= 20  # of 40 that are limited
    assert report.refused_blind + report.lost_races > 0  # limits were really at stake


def test_the_check_of_the_bench_finds_what_is_planted():
    report = caps_world.Report()
    shown = [caps_audit.Shown(caps_world.START_US + n, "o-1", sys.maxsize, "hero", None) for n in range(3)]
    caps_audit.check_cap(shown, Cap(limit=3, window="1d"), "", report)
    assert report.cap_violations == 0
    caps_audit.check_cap(shown, Cap(limit=2, window="1d"), "", report)
    caps_audit.check_rest(shown[:2], "", report)
    assert (report.cap_violations, report.cooldown_violations, report.good) == (1, 1, False)


def test_the_check_of_the_bench_finds_a_decision_within_a_pause(tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    times = [caps_world.START_US + n * caps_world.HOUR_US for n in range(caps_world.IGNORED)]
    ends_us = times[-1] + caps_world.LAPSE_US
    times += [ends_us + n * caps_world.PAUSED_US for n in (0.5, 1)]  # within the pause, and after it
    granted, logged = {}, {}
    for n, at_us in enumerate(map(int, times)):
        granted[f"d-{n}"] = caps_world.Granted(f"d-{n}", "c", at_us, "hero", ["o"], at_us, at_us)
        event = Event(
            event_id=f"e-{n}", event_type="impression", customer_id="c", occurred_at=from_us(at_us),
            decision_id=f"d-{n}", offer_id="o",
        )  # fmt: skip
        log.append([event], from_us(at_us))
        logged[f"e-{n}"] = at_us
    log.close()
    log, report = SqliteLog(tmp_path / "log.db"), caps_world.Report()
    caps_audit.check_pauses(log, granted, set(), logged, report)
    log.close()
    assert (report.pauses_checked, report.pauses, report.pause_violations) == (len(times), 1, 1)


@pytest.mark.parametrize("n_reads", [0, 2])
def test_a_killed_reader_of_the_log_took_every_event_in_once_or_not_at_all(tmp_path, n_reads):
    log = SqliteLog(tmp_path / "log.db")
    events = [
        Event(event_id=f"e-{n}", event_type="impression", customer_id=f"c-{n % 50}", occurred_at=NOW, offer_id="o-1")
        for n in range(N_EVENTS)
    ]
    log.append(events, NOW)
    with subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(1 + n_reads):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    contacts = SqliteContacts(tmp_path / "state.db", lambda: NOW)
    while contacts.catch_up(log):
        pass
    found = contacts.histories([f"c-{n}" for n in range(50)])
    assert [len(one.contacts) for one in found] == [N_EVENTS // 50] * 50
    contacts.close()
    log.close()


def test_a_locked_file_is_unavailable_for_claims_and_free_again_at_once(contacts, tmp_path):
    contacts.claim([a_claim(1)], LIMITS)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for call in (lambda: contacts.claim([a_claim(2)], LIMITS), lambda: contacts.cancel(["d-1"])):
        with pytest.raises(StoreUnavailable):
            call()
    assert contacts.stock(to_us(NOW)).levels["o-1"].units == 1
    other.execute("ROLLBACK")
    other.close()
    assert contacts.claim([a_claim(2)], LIMITS) == [[]]
    assert contacts.stock(to_us(NOW)).levels["o-1"].units == 2


def test_a_file_of_rubbish_is_unavailable_and_the_right_one_put_back_is_used(contacts, tmp_path):
    contacts.claim([a_claim(1)], LIMITS)
    contacts.close()
    path, aside = tmp_path / "state.db", tmp_path / "aside.db"
    path.rename(aside)
    path.write_bytes(b"rubbish " * 1_000)
    with pytest.raises(StoreUnavailable):
        contacts.histories(["c-1"])
    with pytest.raises(StoreUnavailable):
        SqliteContacts(path, lambda: NOW, wait_s=0.1)
    aside.replace(path)
    assert len(contacts.histories(["c-1"])[0].contacts) == 1


def test_a_file_that_was_removed_is_made_anew_and_filled_from_the_log(contacts, tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    contacts.claim([a_claim(n) for n in range(3)], LIMITS)
    events = [
        Event(event_id=f"e-{n}", event_type="impression", customer_id="c-1", occurred_at=NOW, offer_id="o-1",
              decision_id=f"d-{n}")
        for n in range(3)
    ]  # fmt: skip
    log.append(events, NOW)
    contacts.catch_up(log)
    for name in ("state.db", "state.db-wal", "state.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    contacts.keep_house(log)
    assert len(contacts.histories(["c-1"])[0].contacts) == 3
    assert contacts.claim([a_claim(9)], LIMITS) == [list(a_claim(9).picks)]  # what was seen still counts
    assert contacts.stock(to_us(NOW)).levels == {}
    log.close()


def test_a_full_disk_is_unavailable_and_leaves_nothing_half_done(contacts, tmp_path):
    contacts.claim([a_claim(0, "c-0")], LIMITS)
    db = contacts._files._connection()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    fill = [a_claim(n, f"c-{n}" + "x" * 200) for n in range(1, 90)]
    with pytest.raises(StoreUnavailable, match="full"):
        contacts.claim(fill, LIMITS)
    held = db.execute("SELECT count(*) FROM holds").fetchone()[0]
    assert contacts.stock(to_us(NOW)).levels["o-1"].units == held
    assert db.execute("SELECT count(*) FROM contacts").fetchone()[0] == held
    db.execute("PRAGMA max_page_count = 1000000")
    assert contacts.claim([a_claim(1_000, "after")], LIMITS) == [[]]


def test_keeping_house_writes_commits_into_the_file_itself_so_that_no_claim_has_to(contacts, tmp_path):
    log = SqliteLog(tmp_path / "log.db")
    contacts.claim([a_claim(n, f"c-{n}") for n in range(50)], LIMITS)
    contacts.keep_house(log)
    (tmp_path / "alone.db").write_bytes((tmp_path / "state.db").read_bytes())  # without its WAL
    with closing(sqlite3.connect(tmp_path / "alone.db")) as db:
        assert db.execute("SELECT count(*) FROM contacts").fetchone() == (50,)
    log.close()


def test_the_wal_begins_anew_however_steadily_claims_come(contacts, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_contacts, "WRITTEN_BACK_EVERY_S", 0.0)
    monkeypatch.setattr(sqlite_contacts, "LONG_WAL_PAGES", 200)
    log, limits, n_claims = SqliteLog(tmp_path / "log.db"), offers_with(inventory=1_000_000), 1_500
    contacts.claim([a_claim(0)], limits)
    claimed = []

    def claim():
        for n in range(1, n_claims):
            claimed.extend(contacts.claim([a_claim(n, f"c-{n}")], limits))

    thread = threading.Thread(target=claim)
    thread.start()
    while thread.is_alive():
        contacts.keep_house(log, limits)
    thread.join()
    assert claimed == [[]] * (n_claims - 1)
    assert (tmp_path / "state.db-wal").stat().st_size < n_claims * PAGE_BYTES  # each wrote several pages
    log.close()
