"""DuckDB that keeps to itself: no progress bar in what a command prints, or in a notebook."""

from __future__ import annotations

import duckdb


def hush(db: duckdb.DuckDBPyConnection) -> None:
    """No progress bar, which would be written to stdout. In a notebook there is none unless its widgets are installed,
    and without them DuckDB refuses to be told anything about it."""
    (shown,) = db.execute("SELECT current_setting('enable_progress_bar')").fetchall()[0]
    if shown:
        db.execute("SET enable_progress_bar = false")
