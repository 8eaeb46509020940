"""The log as one SQLite file in WAL mode: the embedded default of `features/log.py`."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec

from features.errors import StoreUnavailable
from features.events import Event, from_us, to_us
from features.fingerprint import fingerprint
from features.log import Batch, Decided, DecisionRow, ErasedRows, ExposureRow, LogEvent, ShadowRow

# Kinds of rows: an id is unique within its kind, so that no client's event can swallow a decision.
EVENT, DECISION, SHADOW = 0, 1, 2
VERSION = 4
BUSY_TIMEOUT_S = 10.0
DECISIONS_AT_ONCE = 64  # in one statement, so that the interpreter is let go, and waited for, once for all of them
MOST_REMEMBERED = 200_000  # exposures
TAIL_ROWS_PER_COMMIT = 2_000  # the write lock is let go between, so that a materialization does not stop the log

SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    occurred_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    event_type TEXT, decision_id TEXT, offer_id TEXT, placement_id TEXT, session_id TEXT, channel TEXT, category TEXT,
    value_e4 INTEGER,
    currency TEXT,
    properties TEXT,
    payload BLOB,
    UNIQUE (kind, id)
) STRICT;
CREATE INDEX IF NOT EXISTS log_by_time ON log (customer_id, occurred_us) WHERE kind = 0;
CREATE INDEX IF NOT EXISTS log_by_arrival ON log (customer_id, kind);
CREATE INDEX IF NOT EXISTS log_events ON log (position) WHERE kind = 0;
CREATE TABLE IF NOT EXISTS tail (
    generation INTEGER NOT NULL,
    customer_id TEXT NOT NULL,
    occurred_us INTEGER NOT NULL,
    id TEXT NOT NULL,
    received_us INTEGER NOT NULL,
    event_type TEXT, decision_id TEXT, offer_id TEXT, placement_id TEXT, session_id TEXT, channel TEXT, category TEXT,
    value_e4 INTEGER,
    currency TEXT,
    properties TEXT,
    PRIMARY KEY (generation, customer_id, occurred_us, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tail_generation (
    generation INTEGER PRIMARY KEY AUTOINCREMENT, snapshot_us INTEGER NOT NULL, current INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS exposures (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    experiment_id TEXT NOT NULL,
    phase INTEGER NOT NULL,
    unit_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    variant TEXT NOT NULL,
    exposed_us INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    UNIQUE (experiment_id, phase, unit_id)
) STRICT;
CREATE INDEX IF NOT EXISTS exposures_by_customer ON exposures (customer_id);
CREATE TABLE IF NOT EXISTS erased (hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pepper (value BLOB NOT NULL) STRICT;
PRAGMA user_version = 4;
"""
COLUMNS = (
    "id, event_type, customer_id, occurred_us, decision_id, offer_id, placement_id, session_id, channel, category, "
    "value_e4, currency, properties, received_us"
)
INSERT_EVENT = f"INSERT INTO log (kind, {COLUMNS}) VALUES ({EVENT}{', ?' * 14}) ON CONFLICT (kind, id) DO NOTHING"
DECISION_VALUES = f"({DECISION}, ?, ?, ?, ?, ?)"
INSERT_TAIL = f"INSERT INTO tail (generation, {COLUMNS}) VALUES (?{', ?' * 14}) ON CONFLICT DO NOTHING"
RECENT = f"""
SELECT * FROM (SELECT position, {COLUMNS} FROM log INDEXED BY log_by_time
  WHERE customer_id = :customer AND kind = {EVENT} AND occurred_us >= :since ORDER BY occurred_us DESC LIMIT :limit)
UNION ALL
SELECT * FROM (SELECT position, {COLUMNS} FROM log INDEXED BY log_by_arrival
  WHERE customer_id = :customer AND kind = {EVENT} AND position > :after AND occurred_us < :since
  ORDER BY position DESC LIMIT :limit)
UNION ALL
SELECT * FROM (SELECT 0, {COLUMNS} FROM tail
  WHERE generation = (SELECT max(generation) FROM tail_generation WHERE current = 1)
    AND customer_id = :customer AND occurred_us >= :since ORDER BY occurred_us DESC LIMIT :limit)
"""
EVENTS_AFTER = f"""
SELECT position, {COLUMNS} FROM log INDEXED BY log_events
WHERE position > ? AND kind = {EVENT} ORDER BY position LIMIT ?
"""
DECIDED_AFTER = f"""
SELECT position, id, occurred_us FROM log NOT INDEXED WHERE position > ? AND kind = {DECISION} ORDER BY position LIMIT ?
"""
EXPOSURE_COLUMNS = "experiment_id, phase, unit_id, customer_id, variant, exposed_us, decision_id"
INSERT_SHADOW = (
    "INSERT INTO log (kind, id, customer_id, occurred_us, received_us, event_type, payload) "
    f"VALUES ({SHADOW}, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING"
)
SHADOW_COLUMNS = "SELECT id, event_type, customer_id, occurred_us, payload, position FROM log"
DECISION_COLUMNS = "SELECT id, customer_id, occurred_us, payload, position FROM log"


class SqliteLog:
    """The log as one SQLite file in WAL mode: any number of reading and writing threads and processes."""

    def __init__(self, path: Path, wait_s: float = BUSY_TIMEOUT_S) -> None:
        """`wait_s` is how long another writer is waited for."""
        self.path, self._wait_s = path, wait_s
        self._local = threading.local()
        self._open: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()
        self._exposed: set[int] = set()  # hashes of exposures that were written
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._version() != VERSION:
            with self._transaction() as connection:
                if self._version() == VERSION:
                    return  # by somebody else meanwhile
                if self._version() < 3:
                    connection.execute("DROP INDEX IF EXISTS log_by_time")  # it held decisions too
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)

    def write(self, batches: Sequence[Batch]) -> list[list[bool]]:
        rows = [[_row_of(event, to_us(batch.received_at)) for event in batch.events] for batch in batches]
        with self._transaction() as connection:
            known = _Known(connection)
            new = [
                [row[2] not in known and connection.execute(INSERT_EVENT, row).rowcount == 1 for row in batch]
                for batch in rows
            ]
            decisions = [row for batch in batches for row in batch.decisions if row.customer_id not in known]
            for start in range(0, len(decisions), DECISIONS_AT_ONCE):
                some = decisions[start : start + DECISIONS_AT_ONCE]
                values = [(one[0], one[1], one[2], one[2], one[3]) for one in some]
                connection.execute(_inserting_decisions(len(some)), [value for row in values for value in row])
            new_ones = _first_exposures(decisions, self._exposed)
            exposures = list(new_ones.values())
            for start in range(0, len(exposures), DECISIONS_AT_ONCE):
                first = exposures[start : start + DECISIONS_AT_ONCE]
                connection.execute(_inserting_exposures(len(first)), [value for row in first for value in row])
        if len(self._exposed) > MOST_REMEMBERED:
            self._exposed = set()
        self._exposed.update(new_ones)  # on disk now
        return new

    def append(self, events: Sequence[Event], received_at: datetime) -> list[bool]:
        return self.write([Batch(events, received_at)])[0]

    def append_decisions(self, rows: Sequence[DecisionRow]) -> None:
        self.write([Batch((), from_us(0), rows)])

    def recent(self, customer_id: str, since_us: int, after_position: int, limit: int | None = None) -> list[LogEvent]:
        most = -1 if limit is None else limit
        asked = {"customer": customer_id, "since": since_us, "after": after_position, "limit": most}
        rows = self._read(RECENT, asked)
        if len(rows) > 1:
            rows.sort(key=_by_time)
            if any(one[1] == other[1] for one, other in zip(rows, islice(rows, 1, None), strict=False)):
                rows = list({row[1]: row for row in rows}.values())
        return [_event_of(row) for row in (rows if limit is None else rows[-limit:])]

    def known(self, event_ids: Iterable[str]) -> set[str]:
        asked = msgspec.json.encode(list(event_ids)).decode()
        rows = self._read(
            f"SELECT id FROM log WHERE kind = {EVENT} AND id IN (SELECT value FROM json_each(?))", (asked,)
        )
        return {event_id for (event_id,) in rows}

    def decision(self, decision_id: str) -> DecisionRow | None:
        rows = self._read(f"{DECISION_COLUMNS} WHERE kind = {DECISION} AND id = ?", (decision_id,))
        return DecisionRow(*rows[0]) if rows else None

    def events_after(self, position: int, limit: int) -> list[LogEvent]:
        return [_event_of(row) for row in self._read(EVENTS_AFTER, (position, limit))]

    def decisions_after(self, position: int, limit: int) -> list[DecisionRow]:
        query = f"{DECISION_COLUMNS} NOT INDEXED WHERE position > ? AND kind = {DECISION} ORDER BY position LIMIT ?"
        return [DecisionRow(*row) for row in self._read(query, (position, limit))]

    def append_shadows(self, rows: Sequence[ShadowRow]) -> None:
        with self._transaction() as connection:
            known = _Known(connection)
            values = [
                (f"{row.decision_id}/{row.release}", row.customer_id, row.decided_us, row.decided_us, row.release,
                 row.payload)
                for row in rows
                if row.customer_id not in known
            ]  # fmt: skip
            connection.executemany(INSERT_SHADOW, values)

    def shadows_after(self, position: int, limit: int) -> list[ShadowRow]:
        query = f"{SHADOW_COLUMNS} NOT INDEXED WHERE position > ? AND kind = {SHADOW} ORDER BY position LIMIT ?"
        return [ShadowRow(row[0].partition("/")[0], *row[1:]) for row in self._read(query, (position, limit))]

    def n_events(self, after: int, since_us: int, until_us: int) -> int:
        """How many events after this position happened in (since_us, until_us]."""
        query = (
            f"SELECT count(*) FROM log INDEXED BY log_events WHERE position > ? AND kind = {EVENT} "
            "AND occurred_us > ? AND occurred_us <= ?"
        )
        return int(self._read(query, (after, since_us, until_us))[0][0])

    def decided_after(self, position: int, limit: int) -> list[Decided]:
        return [Decided(*row) for row in self._read(DECIDED_AFTER, (position, limit))]

    def exposures_after(self, position: int, limit: int) -> list[ExposureRow]:
        query = f"SELECT position, {EXPOSURE_COLUMNS} FROM exposures WHERE position > ? ORDER BY position LIMIT ?"
        return [ExposureRow(*row) for row in self._read(query, (position, limit))]

    def exposed(self, customer_ids: Sequence[str]) -> set[str]:
        asked = msgspec.json.encode(list(customer_ids)).decode()
        one = "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM exposures WHERE customer_id = value)"
        return {customer_id for (customer_id,) in self._read(one, (asked,))}

    def last_position(self) -> int:
        return int(self._read("SELECT coalesce(max(position), 0) FROM log", ())[0][0])

    def replace_tail(self, events: Iterable[LogEvent], snapshot_us: int) -> None:
        with self._transaction() as connection:
            begun = connection.execute(
                "INSERT INTO tail_generation (snapshot_us, current) VALUES (?, 0)", (snapshot_us,)
            )
            generation = begun.lastrowid or 0
        rows = ((generation, *_tail_row(event)) for event in events)
        while some := list(islice(rows, TAIL_ROWS_PER_COMMIT)):
            with self._transaction() as connection:
                known = _Known(connection)
                connection.executemany(INSERT_TAIL, (row for row in some if row[3] not in known))
        with self._transaction() as connection:
            # of two at a time the later begun one stays: had it finished first, our rows are partly gone
            connection.execute(
                "UPDATE tail_generation SET current = 1 WHERE generation = ? AND NOT EXISTS "
                "(SELECT 1 FROM tail_generation WHERE current = 1 AND generation > ?)",
                (generation, generation),
            )
            current = "(SELECT max(generation) FROM tail_generation WHERE current = 1)"
            connection.execute(f"DELETE FROM tail WHERE generation < {current}")
            connection.execute(f"DELETE FROM tail_generation WHERE generation < {current}")

    def tail_snapshot_us(self) -> int | None:
        rows = self._read("SELECT snapshot_us FROM tail_generation WHERE current = 1 ORDER BY generation DESC", ())
        return int(rows[0][0]) if rows else None

    def erase(self, customer_ids: Sequence[str]) -> ErasedRows:
        connection = self._connection()
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
        with self._transaction():
            pepper = _pepper(connection)
            if pepper is None:
                pepper = secrets.token_bytes(32)
                connection.execute("INSERT INTO pepper VALUES (?)", (pepper,))
            n_log, n_tail, n_exposures = [0, 0, 0], 0, 0
            for customer_id in customer_ids:
                connection.execute("INSERT OR IGNORE INTO erased VALUES (?)", (fingerprint(pepper, customer_id),))
                for kind in (EVENT, DECISION, SHADOW):
                    one = "DELETE FROM log WHERE customer_id = ? AND kind = ?"
                    n_log[kind] += connection.execute(one, (customer_id, kind)).rowcount
                for (generation,) in connection.execute("SELECT generation FROM tail_generation").fetchall():
                    one = "DELETE FROM tail WHERE generation = ? AND customer_id = ?"
                    n_tail += connection.execute(one, (generation, customer_id)).rowcount
                one = "DELETE FROM exposures WHERE customer_id = ?"
                n_exposures += connection.execute(one, (customer_id,)).rowcount
        return ErasedRows(n_log[EVENT], n_log[DECISION] + n_log[SHADOW], n_tail, n_exposures)

    def close(self) -> None:
        with self._lock:
            for held in list(self._open):
                held.close()
        self._local = threading.local()

    def _version(self) -> int:
        return int(self._read("PRAGMA user_version", ())[0][0])

    def _connection(self) -> sqlite3.Connection:
        held: _Connection | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Connection(self.path, self._wait_s)
            with self._lock:
                self._open.add(held)
        return held.sqlite

    def _read(self, query: str, parameters: Any) -> list[Any]:
        try:
            return self._connection().execute(query, parameters).fetchall()
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the log {self.path} did not answer: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the log {self.path} cannot be written: {error}") from error
        finally:
            if connection.in_transaction:
                connection.rollback()


@lru_cache(maxsize=DECISIONS_AT_ONCE)
def _inserting_decisions(n_rows: int) -> str:
    return (
        "INSERT INTO log (kind, id, customer_id, occurred_us, received_us, payload) "
        f"VALUES {', '.join([DECISION_VALUES] * n_rows)} ON CONFLICT (kind, id) DO NOTHING"
    )


@lru_cache(maxsize=DECISIONS_AT_ONCE)
def _inserting_exposures(n_rows: int) -> str:
    return (
        f"INSERT INTO exposures ({EXPOSURE_COLUMNS}) VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?)'] * n_rows)} "
        "ON CONFLICT (experiment_id, phase, unit_id) DO NOTHING"
    )


def _first_exposures(decisions: Sequence[DecisionRow], written: Set[int]) -> dict[int, tuple[Any, ...]]:
    """The values of EXPOSURE_COLUMNS, each unit and phase once, by a hash that need not be tried again once it is
    written: most decisions expose nobody anew.
    """
    found: dict[int, tuple[Any, ...]] = {}
    for row in decisions:
        for one in row.exposures:
            key = hash(one[:3])
            if key not in written and key not in found:
                found[key] = (*one[:3], row.customer_id, one.variant, row.decided_us, row.decision_id)
    return found


class _Known:
    """Who was erased, as the transaction that asks sees it: `customer_id in known`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        any_at_all = connection.execute("SELECT 1 FROM erased LIMIT 1").fetchone()
        self._pepper = _pepper(connection) if any_at_all else None
        self._asked: dict[str, bool] = {}

    def __contains__(self, customer_id: str) -> bool:
        if self._pepper is None:
            return False
        found = self._asked.get(customer_id)
        if found is None:
            one = "SELECT 1 FROM erased WHERE hash = ?"
            row = self._connection.execute(one, (fingerprint(self._pepper, customer_id),)).fetchone()
            found = self._asked[customer_id] = row is not None
        return found


def _pepper(connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute("SELECT value FROM pepper").fetchone()
    return None if row is None else row[0]


class _Connection:
    """One thread's connection, which syncs every commit, and is closed when its thread ends."""

    def __init__(self, path: Path, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        try:
            self.sqlite = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the log {path} cannot be opened: {error}") from error
        while True:
            try:
                self.sqlite.execute("PRAGMA journal_mode = WAL")  # on a new file it ignores the timeout, hence the loop
                self.sqlite.execute("PRAGMA synchronous = FULL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    self.close()
                    raise StoreUnavailable(f"the log {path} cannot be opened: {error}") from error
                time.sleep(0.01)

    def close(self) -> None:
        self.sqlite.close()

    def __del__(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()


def _row_of(event: Event, received_us: int) -> tuple[Any, ...]:
    """The 14 values of COLUMNS."""
    value_e4 = None if event.value is None else int(event.value.scaleb(4))
    return (
        event.event_id, event.event_type, event.customer_id, to_us(event.occurred_at), event.decision_id,
        event.offer_id, event.placement_id, event.session_id, event.channel, event.category, value_e4, event.currency,
        msgspec.json.encode(event.properties).decode(), received_us,
    )  # fmt: skip


def _tail_row(event: LogEvent) -> tuple[Any, ...]:
    value_e4 = None if event.value is None else int(Decimal(event.value).scaleb(4))
    return (*event[1:11], value_e4, event.currency, event.properties_json, event.received_us)


def _event_of(row: Sequence[Any]) -> LogEvent:
    if row[11] is None:
        return LogEvent._make(row)
    return LogEvent._make((*row[:11], Decimal(row[11]).scaleb(-4), *row[12:]))


def _by_time(row: Sequence[Any]) -> tuple[int, str, int]:
    """Time, id, and of two copies of one event the tail's (position 0) first, so that the log's wins."""
    return row[4], row[1], row[0]
