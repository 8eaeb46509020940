"""Between the rows that are computed and the lists that are stored: counts by key as parallel, ordered lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.compute.expressions import KEY, count_columns, counted_windows, wide_columns
from features.definitions.dsl import Entity, FeatureSet

Window = tuple[str, int]  # (column counted by, whole days)


def pack(
    features: FeatureSet, entity: Entity, wide: pa.Table, longs: Mapping[Window, pa.Table], before: pa.Table | None,
    day: int,
) -> pa.Table:  # fmt: skip
    """The snapshot of `day`: key and stored columns. `wide` is ordered by key; nothing to list is a null.

    Day sets are those of the snapshot `before`, as far as the window still holds them, and the new ones of `wide`.
    """
    key = KEY[entity]
    made = {name: wide[name].combine_chunks() for name in wide.column_names}
    for column in wide_columns(features, entity):
        if column.kind == "days" and column.days is not None:
            held = None if before is None else (before[key].combine_chunks(), before[column.name].combine_chunks())
            made[column.name] = _united(made[key], held, made[column.name], day - column.days)
    for window, long in longs.items():
        row = pc.index_in(long[key].combine_chunks(), value_set=made[key]).to_numpy(zero_copy_only=False)
        names = long["by"].combine_chunks()
        order = _order(row.astype(np.int64), names)
        lengths = np.bincount(row.astype(np.int64), minlength=len(wide))
        made[_keys_name(features, entity, window)] = _list(lengths, names.take(order))
        for column in count_columns(features, entity, *window):
            made[column.name] = _list(lengths, long[column.name].combine_chunks().take(order))
    return pa.table({name: made[name] for name in [key, *(column.name for column in features.stored(entity))]})


def unpack(features: FeatureSet, entity: Entity, table: pa.Table) -> tuple[pa.Table, dict[Window, pa.Table]]:
    """What the next snapshot starts from: `wide` without day sets, and the counts by key, long."""
    key = KEY[entity]
    wide = table.select([key, *(column.name for column in wide_columns(features, entity) if column.kind != "days")])
    longs = {}
    for window in counted_windows(features, entity):
        keys = table[_keys_name(features, entity, window)].combine_chunks()
        long = {key: table[key].combine_chunks().take(pc.list_parent_indices(keys)), "by": keys.flatten()}
        for column in count_columns(features, entity, *window):
            long[column.name] = table[column.name].combine_chunks().flatten()
        longs[window] = pa.table(long)
    return wide, longs


def _united(keys: Any, before: tuple[Any, Any] | None, new: Any, first: int) -> Any:
    """Per key the days from `first` on: those held before, then the new ones, which are all later."""
    rows, values = [_parents(new)], [new.flatten().to_numpy()]
    if before is not None:
        at = pc.index_in(before[0], value_set=keys).to_numpy(zero_copy_only=False).astype(np.int64)
        rows.insert(0, at[_parents(before[1])])
        values.insert(0, before[1].flatten().to_numpy())
    row, day = np.concatenate(rows), np.concatenate(values)
    kept = day >= first
    row, day = row[kept], day[kept]
    order = np.argsort(row, kind="stable")
    return _list(np.bincount(row, minlength=len(keys)), pa.array(day[order], pa.int64()))


def _parents(lists: Any) -> NDArray[np.int64]:
    """The row of each value."""
    parents: NDArray[np.int64] = pc.list_parent_indices(lists).to_numpy()
    return parents


def _keys_name(features: FeatureSet, entity: Entity, window: Window) -> str:
    return next(c.name for c in features.stored(entity) if c.kind == "keys" and (c.of, c.days) == window)


def _order(row: NDArray[np.int64], names: Any) -> Any:
    """Positions by row, then by name; faster than a sort by two strings."""
    encoded = names.dictionary_encode()
    rank = pc.rank(encoded.dictionary, sort_keys="ascending").to_numpy().astype(np.int64)
    if not len(row):
        return pa.array([], pa.int64())
    return pa.array(np.argsort(row * len(rank) + rank[encoded.indices.to_numpy()] - 1, kind="stable"))


def _list(lengths: NDArray[np.int64], values: Any) -> Any:
    """Consecutive lists of these lengths; null where the length is 0."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(lengths == 0))
