"""Between a snapshot's arrays and its table: day sets and counts by key as lists, those of one window parallel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.compute.expressions import KEY, count_columns, counted_windows, wide_columns
from features.compute.roll import NEVER, Counted, DaySet, Rolling, Window, keys_of, numbers_of
from features.definitions.dsl import Entity, FeatureSet


def pack(features: FeatureSet, entity: Entity, of: Rolling) -> pa.Table:
    """Key and stored columns, a row per key in order; nothing to list, and a time that never was, is a null."""
    n = len(of.keys)
    made = {KEY[entity]: of.keys}
    for column in wide_columns(features, entity):
        if column.kind == "days":
            held = of.day_sets[column.name]
            made[column.name] = _list(held.lengths, pa.array(held.days))
        elif column.kind in NEVER:
            values = of.numbers[column.name]
            made[column.name] = pa.array(values, mask=values == NEVER[column.kind])
        else:
            made[column.name] = pa.array(of.numbers[column.name])
    for window, counted in of.counted.items():
        lengths = np.bincount(counted.row, minlength=n)
        made[_keys_name(features, entity, window)] = _list(lengths, counted.names.take(pa.array(counted.name)))
        for name, counts in counted.counts.items():
            made[name] = _list(lengths, pa.array(counts))
    return pa.table({name: made[name] for name in [KEY[entity], *(c.name for c in features.stored(entity))]})


def unpack(features: FeatureSet, entity: Entity, table: pa.Table) -> Rolling:
    """What `pack` was given."""
    numbers, day_sets, counted = {}, {}, {}
    for column in wide_columns(features, entity):
        values = table[column.name].combine_chunks()
        if column.kind == "days":
            day_sets[column.name] = DaySet(_lengths(values), _whole(values.flatten()))
        else:
            numbers[column.name] = numbers_of(values, NEVER.get(column.kind, 0))
    for window in counted_windows(features, entity):
        lists = table[_keys_name(features, entity, window)].combine_chunks()
        names = keys_of(None, [lists.flatten()]).keys
        counted[window] = Counted(
            np.repeat(np.arange(len(lists)), _lengths(lists)),
            _whole(pc.index_in(lists.flatten(), value_set=names)),
            names,
            {
                c.name: _whole(table[c.name].combine_chunks().flatten())
                for c in count_columns(features, entity, *window)
            },
        )
    return Rolling(table[KEY[entity]].combine_chunks(), numbers, day_sets, counted)


def _keys_name(features: FeatureSet, entity: Entity, window: Window) -> str:
    return next(c.name for c in features.stored(entity) if c.kind == "keys" and (c.of, c.days) == window)


def _lengths(lists: Any) -> NDArray[np.int64]:
    return _whole(pc.fill_null(pc.list_value_length(lists), 0))


def _whole(values: Any) -> NDArray[np.int64]:
    found: NDArray[np.int64] = values.to_numpy().astype(np.int64, copy=False)
    return found


def _list(lengths: NDArray[np.int64], values: Any) -> Any:
    """Consecutive lists of these lengths; null where the length is 0."""
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(lengths == 0))
