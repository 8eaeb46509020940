"""How many customers have an attribute of which kind, so that rules may name it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from features.definitions.dsl import AttributeKind

MOST_NAMES = 2_000  # attributes of all customers together that rules may name


def count_attributes(db: sqlite3.Connection, moved: Mapping[tuple[str, AttributeKind], int]) -> None:
    """Within a transaction: so many customers more, or fewer, have an attribute of a kind."""
    for (name, kind), n in moved.items():
        known = db.execute("UPDATE attribute_kinds SET n = n + ? WHERE name = ? AND kind = ?", (n, name, kind))
        if not known.rowcount:
            db.execute(
                "INSERT INTO attribute_kinds SELECT ?, ?, ? WHERE (SELECT count(*) FROM attribute_kinds) < ?",
                (name, kind, max(n, 0), MOST_NAMES),
            )
