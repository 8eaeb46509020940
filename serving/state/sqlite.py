"""Opening a SQLite file that many processes may open, and create, at the same moment."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from features.errors import StoreUnavailable

BUSY_TIMEOUT_S = 10.0


def open_wal(path: Path, *, synchronous: str, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """A connection in WAL mode that may be handed between threads; `StoreUnavailable` if it cannot be had."""
    deadline = time.monotonic() + busy_timeout_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.OperationalError) as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")  # on a new file it does not wait for others, hence the loop
            db.execute(f"PRAGMA synchronous = {synchronous}")
            return db
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                db.close()
                raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
            time.sleep(0.01)
