"""Feast's SQLite online store, written in bulk: the same layout, one statement for all rows of a view.

Feast's own writer runs one upsert per value and keeps a second index that the primary key makes needless. Customers'
values are also written packed, see `features/packed.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id, extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, adapt_datetime_epoch
from feast.utils import to_naive_utc

from features.events import to_us
from features.online import VIEWS, decode_value
from features.packed import INSERT, PackedRow, pack, packed_names

ROWS_PER_REPORT = 1000
Entity: TypeAlias = tuple[Any, dict[str, Any], datetime, datetime | None]  # key, values, their time, written when


class BulkSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """As `sqlite`."""

    type: Literal["features.feast_repo.bulk.BulkSqliteOnlineStore"] = "features.feast_repo.bulk.BulkSqliteOnlineStore"


class BulkSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """For a file that nobody reads yet: a crash while writing leaves a broken file, which no `Snapshot` names."""

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: list[Entity],
        progress: Callable[[int], Any] | None,
    ) -> None:
        connection = self._get_conn(config)
        name = compute_table_id(config.project, table, config.registry.enable_online_feature_view_versioning)
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f'DROP INDEX IF EXISTS "{name}_ek"')
        with connection:
            connection.executemany(
                f'INSERT OR REPLACE INTO "{name}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
                "VALUES (?, ?, ?, ?, ?, ?)",
                itertools.chain.from_iterable(_rows(config, one) for one in data),
            )
            if table.name == VIEWS["customer"]:
                names = packed_names(connection)
                connection.executemany(INSERT, (_packed(config, one, names) for one in data))
        if progress:
            progress(len(data))


def _rows(config: Any, entity: Entity) -> Iterator[tuple[bytes, str, bytes, str | None, int, int | None]]:
    """The rows of one entity, values in order of their names, as the primary key has them."""
    key, values, moment, created = entity
    serialized = serialize_entity_key(key, config.entity_key_serialization_version)
    at = adapt_datetime_epoch(to_naive_utc(moment))
    created_at = None if created is None else adapt_datetime_epoch(to_naive_utc(created))
    for name in sorted(values):
        value = values[name]
        yield serialized, name, value.SerializeToString(), extract_text_and_num(value, False)[0], at, created_at


def _packed(config: Any, entity: Entity, names: Sequence[str]) -> PackedRow:
    key, values, moment, _ = entity
    serialized = serialize_entity_key(key, config.entity_key_serialization_version)
    columns = {name: decode_value(value.SerializeToString()) for name, value in values.items()}
    return PackedRow(serialized, to_us(to_naive_utc(moment).replace(tzinfo=UTC)), pack(columns, names))
