"""The history of profile attributes as a table that Feast joins at any instant."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pyarrow as pa

from features.definitions.dsl import FeatureSet
from features.definitions.profile import attribute_value

TYPES = {"number": pa.float64(), "boolean": pa.float64(), "category": pa.string(), "time": pa.float64()}


def profile_table(features: FeatureSet, history: Iterable[tuple[str, int, str]]) -> pa.Table:
    """One row per version: customer, the profile view's columns, event_timestamp.

    A version may be used strictly after it became valid, hence the microsecond.
    """
    columns = features.stored("profile")
    ids: list[str] = []
    since_us: list[int] = []
    values: list[list[float | str | None]] = [[] for _ in columns]
    for customer_id, valid_from_us, body in history:
        attributes = msgspec.json.decode(body)
        ids.append(customer_id)
        since_us.append(valid_from_us + 1)
        for column, into in zip(columns, values, strict=True):
            into.append(attribute_value(column.kind, attributes.get(column.of)))  # type: ignore[arg-type]
    arrays = [pa.array(ids, pa.string())]
    arrays += [pa.array(some, TYPES[column.kind]) for column, some in zip(columns, values, strict=True)]
    arrays.append(pa.array(since_us, pa.int64()).cast(pa.timestamp("us", tz="UTC")))
    return pa.table(arrays, names=["customer_id", *(column.name for column in columns), "event_timestamp"])
