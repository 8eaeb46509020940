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
    """A snapshot: key and stored columns. All tables are ordered by key; a key without counts has null lists."""
    key = KEY[entity]
    made = {name: wide[name].combine_chunks() for name in wide.column_names}
    for window, long in longs.items():
        offsets, missing = _offsets(made[key], long[key].combine_chunks())
        made[_keys_name(features, entity, window)] = _list(offsets, missing, long["by"].combine_chunks())
        for column in count_columns(features, entity, *window):
            made[column.name] = _list(offsets, missing, long[column.name].combine_chunks())
    names = [key, *(column.name for column in features.stored(entity))]
    return pa.table({name: made[name] for name in names})


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


def _offsets(keys: Any, repeated: Any) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Where the list of each key begins, shape (n + 1,), and which keys have none, shape (n,)."""
    row = pc.index_in(repeated, value_set=keys).to_numpy(zero_copy_only=False)
    lengths = np.bincount(row, minlength=len(keys)) if len(row) else np.zeros(len(keys), np.int64)
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int32), lengths == 0


def _list(offsets: NDArray[np.int32], missing: NDArray[np.bool_], values: Any) -> Any:
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(missing))
