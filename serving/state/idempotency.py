"""The same question with the same key gets the same answer, from whichever worker, also when asked twice at once.

The first answer that is settled is the answer. A claim only keeps others from working on it meanwhile, so a claim
that is lost, or taken over too early, costs work and never a second answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from features.errors import IdempotencyConflict, StoreUnavailable
from features.events import to_us
from serving.settings import Clock
from serving.state.sqlite import open_wal

KEPT_US = 24 * 3_600 * 1_000_000
LEASE_S = 10.0  # a holder that has not answered by then is taken over, dead or not; decisions end within 5 s
SWEPT_AT_ONCE = 500
BUSY_TIMEOUT_S = 2.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key_id TEXT NOT NULL, customer_id TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    digest BLOB NOT NULL,
    expires_us INTEGER NOT NULL,
    holder INTEGER NOT NULL,
    held_until REAL NOT NULL,
    answer BLOB, record BLOB,
    UNIQUE (key_id, customer_id, idempotency_key)
) STRICT;
CREATE INDEX IF NOT EXISTS answers_by_expiry ON answers (expires_us);
"""
MATCHES = "key_id = ? AND customer_id = ? AND idempotency_key = ?"

T = TypeVar("T")


class Scope(NamedTuple):
    """Whose key: two callers, or two customers, may use the same text."""

    key_id: str
    customer_id: str
    idempotency_key: str


class Kept(NamedTuple):
    """An answer as it was given, and the record of it that must reach the log."""

    answer: bytes
    record: bytes
    replayed: bool = True


class Claim(NamedTuple):
    """The right to work out the answer, until `held_until` in real time."""

    scope: Scope
    digest: bytes
    held_until: float


def digest_of(body: Any) -> bytes:
    """Equal for bodies that mean the same, in whatever order their keys came."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).digest()


class Idempotency:
    """Answers by scope in state.db, kept for 24 hours of the service's clock. Many processes may share the file."""

    def __init__(self, path: Path, clock: Clock, lease_s: float = LEASE_S) -> None:
        self._path, self._clock, self._lease_s = path, clock, lease_s
        self._thread = ThreadPoolExecutor(1, "idempotency")  # the one user of the connection
        self._db: sqlite3.Connection | None = None

    async def once(
        self, scope: Scope, digest: bytes, make: Callable[[], Awaitable[Kept]], until: float | None = None
    ) -> Kept:
        """The answer kept for this scope, or the one `make` gives now; `IdempotencyConflict` if the body is another.

        What `make` raises is raised, and the scope is free again. `StoreUnavailable` if the store did not say before
        `until`, of the loop's clock, whether there is an answer; `make` was not called then.
        """
        claim = await self._claimed(scope, digest, until)
        if isinstance(claim, Kept):
            return claim
        try:
            made = await make()
        except BaseException:
            self._thread.submit(self.release, claim)
            raise
        return await self._in_thread(lambda: self.settle(claim, made))

    def claim(self, scope: Scope, digest: bytes) -> Claim | Kept | None:
        """The kept answer, else the claim to make one, else None while somebody else holds it."""
        now_us, now_s = to_us(self._clock()), time.time()
        with self._transaction() as db:
            self._sweep(db, now_us)
            row = db.execute(
                f"SELECT digest, answer, record, holder, held_until FROM answers WHERE {MATCHES} AND expires_us > ?",
                (*scope, now_us),
            ).fetchone()
            if row is not None:
                known, answer, record, holder, held_until = row
                if known != digest:
                    raise IdempotencyConflict(
                        f"the idempotency_key {scope.idempotency_key[:64]!r} came with another body"
                    )
                if answer is not None:
                    return Kept(answer, record)
                if now_s < held_until <= now_s + self._lease_s and _alive(holder):
                    return None
            held_until = now_s + self._lease_s
            db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                (*scope, digest, now_us + KEPT_US, os.getpid(), held_until),
            )
            return Claim(scope, digest, held_until)

    def settle(self, claim: Claim, made: Kept) -> Kept:
        """Keeps the answer and returns the one that counts: another's if that was settled first."""
        with self._transaction() as db:
            db.execute(
                f"UPDATE answers SET answer = ?, record = ? WHERE {MATCHES} AND digest = ? AND answer IS NULL",
                (made.answer, made.record, *claim.scope, claim.digest),
            )
            row = db.execute(
                f"SELECT answer, record FROM answers WHERE {MATCHES} AND digest = ?", (*claim.scope, claim.digest)
            ).fetchone()
        if row is None or row[0] == made.answer:
            return made._replace(replayed=False)
        return Kept(*row)

    def release(self, claim: Claim) -> None:
        """Gives the claim back, unless it was answered or taken over."""
        with self._transaction() as db:
            db.execute(
                f"DELETE FROM answers WHERE {MATCHES} AND answer IS NULL AND holder = ? AND held_until = ?",
                (*claim.scope, os.getpid(), claim.held_until),
            )

    def erase(self, customer_ids: Sequence[str]) -> int:
        """Forget the answers given to these customers, from any thread; how many there were."""
        return self._thread.submit(self._erase, customer_ids).result()

    def _erase(self, customer_ids: Sequence[str]) -> int:
        marks = ", ".join("?" * len(customer_ids))
        with self._transaction() as db:
            db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
            return db.execute(f"DELETE FROM answers WHERE customer_id IN ({marks})", list(customer_ids)).rowcount

    def close(self) -> None:
        """Ends the thread after what it has begun."""
        self._thread.shutdown()
        if self._db is not None:
            self._db.close()

    async def _claimed(self, scope: Scope, digest: bytes, until: float | None) -> Claim | Kept:
        wait_s = 0.002
        while (found := await self._asked(scope, digest, until)) is None:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 0.05)
        return found

    async def _asked(self, scope: Scope, digest: bytes, until: float | None) -> Claim | Kept | None:
        loop = asyncio.get_running_loop()
        asking = loop.run_in_executor(self._thread, self.claim, scope, digest)
        left_s = None if until is None else max(until - loop.time(), 0.0)
        done, _ = await asyncio.wait([asking], timeout=left_s)
        if done:
            return asking.result()
        asking.add_done_callback(self._released)
        raise StoreUnavailable(f"the state {self._path.name} did not answer in time")

    def _released(self, asking: asyncio.Future[Claim | Kept | None]) -> None:
        """A claim that came when nobody waited for it any longer."""
        if not asking.cancelled() and asking.exception() is None and isinstance(claim := asking.result(), Claim):
            self._thread.submit(self.release, claim)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._db is None:
                # NORMAL survives a crash of ours, not of the machine
                self._db = open_wal(self._path, synchronous="NORMAL", busy_timeout_s=BUSY_TIMEOUT_S)
                self._db.executescript(SCHEMA)
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"the state {self._path.name} did not answer: {error}") from error
        finally:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @staticmethod
    def _sweep(db: sqlite3.Connection, now_us: int) -> None:
        db.execute(
            "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE expires_us <= ? LIMIT ?)",
            (now_us, SWEPT_AT_ONCE),
        )


def _alive(pid: int) -> bool:
    """Whether the process may still answer. Unknown counts as alive: its lease ends by itself."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
