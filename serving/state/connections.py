"""One SQLite connection per thread, one writer at a time, and a short wait for other processes."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

from features.errors import StoreUnavailable
from serving.state.known import Known
from serving.state.sqlite import open_wal

SHORTEST_S, LONGEST_S = 0.0001, 0.001  # SQLite's own waiting soon sleeps for 25 ms, longer than anybody writes
PAGE_BYTES = 2_048  # a claim touches a page per customer, and a commit writes whole ones
OURS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)  # faults of the code, not of the file


class Connections:
    """Connections to one file. `StoreUnavailable` when it did not answer within `wait_s`.

    A file that was removed or replaced is opened anew, at the latest when something failed.
    """

    def __init__(self, path: Path, schema: str, wait_s: float, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self.path, self._schema, self._wait_s, self._prepare = path, schema, wait_s, prepare
        self._local = threading.local()
        self._open: WeakSet[Held] = WeakSet()
        self._guard = threading.Lock()
        self._writing = threading.Lock()  # threads of one process need not fight for the file
        self._inode = 0
        self.generation = 0  # grows when the file turned out to be another one

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return self._connection().execute(query, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                self._wait(error, deadline)

    def known(self) -> Known:
        """What this thread's connection knows, without what somebody else has written over since."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return self._held().up_to_date()
            except sqlite3.DatabaseError as error:
                self._wait(error, deadline)

    def known_before(self) -> Known:
        """The same as of the last time: somebody else may have written since."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                return self._held().known
            except sqlite3.DatabaseError as error:
                self._wait(error, deadline)

    @contextmanager
    def writing(self) -> Iterator[Held]:
        """All or nothing, alone among writers, who keep up to date what the connection knows."""
        deadline = time.monotonic() + self._wait_s
        if not self._writing.acquire(timeout=self._wait_s):
            raise StoreUnavailable(f"{self.path.name} did not answer: another thread has written for {self._wait_s} s")
        try:
            held = self._begun(deadline)
            stands = False
            try:
                held.up_to_date()
                yield held
                held.sqlite.execute("COMMIT")
                stands = True
            except sqlite3.DatabaseError as error:
                if isinstance(error, OURS):
                    raise
                raise self._unavailable(error) from error
            finally:
                if not stands:
                    held.known.lost()
                    if held.sqlite.in_transaction:
                        held.sqlite.rollback()
        finally:
            self._writing.release()

    def write_back(self, long_pages: int) -> None:
        """What was committed goes into the file itself; a WAL of so many pages begins anew.

        It does by itself when nothing is left in it, but who commits all the time always leaves something: writers of
        this process then wait for that little. Other processes are tried again the next time.
        """
        ((_, n_pages, _),) = self.read("PRAGMA wal_checkpoint(PASSIVE)")  # as of when that began
        if n_pages < long_pages:
            return
        self.read("PRAGMA wal_checkpoint(PASSIVE)")  # of what came meanwhile
        if self._writing.acquire(timeout=self._wait_s):
            try:
                self.read("PRAGMA wal_checkpoint(RESTART)")
            finally:
                self._writing.release()

    def replaced(self) -> bool:
        """Whether the file at the path is no longer the one that is open; if so the next use opens that one."""
        try:
            inode = self.path.stat().st_ino
        except OSError:
            inode = 0
        with self._guard:
            if not self._inode or inode == self._inode:
                return False
            self._inode = 0
            self.generation += 1
            return True

    def close(self) -> None:
        with self._guard:
            for held in list(self._open):
                held.close()
            self.generation += 1

    def _begun(self, deadline: float) -> Held:
        while True:
            try:
                held = self._held()
                held.sqlite.execute("BEGIN IMMEDIATE")
                return held
            except sqlite3.DatabaseError as error:
                self._wait(error, deadline)

    def _wait(self, error: sqlite3.DatabaseError, deadline: float) -> None:
        """Returns if it is worth trying again; else raises."""
        if isinstance(error, OURS):
            raise error
        if not _busy(error) or time.monotonic() > deadline:
            raise self._unavailable(error) from error
        time.sleep(random.uniform(SHORTEST_S, LONGEST_S))

    def _unavailable(self, error: sqlite3.DatabaseError) -> StoreUnavailable:
        self.replaced()
        return StoreUnavailable(f"the state {self.path.name} did not answer: {error}")

    def _connection(self) -> sqlite3.Connection:
        return self._held().sqlite

    def _held(self) -> Held:
        held: Held | None = getattr(self._local, "held", None)
        if held is None or held.generation != self.generation:
            held = self._local.held = self._opened()
        return held

    def _opened(self) -> Held:
        generation = self.generation
        db = open_wal(self.path, synchronous="NORMAL", busy_timeout_s=self._wait_s, page_bytes=PAGE_BYTES)
        try:
            db.execute("PRAGMA busy_timeout = 0")
            self._make_tables(db)
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        held = Held(db, generation)
        with self._guard:
            self._open.add(held)
            if not self._inode:
                self._inode = self.path.stat().st_ino
        return held

    def _make_tables(self, db: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._wait_s
        statements = [statement for statement in self._schema.split(";\n") if statement.strip()]
        while True:
            try:
                names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
                if all(statement.split("EXISTS ")[1].split()[0] in names for statement in statements):
                    return
                db.execute("BEGIN IMMEDIATE")
                for statement in statements:
                    db.execute(statement)
                db.execute("COMMIT")
                return
            except sqlite3.OperationalError as error:
                if db.in_transaction:
                    db.rollback()
                if not _busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(SHORTEST_S, LONGEST_S))


class Held:
    """One thread's connection and what it knows, closed when its thread ends."""

    def __init__(self, db: sqlite3.Connection, generation: int) -> None:
        self.sqlite, self.generation = db, generation
        self.known = Known()
        self._version = -1

    def up_to_date(self) -> Known:
        """SQLite counts what others have committed; what this connection wrote it knows."""
        (version,) = self.sqlite.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.known.moved()
            self._version = version
        return self.known

    def close(self) -> None:
        self.sqlite.close()

    def __del__(self) -> None:
        self.sqlite.close()


def _busy(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
