"""The open SQLite file that all parts of what we know share: its transactions, and single values by name."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from features.data_settings import DataSettings
from features.facts.schema import SCHEMA
from features.facts.upgrade import upgrade


@lru_cache(maxsize=128)
def marks(n: int) -> str:
    """Places for `n` values in a statement; as few statements as there are lengths, so that they stay prepared."""
    return ", ".join("?" * n)


class FactsFile:
    """Safe to share between threads of one process; open one per process."""

    def __init__(self, path: Path, wait_s: float = 30.0) -> None:
        """`wait_s` is how long a write waits for another process's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._depth = 0
        self._db = sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        if self.meta("schema") != SCHEMA:
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                upgrade(self._db)
                self.set_meta("schema", SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; nested ones join the outer."""
        with self._lock:
            if self._depth == 0:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._db.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._db.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def commits(self) -> tuple[int, int]:
        """Another value means that something was committed since, by this connection or another one."""
        with self._lock:
            return int(self._db.execute("PRAGMA data_version").fetchone()[0]), self._db.total_changes

    # Settings of the data and other single values

    def meta(self, key: str) -> str | None:
        try:
            rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
        return rows[0][0] if rows else None

    def set_meta(self, key: str, value: str) -> None:
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def data_settings(self) -> DataSettings:
        text = self.meta("data_settings")
        return msgspec.json.decode(text, type=DataSettings) if text else DataSettings()

    def set_data_settings(self, settings: DataSettings) -> None:
        self.set_meta("data_settings", msgspec.json.encode(settings).decode())
