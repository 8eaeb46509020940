"""What the fold remembers, and the journal of what it found, in one SQLite file that all workers share.

One worker at a time folds; its position in the log, what it remembers and what it found commit together. Customers and
decisions are kept as 64-bit digests. The file can be deleted: it is made anew from the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from features.errors import StoreUnavailable
from features.events import US_PER_DAY
from serving.learning.delays import nothing_arrived
from serving.learning.evidence import MOST_SEGMENTS, Change, Sighting, Tally, Waiting, key_of
from serving.state.sqlite import open_wal

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (release TEXT NOT NULL, segment TEXT NOT NULL,
    PRIMARY KEY (release, segment)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sightings (
    pair INTEGER PRIMARY KEY, customer INTEGER NOT NULL, release TEXT NOT NULL, segment TEXT NOT NULL,
    offer_id TEXT NOT NULL, decided_us INTEGER NOT NULL, seen_us INTEGER NOT NULL, weight REAL NOT NULL,
    taken_us INTEGER);
CREATE INDEX IF NOT EXISTS sightings_by_customer ON sightings (customer, offer_id, seen_us);
CREATE INDEX IF NOT EXISTS sightings_by_age ON sightings (decided_us);
CREATE TABLE IF NOT EXISTS tallies (
    customer INTEGER NOT NULL, offer_id TEXT NOT NULL, span INTEGER NOT NULL, n INTEGER NOT NULL,
    day INTEGER NOT NULL, today INTEGER NOT NULL, PRIMARY KEY (customer, offer_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (
    n INTEGER PRIMARY KEY, decision INTEGER, pair INTEGER NOT NULL, customer INTEGER NOT NULL, offer_id TEXT NOT NULL,
    occurred_us INTEGER NOT NULL, received_us INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS waiting_by_decision ON waiting (decision) WHERE decision IS NOT NULL;
CREATE INDEX IF NOT EXISTS waiting_by_pair ON waiting (pair, customer, offer_id);
CREATE TABLE IF NOT EXISTS dues (n INTEGER PRIMARY KEY, due_us INTEGER NOT NULL, pair INTEGER NOT NULL,
    expected REAL NOT NULL);
CREATE INDEX IF NOT EXISTS dues_by_time ON dues (due_us);
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, position INTEGER NOT NULL, at_us INTEGER NOT NULL, release TEXT NOT NULL,
    segment TEXT NOT NULL, offer_id TEXT NOT NULL, n INTEGER NOT NULL, expected REAL NOT NULL, accepted REAL NOT NULL);
CREATE INDEX IF NOT EXISTS journal_by_position ON journal (position);
CREATE TABLE IF NOT EXISTS checkpoints (
    seq INTEGER PRIMARY KEY, position INTEGER NOT NULL, at_us INTEGER NOT NULL, body BLOB NOT NULL);
"""
VERSION = 2
TABLES = ("meta", "segments", "sightings", "tallies", "waiting", "dues", "journal", "checkpoints")
NEVER = 2**63 - 1
WAIT_S = 0.5  # for another worker's fold, before its result is read instead
KEEP_JOURNAL_US = 31 * US_PER_DAY  # a decision can be replayed for 30 days
SIGHTING = "pair, customer, release, segment, offer_id, decided_us, seen_us, weight, taken_us"
CHANGE = "position, at_us, release, segment, offer_id, n, expected, accepted"


class Checkpoint(NamedTuple):
    """All that the changes up to `seq` come to."""

    seq: int
    position: int
    body: bytes


class SqliteMemory:
    """The fold's memory; every method may raise `StoreUnavailable`. One thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = self.clock_us = 0
        self._tallies: dict[tuple[int, str], Tally] = {}  # of one step, written at its end
        self._segments: set[tuple[str, str]] = set()
        self._next_due_us: int | None = None  # not looked up yet
        self._waits_for_decision: bool | None = None  # whether anything does; not looked up yet
        self.arrived = nothing_arrived()
        try:
            self._db = open_wal(path, synchronous="NORMAL", busy_timeout_s=WAIT_S)  # it can be made anew from the log
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{path} cannot be read ({error}); delete it: the log makes it anew") from error
        try:
            if self._db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                with self._writing():
                    for table in TABLES:  # of another version: the log makes it anew
                        self._db.execute(f"DROP TABLE IF EXISTS {table}")
                    for statement in SCHEMA.split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        except StoreUnavailable:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One fold, all or nothing; `StoreUnavailable` while another worker is at it."""
        with self._writing():
            self.position, self.clock_us = self._meta("position"), self._meta("clock_us")
            self._tallies, self._segments, self._next_due_us, self._waits_for_decision = {}, set(), None, None
            self.arrived = [self._meta(f"arrived_{n}", of_none) for n, of_none in enumerate(nothing_arrived())]
            yield
            self._db.executemany(
                "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?, ?, ?, ?)",
                ((*key, *tally) for key, tally in self._tallies.items()),
            )
            arrived = [(f"arrived_{n}", count) for n, count in enumerate(self.arrived)]
            for key, value in (("position", self.position), ("clock_us", self.clock_us), *arrived):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def folded(self) -> tuple[int, int]:
        """(position in the log, last change) as committed."""
        rows = self._rows("SELECT (SELECT value FROM meta WHERE key = 'position'), (SELECT max(seq) FROM journal)", ())
        return int(rows[0][0] or 0), int(rows[0][1] or 0)

    # What the fold remembers

    def sighting(self, pair: int) -> Sighting | None:
        rows = self._db.execute(f"SELECT {SIGHTING} FROM sightings WHERE pair = ?", (pair,)).fetchall()
        return Sighting(*rows[0]) if rows else None

    def sightings_of(self, customer: int, offer_id: str) -> list[Sighting]:
        query = f"SELECT {SIGHTING} FROM sightings WHERE customer = ? AND offer_id = ? ORDER BY seen_us, pair"
        return [Sighting(*row) for row in self._db.execute(query, (customer, offer_id))]

    def keep_sighting(self, sighting: Sighting) -> None:
        self._db.execute(f"INSERT OR REPLACE INTO sightings ({SIGHTING}) VALUES (?{', ?' * 8})", sighting)

    def tally(self, customer: int, offer_id: str) -> Tally:
        held = self._tallies.get((customer, offer_id))
        if held is not None:
            return held
        query = "SELECT span, n, day, today FROM tallies WHERE customer = ? AND offer_id = ?"
        row = self._db.execute(query, (customer, offer_id)).fetchone()
        return Tally() if row is None else Tally(*row)

    def keep_tally(self, customer: int, offer_id: str, tally: Tally) -> None:
        self._tallies[customer, offer_id] = tally

    def wait_for_decision(self, decision: int, pair: int, impression: Waiting) -> None:
        self._waits_for_decision = True
        self._wait(decision, pair, impression)

    def waiting_for_decision(self, decision: int) -> list[Waiting]:
        if self._waits_for_decision is None:
            query = "SELECT 1 FROM waiting WHERE decision IS NOT NULL LIMIT 1"
            self._waits_for_decision = self._db.execute(query).fetchone() is not None
        if not self._waits_for_decision:
            return []
        query = "SELECT customer, offer_id, occurred_us, received_us, n FROM waiting WHERE decision = ? ORDER BY n"
        rows = self._db.execute(query, (decision,)).fetchall()
        if rows:
            self._db.execute("DELETE FROM waiting WHERE decision = ?", (decision,))
        return [Waiting(*row) for row in rows]

    def wait_for_impression(self, pair: int, outcome: Waiting) -> None:
        self._wait(None, pair, outcome)

    def waiting_for_impression(self, pair: int, customer: int, offer_id: str) -> list[Waiting]:
        query = (
            "SELECT customer, offer_id, occurred_us, received_us, n FROM waiting WHERE decision IS NULL AND pair = ? "
            "UNION ALL SELECT customer, offer_id, occurred_us, received_us, n FROM waiting "
            "WHERE decision IS NULL AND pair = 0 AND customer = ? AND offer_id = ? ORDER BY 3, 5"
        )
        return [Waiting(*row) for row in self._db.execute(query, (pair, customer, offer_id))]

    def no_longer_waits(self, outcome: Waiting) -> None:
        self._db.execute("DELETE FROM waiting WHERE n = ?", (outcome.n,))

    def _wait(self, decision: int | None, pair: int, one: Waiting) -> None:
        self._db.execute(
            "INSERT INTO waiting (decision, pair, customer, offer_id, occurred_us, received_us) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (decision, pair, *one[:4]),
        )

    def keep_due(self, due_us: int, pair: int, expected: float) -> None:
        self._db.execute("INSERT INTO dues (due_us, pair, expected) VALUES (?, ?, ?)", (due_us, pair, expected))
        self._next_due_us = None

    def due(self, until_us: int) -> list[tuple[int, float]]:
        if self._next_due_us is None:
            earliest = self._db.execute("SELECT min(due_us) FROM dues").fetchone()[0]
            self._next_due_us = NEVER if earliest is None else int(earliest)
        if until_us < self._next_due_us:
            return []
        query = "SELECT pair, expected FROM dues WHERE due_us <= ? ORDER BY due_us, n"
        rows = self._db.execute(query, (until_us,)).fetchall()
        self._db.execute("DELETE FROM dues WHERE due_us <= ?", (until_us,))
        self._next_due_us = None
        return [(int(pair), float(expected)) for pair, expected in rows]

    def segment(self, release: str, segment: str) -> str:
        asked = (release, segment)
        if asked in self._segments:
            return segment
        if not self._db.execute("SELECT 1 FROM segments WHERE release = ? AND segment = ?", asked).fetchone():
            query = "SELECT count(*) FROM segments WHERE release = ?"
            if self._db.execute(query, (release,)).fetchone()[0] >= MOST_SEGMENTS:
                return ""
            self._db.execute("INSERT INTO segments VALUES (?, ?)", asked)
        self._segments.add(asked)
        return segment

    def note(self, change: Change) -> None:
        self._db.execute(f"INSERT INTO journal ({CHANGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", change)

    # What it found

    def changes_after(self, seq: int, limit: int, until_position: int | None = None) -> list[tuple[int, Change]]:
        """(number, change) in the order they were found; with a position, those the log held up to there."""
        until = "" if until_position is None else " AND position <= :until"
        query = f"SELECT seq, {CHANGE} FROM journal WHERE seq > :seq{until} ORDER BY seq LIMIT :limit"
        rows = self._rows(query, {"seq": seq, "limit": limit, "until": until_position})
        return [(int(row[0]), Change(*row[1:])) for row in rows]

    def checkpoint_before(self, position: int | None = None) -> Checkpoint | None:
        """The newest one, or the newest that holds nothing later than a position of the log."""
        until = "" if position is None else " WHERE position <= :until"
        query = f"SELECT seq, position, body FROM checkpoints{until} ORDER BY seq DESC LIMIT 1"
        rows = self._rows(query, {"until": position})
        return Checkpoint(*rows[0]) if rows else None

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        with self._writing():
            values = (checkpoint.seq, checkpoint.position, self._meta("clock_us"), checkpoint.body)
            self._db.execute("INSERT OR IGNORE INTO checkpoints VALUES (?, ?, ?, ?)", values)

    # What is forgotten

    def forget(self, keep_us: int, span_days: int) -> None:
        """Within a step: drop what no outcome can reach any more, and the journal beyond what can be replayed."""
        now = self.clock_us
        span = now // US_PER_DAY // span_days
        self._db.execute("DELETE FROM sightings WHERE decided_us < ?", (now - keep_us,))
        self._db.execute("DELETE FROM waiting WHERE received_us < ?", (now - keep_us,))
        self._db.execute("DELETE FROM tallies WHERE span < ?", (span - 1,))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('forgotten_us', ?)", (now,))
        query = "SELECT max(seq) FROM checkpoints WHERE at_us < ?"
        oldest = self._db.execute(query, (now - KEEP_JOURNAL_US,)).fetchone()[0]
        if oldest is not None:
            self._db.execute("DELETE FROM journal WHERE seq <= ?", (oldest,))
            self._db.execute("DELETE FROM checkpoints WHERE seq < ?", (oldest,))

    def forgotten_us(self) -> int:
        return self._meta("forgotten_us")

    def sighting_count(self) -> int:
        return int(self._rows("SELECT count(*) FROM sightings", ())[0][0])

    def erase(self, customer_id: str) -> int:
        """Drop what is kept of one customer; the sums it was part of stay. How many rows there were."""
        key = (key_of(customer_id),)
        with self._writing():
            gone = [
                self._db.execute(f"DELETE FROM {table} WHERE customer = ?", key).rowcount
                for table in ("sightings", "tallies", "waiting")
            ]
        return sum(gone)

    def _meta(self, key: str, of_none: int = 0) -> int:
        rows = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
        return int(rows[0][0]) if rows else of_none

    def _rows(self, query: str, parameters: Sequence[Any] | dict[str, Any]) -> list[Any]:
        try:
            return self._db.execute(query, parameters).fetchall()
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{self.path} did not answer: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(f"{self.path} cannot be written: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.rollback()
