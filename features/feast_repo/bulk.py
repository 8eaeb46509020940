"""Snapshots into Feast's SQLite online store, column by column: the rows of Feast's own writer, without its objects.

Feast makes a message of every value and upserts it. Here a column of Parquet becomes the same bytes at once: every
serialized `ValueProto` that a stored column can have is a tag and a number, a text or a list of either. Customers'
values are also written packed, see `features/packed.py`. A test holds the rows equal to those that Feast writes.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from features.definitions.dsl import StoredColumn
from features.events import from_us
from features.online import entity_key
from features.packed import INSERT

ROWS_PER_BATCH = 10_000  # in memory at once
INT64, DOUBLE, STRING, STRINGS, INT64S = b"\x20", b"\x29", b"\x12", b"\x62", b"\x72"  # tags: field number and wire type
ITEM, PACKED = b"\x0a", b"\x0a"  # of a list message's only field
Encode = Callable[[Any], bytes]


def write_view(
    db: sqlite3.Connection, table_name: str, key: str, columns: Sequence[StoredColumn], rows: pa.Table, packed: bool
) -> None:
    """Rows with the key, the stored columns and `event_timestamp`, for a file that nobody reads yet.

    A crash while writing leaves a broken file, which no `Snapshot` names.
    """
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute(f'DROP INDEX IF EXISTS "{table_name}_ek"')  # a second index that the primary key makes needless
    keys = pc.cast(rows[key], pa.binary())  # serialized keys begin with the length: shorter ones come first
    order = pa.table({"n": pc.binary_length(keys), "key": keys})
    rows = rows.take(pc.sort_indices(order, [("n", "ascending"), ("key", "ascending")]))
    stored = sorted(columns, key=lambda column: column.name)
    encoders = [ENCODERS[column.kind]() for column in stored]
    insert = _insert_of(table_name, [(column.name, column.kind in TOLD) for column in stored])
    with db:
        for start in range(0, len(rows), ROWS_PER_BATCH):
            some = rows.slice(start, ROWS_PER_BATCH)
            ids = [entity_key(key, name) for name in some[key].to_pylist()]
            us = some["event_timestamp"].cast(pa.int64()).to_pylist()
            seconds = {one: _naive_s(one) for one in set(us)}
            values = {column.name: some[column.name].to_pylist() for column in stored}
            bound: list[Iterable[Any]] = [ids, [seconds[one] for one in us]]
            for column, encode in zip(stored, encoders, strict=True):
                bound.append(map(encode, values[column.name]))
                if column.kind in TOLD:
                    bound.append(map(TOLD[column.kind], values[column.name]))
            db.executemany(insert, zip(*bound, strict=True))
            if packed:
                in_order = (values[column.name] for column in columns)
                db.executemany(INSERT, zip(ids, us, map(_encoder.encode, zip(*in_order, strict=True)), strict=True))


def _insert_of(table_name: str, columns: Sequence[tuple[str, bool]]) -> str:
    """One statement for all values of an entity, in order of their names, as the primary key has them.

    Bound are its key, its time, and per column the value's message, then the value where it is also told as text, which
    the column makes of a whole number.
    """
    rows, at = [], 3
    for name, told in columns:
        text = f"?{at + 1}" if told else "NULL"
        quoted = name.replace("'", "''")
        rows.append(f"(?1, '{quoted}', ?{at}, {text}, ?2, NULL)")
        at += 1 + told
    return (
        f'INSERT INTO "{table_name}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
        f"VALUES {', '.join(rows)}"
    )


_encoder = msgspec.msgpack.Encoder()


def _naive_s(us: int) -> int:
    """As Feast stores a time: naive UTC, as if it were local, in seconds."""
    return int(from_us(us).astimezone(UTC).replace(tzinfo=None).timestamp())


def _kept(encode: Encode) -> Encode:
    """The same of what comes again and again."""
    known: dict[Any, bytes] = {None: b""}

    def of(value: Any) -> bytes:
        found = known.get(value)
        if found is None:
            found = encode(value)
            if len(known) < ROWS_PER_BATCH:
                known[value] = found
        return found

    return of


def varint(number: int) -> bytes:
    """Base 128, little end first; below 0 in two's complement of 64 bits."""
    if 0 <= number < 0x80:
        return _ONE_BYTE[number]
    rest = number & 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_ONE_BYTE = tuple(bytes((n,)) for n in range(0x80))


def _sized(body: bytes) -> bytes:
    return varint(len(body)) + body


def integer() -> Encode:
    return _kept(lambda value: INT64 + varint(value))


def double() -> Encode:
    return lambda value: b"" if value is None or value != value else DOUBLE + struct.pack("<d", value)


def text() -> Encode:
    return _kept(lambda value: STRING + _sized(value.encode()))


def integers() -> Encode:
    def of(values: list[int] | None) -> bytes:
        if not values:
            return b""
        small = min(values) >= 0 and max(values) < 0x80
        body = bytes(values) if small else b"".join(map(varint, values))
        return INT64S + _sized(PACKED + _sized(body))

    return of


def texts() -> Encode:
    item = _kept(lambda value: ITEM + _sized(value.encode()))

    def of(values: list[str] | None) -> bytes:
        return STRINGS + _sized(b"".join(map(item, values))) if values else b""

    return of


def _as_is(value: Any) -> Any:
    return value


def _as_text(value: float | None) -> str | None:
    return None if value is None or value != value else str(value)


ENCODERS: dict[str, Callable[[], Encode]] = {
    "sum": integer, "first": integer, "last": integer, "days": integers, "keys": texts, "counts": integers,
    "number": double, "boolean": double, "time": double, "category": text,
}  # fmt: skip
TOLD: dict[str, Callable[[Any], Any]] = {
    "sum": _as_is, "first": _as_is, "last": _as_is, "category": _as_is,
    "number": _as_text, "boolean": _as_text, "time": _as_text,
}  # fmt: skip
