"""A snapshot from the one before: plus the days since, minus the days that have left each window, as arrays.

Whole numbers only are added and taken away, so that rolling and summing anew give the same row. A day's aggregates hold
an entity once, so that a day is added at its rows, without grouping or joining anything again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.compute.expressions import KEY, count_columns, counted_windows, wide_columns
from features.definitions.dsl import Entity, FeatureSet, StoredColumn

Window: TypeAlias = tuple[str, int]  # (column counted by, whole days)
Whole: TypeAlias = NDArray[np.int64]
LARGEST = 9_000_000_000_000_000_000  # sums stop here instead of overflowing
NEVER = {"first": np.iinfo(np.int64).max, "last": np.iinfo(np.int64).min}  # in place of a time that is missing


class Keys(NamedTuple):
    """Strings in order, each once; a position stands for its key."""

    keys: Any  # (n,) strings
    moved: Whole  # (n before,): where what was there before is now


class Part(NamedTuple):
    """One day of one table of daily aggregates."""

    day: int  # since 1970
    weights: Mapping[str, int]  # as `weights_schema`
    row: Whole  # (n,) positions among the snapshot's keys
    table: pa.Table  # (n,)


@dataclass(frozen=True, slots=True)
class DaySet:
    """Per key the days on which it happened, ascending."""

    lengths: Whole  # (n_keys,)
    days: Whole  # (lengths.sum(),)


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts by one column over one window: a row per key and value, ordered by both, none of them all 0."""

    row: Whole  # (n,) positions among the snapshot's keys
    name: Whole  # (n,) positions among `names`
    names: Any  # (n_names,) strings in order, each once
    counts: Mapping[str, Whole]  # by stored column, (n,)


@dataclass(frozen=True, slots=True)
class Rolling:
    """A snapshot as arrays, along its keys."""

    keys: Any  # (n_keys,) strings in order, each once
    numbers: Mapping[str, Whole]  # sums, first and last times by stored column, (n_keys,)
    day_sets: Mapping[str, DaySet]
    counted: Mapping[Window, Counted]

    def moved(self, keys: Keys, features: FeatureSet, entity: Entity) -> Rolling:
        """The same among more keys."""
        n = len(keys.keys)
        numbers = {c.name: _spread(self.numbers[c.name], keys.moved, n, _nothing(c)) for c in _plain(features, entity)}
        day_sets = {name: DaySet(_spread(of.lengths, keys.moved, n, 0), of.days) for name, of in self.day_sets.items()}
        counted = {
            window: Counted(keys.moved[of.row], of.name, of.names, of.counts) for window, of in self.counted.items()
        }
        return Rolling(keys.keys, numbers, day_sets, counted)


def keys_of(before: Any | None, new: Sequence[Any]) -> Keys:
    """Those before, which are in order, and those of the new chunks."""
    found = pc.unique(pa.chunked_array(new, pa.string()).combine_chunks()) if new else pa.array([], pa.string())
    if before is None:
        return Keys(found.sort(), np.zeros(0, np.int64))
    fresh = found.filter(pc.is_null(pc.index_in(found, value_set=before)))
    if not len(fresh):
        return Keys(before, np.arange(len(before)))
    keys = pa.concat_arrays([before, fresh]).sort()
    return Keys(keys, pc.index_in(before, value_set=keys).to_numpy().astype(np.int64))


def nothing_known(features: FeatureSet, entity: Entity) -> Rolling:
    """Before the first day."""
    none, nobody = np.zeros(0, np.int64), pa.array([], pa.string())
    return Rolling(
        nobody,
        {column.name: none for column in _plain(features, entity)},
        {column.name: DaySet(none, none) for column in _day_sets(features, entity)},
        {
            window: Counted(none, none, nobody, {c.name: none for c in count_columns(features, entity, *window)})
            for window in counted_windows(features, entity)
        },
    )


def rolled(
    features: FeatureSet, entity: Entity, before: Rolling, parts: Mapping[str, Sequence[Part]], day: int
) -> Rolling:
    """The snapshot of `day`; `parts` are the days that enter or leave, by table of daily aggregates, in order.

    `before` has every key already. Days may come in several calls, as long as they come in order.
    """
    n, wide = len(before.keys), parts[entity]
    numbers = {c.name: _number(c, before.numbers[c.name], wide) for c in _plain(features, entity)}
    day_sets = {
        c.name: _united(before.day_sets[c.name], [(p.row[_happened(p, c)], p.day) for p in wide if p.weights["new"]],
                        n, day - (c.days or 0))
        for c in _day_sets(features, entity)
    }  # fmt: skip
    counted = {
        (by, span): _counted(
            before.counted[by, span],
            [part for part in parts[f"{entity}_by_{by}"] if part.weights[f"w{span}"]],
            {c.name: c.of for c in count_columns(features, entity, by, span)},
            f"w{span}",
        )
        for by, span in counted_windows(features, entity)
    }
    return Rolling(before.keys, numbers, day_sets, counted)


def rows_of(keys: Any, tables: Sequence[pa.Table], entity: Entity) -> list[Whole]:
    """Of daily tables, the positions among the snapshot's keys, looked up together."""
    chunks = [chunk for table in tables for chunk in table[KEY[entity]].chunks]
    found = pc.index_in(pa.chunked_array(chunks, pa.string()), value_set=keys).to_numpy().astype(np.int64)
    ends = np.cumsum([len(table) for table in tables])
    return np.split(found, ends[:-1])


def _plain(features: FeatureSet, entity: Entity) -> list[StoredColumn]:
    return [column for column in wide_columns(features, entity) if column.kind != "days"]


def _day_sets(features: FeatureSet, entity: Entity) -> list[StoredColumn]:
    return [column for column in wide_columns(features, entity) if column.kind == "days"]


def _nothing(column: StoredColumn) -> int:
    return NEVER.get(column.kind, 0)


def _spread(values: Whole, moved: Whole, n: int, nothing: int) -> Whole:
    if len(moved) == n:
        return values
    out = np.full(n, nothing, np.int64)
    out[moved] = values
    return out


def _number(column: StoredColumn, before: Whole, parts: Sequence[Part]) -> Whole:
    if column.kind == "sum":
        return _sum(column, before, parts)
    out, better = before.copy(), np.minimum if column.kind == "first" else np.maximum
    for part in parts:
        if part.weights["new"]:
            out[part.row] = better(out[part.row], numbers_of(part.table[column.of], NEVER[column.kind]))
    return out


def _sum(column: StoredColumn, before: Whole, parts: Sequence[Part]) -> Whole:
    """Exact, then cut off at the limit; whole numbers without limit where 64 bits might not do."""
    weight = "new" if column.days is None else f"w{column.days}"
    changes = [
        (part.row, part.weights[weight] * numbers_of(part.table[column.of], 0))
        for part in parts
        if part.weights[weight]
    ]
    if not changes:
        return before
    largest = sum(_largest(values) for _, values in changes) + _largest(before)
    out: NDArray[Any] = before.copy() if largest <= LARGEST else before.astype(object)
    for row, values in changes:
        out[row] += values
    return out if out.dtype == np.int64 else np.clip(out, -LARGEST, LARGEST).astype(np.int64)


def _largest(values: Whole) -> int:
    return max(abs(int(values.max())), abs(int(values.min()))) if len(values) else 0


def numbers_of(column: Any, missing: int) -> Whole:
    """A column of whole numbers, with another number where there is none."""
    filled = pc.fill_null(column, missing) if column.null_count else column
    found: Whole = filled.to_numpy().astype(np.int64, copy=False)
    return found


def _happened(part: Part, column: StoredColumn) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = numbers_of(part.table[column.of], 0) != 0
    return found


def _united(before: DaySet, new: Sequence[tuple[Whole, int]], n: int, first: int) -> DaySet:
    """Per key the days from `first` on: those held before, then the new ones, which are all later."""
    kept = before.days >= first
    lengths = before.lengths
    if not kept.all():
        owner = np.repeat(np.arange(n), lengths)[kept]
        lengths = np.bincount(owner, minlength=n)
    days = before.days[kept]
    for row, day in new:
        if day < first:
            continue
        added = np.zeros(n, np.int64)
        added[row] = 1
        ends = np.cumsum(lengths + added)  # of each key's days, after the new one
        out = np.full(int(ends[-1]) if n else 0, day, np.int64)
        held = np.ones(len(out), np.bool_)
        held[ends[added == 1] - 1] = False
        out[held] = days
        lengths, days = lengths + added, out
    return DaySet(lengths, days)


def _counted(before: Counted, parts: Sequence[Part], columns: Mapping[str, str], weight: str) -> Counted:
    """What is counted before, with the days that enter or leave; `columns` are daily ones by stored name."""
    if not parts:
        return before
    by = [part.table["by"].combine_chunks().dictionary_encode() for part in parts]
    names = keys_of(before.names, [one.dictionary for one in by])
    of_day = [pc.index_in(one.dictionary, value_set=names.keys).to_numpy()[one.indices.to_numpy()] for one in by]
    n_names = max(len(names.keys), 1)
    code = before.row * n_names + names.moved[before.name]
    changed = np.concatenate([part.row * n_names + name for part, name in zip(parts, of_day, strict=True)])
    order = np.argsort(changed, kind="stable")
    ordered = changed[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    each = ordered[starts]
    at = np.searchsorted(code, each)
    known = np.zeros(len(each), np.bool_)
    known[at < len(code)] = code[at[at < len(code)]] == each[at < len(code)]
    counts = {}
    for stored, daily in columns.items():
        weighted = np.concatenate([part.weights[weight] * numbers_of(part.table[daily], 0) for part in parts])
        change = np.add.reduceat(weighted[order], starts) if len(starts) else weighted
        count = before.counts[stored].copy()
        count[at[known]] += change[known]
        counts[stored] = np.insert(count, at[~known], change[~known])
    code = np.insert(code, at[~known], each[~known])
    there = np.any([count != 0 for count in counts.values()], axis=0)
    if not there.all():
        code, counts = code[there], {stored: count[there] for stored, count in counts.items()}
    row, name = np.divmod(code, n_names)
    return Counted(row, name, names.keys, counts)
