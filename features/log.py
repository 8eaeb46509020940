"""The live log: what happened and what was decided, on disk before it is acknowledged, in the order it arrived.

`Log` is the promise (held by tests/contracts/test_logs.py), `SqliteLog` the embedded default, and `GroupCommit` lets
many callers share one durable transaction of either. `features/log_export.py` copies the log to the lake.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

import msgspec

from features.errors import NboError, StoreUnavailable
from features.events import Event, from_us, to_us

EVENT, DECISION = 0, 1  # kinds: an id is unique within its kind, so that no client's event can swallow a decision
VERSION = 1
BUSY_TIMEOUT_S = 10.0
TAIL_ROWS_PER_COMMIT = 2_000  # the write lock is let go between, so that a materialization does not stop the log


class LogEvent(NamedTuple):
    """One event as the log or its tail holds it."""

    position: int  # in the log, from 1; 0 in the tail
    event_id: str
    event_type: str
    customer_id: str
    occurred_us: int
    decision_id: str | None
    offer_id: str | None
    placement_id: str | None
    session_id: str | None
    channel: str | None
    category: str | None
    value: Decimal | None  # 4 decimals
    currency: str | None
    properties_json: str
    received_us: int = 0


class DecisionRow(NamedTuple):
    """One decision as logged; the payload is opaque here."""

    decision_id: str
    customer_id: str
    decided_us: int
    payload: bytes
    position: int = 0  # set when read


class Batch(NamedTuple):
    """What one caller wants written."""

    events: Sequence[Event]
    received_at: datetime
    decisions: Sequence[DecisionRow] = ()


class Log(Protocol):
    """Positions grow in the order of commits: a reader that has seen position n will not later find one below n."""

    def write(self, batches: Sequence[Batch]) -> list[list[bool]]:
        """One transaction, durable when this returns. Per batch and event: True if new, False if its id is known.

        A known decision id is left as it is. `StoreUnavailable` when nothing was written.
        """
        ...

    def append(self, events: Sequence[Event], received_at: datetime) -> list[bool]: ...

    def append_decisions(self, rows: Sequence[DecisionRow]) -> None: ...

    def recent(self, customer_id: str, since_us: int, after_position: int) -> list[LogEvent]:
        """One customer's events that occurred at or after `since_us` or arrived after `after_position`.

        Each event once, from log and tail, ordered by (occurred_us, event_id).
        """
        ...

    def decision(self, decision_id: str) -> DecisionRow | None: ...

    def events_after(self, position: int, limit: int) -> list[LogEvent]: ...

    def decisions_after(self, position: int, limit: int) -> list[DecisionRow]: ...

    def last_position(self) -> int:
        """0 when empty."""
        ...

    def replace_tail(self, events: Iterable[LogEvent], snapshot_us: int) -> None:
        """From now on `recent` sees exactly these events beside the log; until then, exactly the former ones."""
        ...

    def tail_snapshot_us(self) -> int | None:
        """The instant that the tail begins at; None before the first `replace_tail`."""
        ...

    def close(self) -> None: ...


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
CREATE INDEX IF NOT EXISTS log_by_time ON log (customer_id, kind, occurred_us);
CREATE INDEX IF NOT EXISTS log_by_arrival ON log (customer_id, kind);
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
PRAGMA user_version = 1;
"""
COLUMNS = (
    "id, event_type, customer_id, occurred_us, decision_id, offer_id, placement_id, session_id, channel, category, "
    "value_e4, currency, properties, received_us"
)
INSERT_EVENT = f"INSERT INTO log (kind, {COLUMNS}) VALUES ({EVENT}{', ?' * 14}) ON CONFLICT (kind, id) DO NOTHING"
INSERT_DECISION = (
    "INSERT INTO log (kind, id, customer_id, occurred_us, received_us, payload) "
    f"VALUES ({DECISION}, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING"
)
INSERT_TAIL = f"INSERT INTO tail (generation, {COLUMNS}) VALUES (?{', ?' * 14}) ON CONFLICT DO NOTHING"
RECENT = f"""
SELECT position, {COLUMNS} FROM log INDEXED BY log_by_time
WHERE customer_id = :customer AND kind = {EVENT} AND occurred_us >= :since
UNION ALL
SELECT position, {COLUMNS} FROM log INDEXED BY log_by_arrival
WHERE customer_id = :customer AND kind = {EVENT} AND position > :after AND occurred_us < :since
UNION ALL
SELECT 0, {COLUMNS} FROM tail
WHERE generation = (SELECT max(generation) FROM tail_generation WHERE current = 1)
  AND customer_id = :customer AND occurred_us >= :since
"""
EVENTS_AFTER = f"SELECT position, {COLUMNS} FROM log WHERE position > ? AND kind = {EVENT} ORDER BY position LIMIT ?"
DECISION_COLUMNS = "SELECT id, customer_id, occurred_us, payload, position FROM log"


class SqliteLog:
    """The log as one SQLite file in WAL mode: any number of reading and writing threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._read("PRAGMA user_version", ())[0][0] != VERSION:
            with self._transaction() as connection:
                for statement in SCHEMA.split(";\n"):
                    connection.execute(statement)

    def write(self, batches: Sequence[Batch]) -> list[list[bool]]:
        rows = [[_row_of(event, to_us(batch.received_at)) for event in batch.events] for batch in batches]
        with self._transaction() as connection:
            new = [[connection.execute(INSERT_EVENT, row).rowcount == 1 for row in batch] for batch in rows]
            for batch in batches:
                for row in batch.decisions:
                    decision = (row.decision_id, row.customer_id, row.decided_us, row.decided_us, row.payload)
                    connection.execute(INSERT_DECISION, decision)
        return new

    def append(self, events: Sequence[Event], received_at: datetime) -> list[bool]:
        return self.write([Batch(events, received_at)])[0]

    def append_decisions(self, rows: Sequence[DecisionRow]) -> None:
        self.write([Batch((), from_us(0), rows)])

    def recent(self, customer_id: str, since_us: int, after_position: int) -> list[LogEvent]:
        asked = {"customer": customer_id, "since": since_us, "after": after_position}
        rows = self._read(RECENT, asked)
        if len(rows) > 1:
            rows.sort(key=_by_time)
            if any(one[1] == other[1] for one, other in zip(rows, islice(rows, 1, None), strict=False)):
                rows = list({row[1]: row for row in rows}.values())
        return [_event_of(row) for row in rows]

    def decision(self, decision_id: str) -> DecisionRow | None:
        rows = self._read(f"{DECISION_COLUMNS} WHERE kind = {DECISION} AND id = ?", (decision_id,))
        return DecisionRow(*rows[0]) if rows else None

    def events_after(self, position: int, limit: int) -> list[LogEvent]:
        return [_event_of(row) for row in self._read(EVENTS_AFTER, (position, limit))]

    def decisions_after(self, position: int, limit: int) -> list[DecisionRow]:
        query = f"{DECISION_COLUMNS} WHERE position > ? AND kind = {DECISION} ORDER BY position LIMIT ?"
        return [DecisionRow(*row) for row in self._read(query, (position, limit))]

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
                connection.executemany(INSERT_TAIL, some)
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

    def close(self) -> None:
        with self._lock:
            for held in list(self._open):
                held.close()
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        held: _Connection | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Connection(self.path)
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


class _Connection:
    """One thread's connection, which syncs every commit, and is closed when its thread ends."""

    def __init__(self, path: Path) -> None:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        try:
            self.sqlite = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
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


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    answer: Future[list[bool]]


class GroupCommit:
    """Many callers, one durable transaction: what arrives while one commit is on its way goes into the next.

    A group that the store refuses is tried again alone per caller, so that one bad row fails only its own. Decisions
    that nobody waits for are tried again until the store takes them; `delayed_s` says for how long they have waited.
    """

    def __init__(self, log: Log, *, max_rows: int = 5_000, max_kept: int = 100_000, retry_s: float = 0.1) -> None:
        self.log = log
        self.error: NboError | None = None  # of the last transaction
        self.n_lost = 0  # decisions given up: `max_kept` others were waiting, or no store would take the row
        self._max_rows, self._max_kept, self._retry_s = max_rows, max_kept, retry_s
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._kept: deque[tuple[float, DecisionRow]] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Event], received_at: datetime) -> Future[list[bool]]:
        """Resolves when the events are on disk: True if new, False if known. `StoreUnavailable` if they are not."""
        return self._enqueue(Batch(events, received_at))

    def submit_decisions(self, rows: Sequence[DecisionRow]) -> Future[list[bool]]:
        """Resolves when the rows are on disk, or fails as soon as the store does; they are then tried again."""
        return self._enqueue(Batch((), from_us(0), rows))

    @property
    def delayed_s(self) -> float:
        """How long the oldest decision that could not be written has been waiting; 0.0 if there is none."""
        try:
            return time.monotonic() - self._kept[0][0]
        except IndexError:
            return 0.0

    def close(self) -> None:
        """Writes what was submitted, tries the kept decisions once more, and ends the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _enqueue(self, batch: Batch) -> Future[list[bool]]:
        waiting = _Waiting(batch, Future())
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the log's writer is closed")
            self._queue.put(waiting)
        return waiting.answer

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            self._write_group([one for one in group if one.answer.set_running_or_notify_cancel()])
            self._write_kept()

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """What is waiting, up to `max_rows`, and whether it is the last."""
        group: list[_Waiting] = []
        n_rows = 0
        try:
            one = self._queue.get(timeout=self._retry_s if self._kept else None)
            while one is not None:
                group.append(one)
                n_rows += len(one.batch.events) + len(one.batch.decisions)
                if n_rows >= self._max_rows:
                    return group, False
                one = self._queue.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            answers = self.log.write([one.batch for one in group])
        except StoreUnavailable as error:
            self.error = error
            for one in group:
                self._keep(one.batch.decisions)
                one.answer.set_exception(error)
        except Exception as error:  # a row that cannot be written: find whose it is
            if len(group) == 1:
                self.n_lost += len(group[0].batch.decisions)
                group[0].answer.set_exception(error)
                return
            for one in group:
                self._write_group([one])
        else:
            self.error = None
            for one, answer in zip(group, answers, strict=True):
                one.answer.set_result(answer)

    def _keep(self, rows: Sequence[DecisionRow]) -> None:
        room = max(self._max_kept - len(self._kept), 0)
        self._kept.extend((time.monotonic(), row) for row in rows[:room])
        self.n_lost += len(rows[room:])

    def _write_kept(self) -> None:
        if not self._kept:
            return
        try:
            self.log.append_decisions([row for _, row in self._kept])
        except StoreUnavailable as error:
            self.error = error
        except Exception:  # a row that no store takes; the thread must live on
            self.n_lost += len(self._kept)
            self._kept.clear()
        else:
            self.error = None
            self._kept.clear()
