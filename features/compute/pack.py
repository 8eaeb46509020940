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


def pack(features: FeatureSet, entity: Entity, wide: pa.Table, longs: Mapping[Window, pa.Table]) -> pa.Table:
    """A snapshot: key and stored columns. `wide` is ordered by key; a key without counts has null lists."""
    key = KEY[entity]
    made = {name: wide[name].combine_chunks() for name in wide.column_names}
    for window, long in longs.items():
        row = pc.index_in(long[key].combine_chunks(), value_set=made[key]).to_numpy(zero_copy_only=False)
        names = long["by"].combine_chunks()
        order = _order(row.astype(np.int64), names)
        lengths = np.bincount(row.astype(np.int64), minlength=len(wide))
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        made[_keys_name(features, entity, window)] = _list(offsets, lengths == 0, names.take(order))
        for column in count_columns(features, entity, *window):
            made[column.name] = _list(offsets, lengths == 0, long[column.name].combine_chunks().take(order))
    return pa.table({name: made[name] for name in [key, *(column.name for column in features.stored(entity))]})


def unpack(features: FeatureSet, entity: Entity, table: pa.Table) -> tuple[pa.Table, dict[Window, pa.Table]]:
    """The reverse of `pack`."""
    key = KEY[entity]
    wide = table.select([key, *(column.name for column in wide_columns(features, entity))])
    longs = {}
    for window in counted_windows(features, entity):
        keys = table[_keys_name(features, entity, window)].combine_chunks()
        long = {key: table[key].combine_chunks().take(pc.list_parent_indices(keys)), "by": keys.flatten()}
        for column in count_columns(features, entity, *window):
            long[column.name] = table[column.name].combine_chunks().flatten()
        longs[window] = pa.table(long)
    return wide, longs


def _keys_name(features: FeatureSet, entity: Entity, window: Window) -> str:
    return next(c.name for c in features.stored(entity) if c.kind == "keys" and (c.of, c.days) == window)


def _order(row: NDArray[np.int64], names: Any) -> Any:
    """Positions by row, then by name; faster than a sort by two strings."""
    encoded = names.dictionary_encode()
    rank = pc.rank(encoded.dictionary, sort_keys="ascending").to_numpy().astype(np.int64)
    if not len(row):
        return pa.array([], pa.int64())
    return pa.array(np.argsort(row * len(rank) + rank[encoded.indices.to_numpy()] - 1, kind="stable"))


def _list(offsets: NDArray[np.int32], missing: NDArray[np.bool_], values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(missing))
