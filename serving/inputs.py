"""What an edition was made from beside catalogue and release, by digest, so that its decisions replay later.

Kept once, however many decisions name it, and for 30 days after the last edition that was made from it.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from features.definitions import FeatureSet
from features.errors import InputsExpired, StoreUnavailable
from features.events import US_PER_DAY, to_us
from features.live import StoredRow
from serving.settings import Clock, Settings
from serving.state.sqlite import open_wal

logger = logging.getLogger(__name__)
KEPT_DAYS = 30
TOUCHED_EVERY_S = 1800.0
BUSY_TIMEOUT_S = 2.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS kept_inputs (
    digest TEXT PRIMARY KEY, body BLOB NOT NULL, used_us INTEGER NOT NULL) STRICT, WITHOUT ROWID
"""
DECIDES = ("decision.", "learning.", "retention.", "clock.time_zone")  # places of settings that a decision depends on


class KeptInputs:
    """Inputs of editions in state.db. Safe to share between threads and processes."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._touched: dict[str, float] = {}  # digest -> when, of the monotonic clock
        self._offers: tuple[object, str] = (None, "")  # the snapshot whose digest is known

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def keep(
        self, settings: Settings, feature_set: FeatureSet, snapshot: object, offers: Mapping[str, StoredRow]
    ) -> dict[str, str]:
        """Digests for the log. `offers` are the stored features; equal snapshots have equal ones.

        Empty if the store does not answer: deciding goes on, and what is decided meanwhile does not replay.
        """
        try:
            if snapshot is None or self._offers[0] != snapshot:
                self._offers = (snapshot, self._kept(_of_offers(offers)))
            else:
                self._touch(self._offers[1])
            return {
                "settings": self._kept(msgspec.json.encode(deciding(settings), order="sorted")),
                "feature_set": self._kept(feature_set.to_json()),
                "offers": self._offers[1],
            }
        except StoreUnavailable as error:
            logger.warning("decisions of this edition will not replay: %s", error)
            return {}

    def settings(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self._load(digest))
        return found

    def feature_set(self, digest: str) -> FeatureSet:
        return FeatureSet.from_json(self._load(digest))

    def offers(self, digest: str) -> dict[str, StoredRow]:
        rows = msgspec.msgpack.decode(self._load(digest), type=dict[str, tuple[int, list[Any]]])
        return {offer_id: StoredRow(columns, as_of_us) for offer_id, (as_of_us, columns) in rows.items()}

    def _kept(self, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        if digest in self._touched:
            self._touch(digest)
            return digest
        with self._transaction() as db:
            now_us = to_us(self._clock())
            known = db.execute("UPDATE kept_inputs SET used_us = ? WHERE digest = ?", (now_us, digest)).rowcount
            if not known:
                db.execute("INSERT INTO kept_inputs VALUES (?, ?, ?)", (digest, zlib.compress(body, 1), now_us))
                db.execute("DELETE FROM kept_inputs WHERE used_us < ?", (now_us - (KEPT_DAYS + 1) * US_PER_DAY,))
        self._touched[digest] = time.monotonic()
        return digest

    def _touch(self, digest: str) -> None:
        """Say that it is still in use."""
        if time.monotonic() - self._touched[digest] < TOUCHED_EVERY_S:
            return
        with self._transaction() as db:
            db.execute("UPDATE kept_inputs SET used_us = ? WHERE digest = ?", (to_us(self._clock()), digest))
        self._touched[digest] = time.monotonic()

    def _load(self, digest: str) -> bytes:
        with self._transaction("BEGIN") as db:
            row = db.execute("SELECT body FROM kept_inputs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise InputsExpired("the features of offers, or the settings, that this decision used are no longer kept")
        return zlib.decompress(row[0])

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._db is None:
                    self._db = open_wal(self._path, synchronous="NORMAL", busy_timeout_s=BUSY_TIMEOUT_S)
                    self._db.execute(SCHEMA)
                self._db.execute(begin)
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise StoreUnavailable(f"the state {self._path.name} did not answer: {error}") from error
            finally:
                if self._db is not None and self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that a decision depends on, by name."""
    return {
        one.name: getattr(settings, one.name)
        for one in fields(settings)
        if any(one.metadata.get("toml", "").startswith(place) for place in DECIDES)
    }


def _of_offers(offers: Mapping[str, StoredRow]) -> bytes:
    rows = {offer_id: (row.as_of_us, list(row.columns)) for offer_id, row in offers.items()}
    return msgspec.msgpack.encode(rows, order="sorted")
