"""The fast read of one customer from Feast's SQLite online store, by its documented layout, without Feast.

Source: https://github.com/feast-dev/feast/blob/master/docs/specs/online_store_format.md; a test holds it equal to
`get_online_features`. A row per entity and feature: serialized entity key (version 3), name, serialized `ValueProto`.
"""

from __future__ import annotations

import sqlite3
import struct
import threading
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

PROJECT = "nbo"
VIEWS: dict[View, str] = {"customer": "customer_days", "profile": "customer_profile", "offer": "offer_days"}
SNAPSHOT = "snapshot"  # key in facts.db: what is online
SERVED = "snapshot_features"  # key in facts.db: the feature set of what is online
STRING = 2  # ValueType of Feast


class Snapshot(msgspec.Struct, frozen=True):
    """What was materialized last."""

    day: str  # YYYY-MM-DD; the snapshot holds what happened on whole UTC days before it
    as_of_us: int  # the start of that day
    log_position: int  # what the log received up to here is in the snapshot, where it is old enough
    until_us: int  # the instant it was materialized as of: the log's tail goes on from `as_of_us` to here
    online: str  # file name under feast/
    feature_set: str  # digest


class OnlineStore(Protocol):
    """Where the newest stored rows are read."""

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
    """One materialized file, opened read-only, once per thread."""

    def __init__(self, path: Path, project: str, feature_set: FeatureSet, snapshot: Snapshot | None = None) -> None:
        self.path, self.feature_set, self.snapshot = path, feature_set, snapshot
        self._local = threading.local()
        self._one = f'SELECT feature_name, value, event_ts FROM "{project}_{VIEWS["customer"]}" WHERE entity_key = ?'
        self._all_offers = f'SELECT entity_key, feature_name, value, event_ts FROM "{project}_{VIEWS["offer"]}"'
        self._at = {entity: _positions(feature_set, entity) for entity in ("customer", "offer")}
        self._empty: list[Any] = [None] * len(self._at["customer"])

    def customer(self, key: str) -> StoredRow | None:
        """The stored row; None for a customer whom the snapshot does not know. `StoreUnavailable` on failure."""
        rows = self._rows(self._one, (entity_key("customer_id", key),))
        if not rows:
            return None
        columns = self._empty.copy()
        at = self._at["customer"]
        for name, value, _ in rows:
            position = at.get(name)
            if position is not None:
                columns[position] = _SMALL[value] if value in _SMALL else decode_value(value)
        return StoredRow(columns, _instant_us(rows[0][2]))

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
            raise StoreUnavailable(f"the online store {self.path} did not answer: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            address = f"{self.path.resolve().as_uri()}?mode=ro"
            connection = sqlite3.connect(address, uri=True, timeout=1.0, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA mmap_size = 268435456")
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


_SMALL: dict[bytes, int | None] = {bytes((0x20, number)): number for number in range(128)} | {b"": None}  # the most


@lru_cache(maxsize=1024)
def _instant_us(stored: int) -> int:
    """Feast stores a naive UTC time as if it were local: undo that."""
    return to_us(datetime.fromtimestamp(stored).replace(tzinfo=UTC))


def _positions(feature_set: FeatureSet, entity: Entity) -> dict[str, int]:
    return {column.name: at for at, column in enumerate(feature_set.stored(entity))}
