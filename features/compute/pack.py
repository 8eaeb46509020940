"""Between the rows that are computed and the lists that are stored: counts by key as parallel, ordered lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.compute.expressions import KEY, count_columns, counted_windows, wide_columns
from features.definitions.dsl import Entity, FeatureSet

Window = tuple[str, int]  # (column counted by, whole days)


class Keys(NamedTuple):
    """Everyone in a snapshot, in order; the position is the id that the expressions join by."""

    keys: Any  # (n,) strings
    moved: NDArray[np.int64]  # (n of the snapshot before,): where its rows are now


def keys_of(before: Any | None, new: Sequence[Any]) -> Keys:
    """The keys of the snapshot before, which are in order, and those of the new days."""
    found = pc.unique(pa.chunked_array(new, pa.string()).combine_chunks()) if new else pa.array([], pa.string())
    if before is None:
        return Keys(found.sort(), np.zeros(0, np.int64))
    fresh = found.filter(pc.is_null(pc.index_in(found, value_set=before)))
    if not len(fresh):
        return Keys(before, np.arange(len(before)))
    keys = pa.concat_arrays([before, fresh]).sort()
    return Keys(keys, pc.index_in(before, value_set=keys).to_numpy().astype(np.int64))


def pack(
    features: FeatureSet, entity: Entity, keys: Keys, wide: pa.Table, longs: Mapping[Window, pa.Table],
    before: pa.Table | None, day: int,
) -> pa.Table:  # fmt: skip
    """The snapshot of `day`: key and stored columns; nothing to list is a null. `wide` has a row per id, in order.

    Day sets are those of the snapshot `before`, as far as the window still holds them, and the new ones of `wide`.
    """
    n = len(keys.keys)
    assert len(wide) == n, f"{len(wide)} rows for {n} ids"
    made = {KEY[entity]: keys.keys} | {name: wide[name].combine_chunks() for name in wide.column_names}
    for column in wide_columns(features, entity):
        if column.kind == "days" and column.days is not None:
            held = None if before is None else before[column.name].combine_chunks()
            made[column.name] = _united(keys, held, made[column.name], day - column.days)
    for window, long in longs.items():
        row, names = long["id"].to_numpy(), long["by"].combine_chunks()
        order = _order(row, names)
        lengths = np.bincount(row, minlength=n)
        made[_keys_name(features, entity, window)] = _list(lengths, names.take(order))
        for column in count_columns(features, entity, *window):
            made[column.name] = _list(lengths, long[column.name].combine_chunks().take(order))
    return pa.table({name: made[name] for name in [KEY[entity], *(c.name for c in features.stored(entity))]})


def unpack(
    features: FeatureSet, entity: Entity, table: pa.Table, moved: NDArray[np.int64]
) -> tuple[pa.Table, dict[Window, pa.Table]]:
    """What the next snapshot starts from, by its ids: `wide` without day sets, and the counts by key, long."""
    columns = [column.name for column in wide_columns(features, entity) if column.kind != "days"]
    wide = pa.table({"id": pa.array(moved), **{name: table[name] for name in columns}})
    longs = {}
    for window in counted_windows(features, entity):
        names = table[_keys_name(features, entity, window)].combine_chunks()
        long = {"id": pa.array(moved[_parents(names)]), "by": names.flatten()}
        for column in count_columns(features, entity, *window):
            long[column.name] = table[column.name].combine_chunks().flatten()
        longs[window] = pa.table(long)
    return wide, longs


def _united(keys: Keys, before: Any | None, new: Any, first: int) -> Any:
    """Per key the days from `first` on: those held before, then the new ones, which are all later."""
    rows, values = [_parents(new)], [new.flatten().to_numpy()]
    if before is not None:
        rows.insert(0, keys.moved[_parents(before)])
        values.insert(0, before.flatten().to_numpy())
    row, day = np.concatenate(rows), np.concatenate(values)
    kept = day >= first
    row, day = row[kept], day[kept]
    order = np.argsort(row, kind="stable")
    return _list(np.bincount(row, minlength=len(keys.keys)), pa.array(day[order], pa.int64()))


def _parents(lists: Any) -> NDArray[np.int64]:
    """The row of each value."""
    parents: NDArray[np.int64] = pc.list_parent_indices(lists).to_numpy().astype(np.int64, copy=False)
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
