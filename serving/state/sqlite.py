"""Opening a SQLite file that many processes may open, and create, at the same moment."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from features.errors import StoreUnavailable

BUSY_TIMEOUT_S = 10.0
PAGE_BYTES = 4_096  # SQLite's own choice
ROWS_AT_ONCE = 100
STATEMENTS = 512  # kept ready: one for each number of rows


def open_wal(
    path: Path, *, synchronous: str, busy_timeout_s: float = BUSY_TIMEOUT_S, page_bytes: int = PAGE_BYTES
) -> sqlite3.Connection:
    """A connection in WAL mode that may be handed between threads; `StoreUnavailable` if it cannot be had. Pages have
    their size from when the file was made.
    """
    deadline = time.monotonic() + busy_timeout_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            path,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
    while True:
        try:
            db.execute(f"PRAGMA page_size = {page_bytes}")
            db.execute("PRAGMA journal_mode = WAL")  # on a new file it does not wait for others, hence the loop
            db.execute(f"PRAGMA synchronous = {synchronous}")
            return db
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                db.close()
                raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
            time.sleep(0.01)


def insert(db: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]], after: str = "") -> None:
    """Some rows as one statement: each statement lets go of the interpreter, and gets it back late while it is busy."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        db.execute(_inserting(into, len(some), len(some[0]), after), [value for row in some for value in row])


@lru_cache(maxsize=2_048)
def _inserting(into: str, n_rows: int, n_values: int, after: str) -> str:
    row = f"({', '.join('?' * n_values)})"
    return f"{into} VALUES {', '.join([row] * n_rows)} {after}"
