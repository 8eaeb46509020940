"""The fast read of what Feast materialized, without Feast: customers from their packed rows, offers from Feast's own.

Feast's layout: a row per entity and feature of serialized entity key (version 3), name, serialized `ValueProto`.
Source: https://github.com/feast-dev/feast/blob/master/docs/specs/online_store_format.md; a test holds both reads equal
to `get_online_features`.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from features.definitions.dsl import Entity, FeatureSet, View
from features.errors import StoreUnavailable
from features.events import to_us
from features.facts import Facts
from features.home import Home
from features.live import StoredRow
from features.packed import NAMES, ONE, unpack

PROJECT = "nbo"
VIEWS: dict[View, str] = {"customer": "customer_days", "profile": "customer_profile", "offer": "offer_days"}
SNAPSHOT = "snapshot"  # key in facts.db: what is online
SERVED = "snapshot_features"  # key in facts.db: the feature set of what is online
STRING = 2  # ValueType of Feast
ROWS_KEPT = 4096  # of the customers who are there just now: a visit asks for the same row again and again
CHANGE_COUNTER = 24  # where SQLite's file format counts the transactions that changed the file


class Snapshot(msgspec.Struct, frozen=True):
    """What was materialized last."""

    day: str  # YYYY-MM-DD; the snapshot holds what happened on whole UTC days before it
    as_of_us: int  # the start of that day
    log_position: int  # what the log received up to here is in the snapshot, where it is old enough
    until_us: int  # the instant it was materialized as of: the log's tail goes on from `as_of_us` to here
    online: str  # file name under feast/
    feature_set: str  # digest
    erasures: int = 0  # customers taken out of it since, so that readers open it anew


class OnlineStore(Protocol):
    """Where the newest stored rows are read."""

    @property
    def snapshot(self) -> Snapshot | None:
        """What is read there."""
        ...

    def customer(self, key: str) -> StoredRow | None: ...

    def offers(self) -> Mapping[str, StoredRow]: ...


def read_snapshot(facts: Facts) -> Snapshot | None:
    """What is online; None before the first materialization."""
    text = facts.meta(SNAPSHOT)
    return msgspec.json.decode(text, type=Snapshot) if text else None


def served_features(facts: Facts) -> FeatureSet | None:
    """The feature set of what is online; None before the first materialization."""
    text = facts.meta(SERVED)
    return FeatureSet.from_json(text) if text else None


def open_online(home: Home, facts: Facts) -> SqliteOnlineStore | None:
    """The newest materialized store; None before the first. Open it anew when `facts.meta("snapshot")` changes."""
    with facts.transaction():
        snapshot, features = read_snapshot(facts), served_features(facts)
    if snapshot is None or features is None:
        return None
    return SqliteOnlineStore(home.feast / snapshot.online, PROJECT, features, snapshot)


class SqliteOnlineStore:
    """One materialized file, opened read-only, once per thread. What was read of it is kept until the file changes,
    which after it was written only an erasure does."""

    def __init__(self, path: Path, project: str, feature_set: FeatureSet, snapshot: Snapshot | None = None) -> None:
        self.path, self.feature_set, self.snapshot = path, feature_set, snapshot
        self._local = threading.local()
        self._opening = threading.Lock()
        self._file: int | None = None
        self._all_offers = f'SELECT entity_key, feature_name, value, event_ts FROM "{project}_{VIEWS["offer"]}"'
        self._at = {entity: _positions(feature_set, entity) for entity in ("customer", "offer")}
        self._order: tuple[tuple[int, ...], bool] | None = None
        self._kept = lru_cache(maxsize=ROWS_KEPT)(self._read)

    def customer(self, key: str) -> StoredRow | None:
        """The stored row; None for a customer whom the snapshot does not know. `StoreUnavailable` on failure.

        The row is shared between callers.
        """
        return self._kept(key, self._version())

    def _read(self, key: str, version: bytes) -> StoredRow | None:
        rows = self._rows(ONE, (entity_key("customer_id", key),))
        if not rows:
            return None
        ((as_of_us, packed),) = rows
        columns, order = unpack(packed), self._column_order()
        if order is not None:
            columns.append(None)  # what the file does not have
            columns = [columns[at] for at in order]
        return StoredRow(columns, as_of_us)

    def _column_order(self) -> tuple[int, ...] | None:
        """Where the file has each column of this set, -1 where it has not; None if all stand where they should."""
        if self._order is None:
            position = {name: at for at, (name,) in enumerate(self._rows(NAMES, ()))}
            order = tuple([position.get(name, -1) for name in self._at["customer"]])
            self._order = (order, list(order) == list(range(len(position))))
        order, as_is = self._order
        return None if as_is else order

    def _version(self) -> bytes:
        """Another value means that the file was changed since, by whichever process."""
        file = self._file
        if file is None:
            file = self._opened()
        return os.pread(file, 4, CHANGE_COUNTER)

    def _opened(self) -> int:
        with self._opening:
            if self._file is None:
                try:
                    file = os.open(self.path, os.O_RDONLY)
                except OSError as error:
                    raise StoreUnavailable(f"the online store {self.path} cannot be opened: {error}") from error
                weakref.finalize(self, os.close, file)
                self._file = file
            return self._file

    def offers(self) -> dict[str, StoredRow]:
        """All stored rows by offer id."""
        at = self._at["offer"]
        found: dict[str, StoredRow] = {}
        for key, name, value, moment in self._rows(self._all_offers, ()):
            offer_id = key_value(key)
            if offer_id not in found:
                found[offer_id] = StoredRow([None] * len(at), _instant_us(moment))
            position = at.get(name)
            if position is not None:
                found[offer_id].columns[position] = decode_value(value)  # type: ignore[index]
        return found

    def close(self) -> None:
        """Closes this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.Error as error:
            advice = "; run `nbo features materialize`" if "no such table" in str(error) else ""  # of an older version
            raise StoreUnavailable(f"the online store {self.path} did not answer: {error}{advice}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            address = f"{self.path.resolve().as_uri()}?mode=ro"
            connection = sqlite3.connect(address, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False)
            # Not mapped into memory: a file that is cut short would end the process instead of failing a read.
            connection.execute("PRAGMA mmap_size = 0")
            self._local.connection = connection
        return connection


def entity_key(join_key: str, value: str) -> bytes:
    """Feast's serialized entity key, version 3, of one string join key."""
    name, text = join_key.encode(), value.encode()
    return b"".join(
        (struct.pack("<III", 1, STRING, len(name)), name, struct.pack("<II", STRING, len(text)), text),
    )


def key_value(key: bytes) -> str:
    """The value in a serialized entity key of one string join key."""
    (length,) = struct.unpack_from("<I", key, 8)
    return key[12 + length + 8 :].decode()


def decode_value(data: bytes) -> Any:
    """A serialized `ValueProto` as int, float, str, list of int or of str; None if nothing is set."""
    if not data:
        return None
    tag = data[0]
    if tag == 0x20:  # int64_val = 4
        return _signed(_varint(data, 1)[0])
    if tag == 0x29:  # double_val = 5
        return struct.unpack_from("<d", data, 1)[0]
    length, at = _varint(data, 1)
    if tag == 0x12:  # string_val = 2
        return data[at : at + length].decode()
    if tag == 0x62:  # string_list_val = 12
        return _strings(data, at, at + length)
    if tag == 0x72:  # int64_list_val = 14
        return _integers(data, at, at + length)
    raise StoreUnavailable(f"the online store holds a value with tag {tag}, which no stored column has")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _strings(data: bytes, at: int, end: int) -> list[str]:
    found = []
    while at < end:
        length, at = _varint(data, at + 1)
        found.append(data[at : at + length].decode())
        at += length
    return found


def _integers(data: bytes, at: int, end: int) -> list[int]:
    """A packed `repeated int64`."""
    found: list[int] = []
    if at == end:
        return found
    length, at = _varint(data, at + 1)
    end = at + length
    packed = data[at:end]
    if packed.isascii():  # every number takes one byte
        return list(packed)
    while at < end:
        number, at = _varint(data, at)
        found.append(_signed(number))
    return found


@lru_cache(maxsize=1024)
def _instant_us(stored: int) -> int:
    """Feast stores a naive UTC time as if it were local: undo that."""
    return to_us(datetime.fromtimestamp(stored).replace(tzinfo=UTC))


def _positions(feature_set: FeatureSet, entity: Entity) -> dict[str, int]:
    return {column.name: at for at, column in enumerate(feature_set.stored(entity))}
