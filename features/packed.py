"""One row per customer beside Feast's rows, of the same values: who answers decisions reads this one alone.

It is written with Feast's rows and erased with them; a test holds it equal to `get_online_features`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

PACKED = "nbo_customer_packed"
SCHEMA = f"""
CREATE TABLE {PACKED} (entity_key BLOB PRIMARY KEY, as_of_us INTEGER NOT NULL, columns BLOB NOT NULL) STRICT;
CREATE TABLE {PACKED}_names (position INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;
"""
NAMES = f"SELECT name FROM {PACKED}_names ORDER BY position"
ONE = f"SELECT as_of_us, columns FROM {PACKED} WHERE entity_key = ?"
INSERT = f"INSERT OR REPLACE INTO {PACKED} (entity_key, as_of_us, columns) VALUES (?, ?, ?)"
_decoder = msgspec.msgpack.Decoder(list[Any])


class PackedRow(NamedTuple):
    """As the table has it."""

    entity_key: bytes
    as_of_us: int
    columns: bytes


def make_packed(db: sqlite3.Connection, names: Sequence[str]) -> None:
    """The tables of a new online file, for these stored columns in this order."""
    for statement in SCHEMA.strip().split("\n"):
        db.execute(statement)
    db.executemany(f"INSERT INTO {PACKED}_names VALUES (?, ?)", enumerate(names))


def packed_names(db: sqlite3.Connection) -> tuple[str, ...]:
    return tuple([name for (name,) in db.execute(NAMES)])


def pack(values: Mapping[str, Any], names: Sequence[str]) -> bytes:
    """The values in the order of `names`, None where there is none."""
    return msgspec.msgpack.encode([values.get(name) for name in names])


def unpack(columns: bytes) -> list[Any]:
    return _decoder.decode(columns)
