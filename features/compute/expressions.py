"""The declarations as Ibis expressions: a day's aggregates, and a snapshot from the one before.

A snapshot rolls: the sums of the one before, plus the days since, minus the days that have left each window. Whole
numbers only are added and taken away, so that rolling and summing anew give the same row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import ibis

from features.definitions.dsl import (
    E4,
    Aggregate,
    Count,
    CountBy,
    Days,
    Entity,
    FeatureSet,
    First,
    Last,
    StoredColumn,
    Sum,
    Where,
)
from features.events import US_PER_DAY

Expr = Any  # an Ibis expression
US_PER_HOUR = US_PER_DAY // 24
LARGEST = 9_000_000_000_000_000_000  # sums stop here instead of overflowing
EVENTS = ibis.schema(
    {
        "event_type": "string",
        "customer_id": "string",
        "occurred_us": "int64",
        "offer_id": "string",
        "placement_id": "string",
        "channel": "string",
        "category": "string",
        "value": "decimal(18, 4)",
        "currency": "string",
    }
)
KEY = {"customer": "customer_id", "offer": "offer_id"}
_TYPE = {"sum": "int64", "first": "int64", "last": "int64", "days": "array<int64>", "keys": "array<string>"}


def stored_schema(features: FeatureSet, entity: Entity) -> ibis.Schema:
    """A snapshot's columns: key, stored columns in order, day, time."""
    columns = {c.name: _TYPE.get(c.kind, "array<int64>") for c in features.stored(entity)}
    return ibis.schema({KEY[entity]: "string", **columns})


def weights_schema(features: FeatureSet, entity: Entity) -> ibis.Schema:
    return ibis.schema({"day": "int64", "new": "int64", **{f"w{n}": "int64" for n in spans(features, entity)}})


def spans(features: FeatureSet, entity: Entity) -> list[int]:
    """The lengths of all windows, in whole days before the snapshot."""
    return sorted({c.days for c in features.stored(entity) if c.days is not None})


def key_columns(features: FeatureSet, entity: Entity) -> list[str]:
    """The columns that counts are kept by, in order."""
    return list(dict.fromkeys(a.key for a in features.aggregates(entity).values() if isinstance(a, CountBy)))


def holds(where: Where, events: Expr) -> Expr:
    """`where` as a condition on events; false, never null, where a column that it asks for is null."""
    conditions = [ibis.literal(True)]
    if where.event_types:
        conditions.append(events.event_type.isin(where.event_types))
    if where.has_offer is not None:
        conditions.append(events.offer_id.notnull() == where.has_offer)
    if where.channels:
        conditions.append(events.channel.isin(where.channels).fill_null(False))
    if where.hours is not None:
        of_day = (events.occurred_us % US_PER_DAY + US_PER_DAY) % US_PER_DAY  # also before 1970
        conditions.append(of_day.between(where.hours[0] * US_PER_HOUR, where.hours[1] * US_PER_HOUR - 1))
    return reduce(lambda a, b: a & b, conditions)


def daily(features: FeatureSet, entity: Entity, events: Expr) -> Expr:
    """One day's aggregates: one row per entity with an event that counts, ordered by key."""
    key = KEY[entity]
    made = {
        name: _aggregate(aggregate, events, features.currency)
        for name, aggregate in features.aggregates(entity).items()
        if not isinstance(aggregate, CountBy)
    }
    rows = events.filter(events[key].notnull()).group_by(key).aggregate(**made)
    return rows.filter(_any_of(rows, made)).order_by(key)


def daily_by(features: FeatureSet, entity: Entity, by: str, events: Expr) -> Expr:
    """One day's counts by a column: one row per entity and value, ordered by both."""
    key = KEY[entity]
    counts = {
        name: _int64(holds(a.where, events).sum().fill_null(0))
        for name, a in features.aggregates(entity).items()
        if isinstance(a, CountBy) and a.key == by
    }
    named = events.filter(events[key].notnull() & events[by].notnull())
    if by == key:
        raise ValueError(f"counts of a {entity} by itself")
    rows = named.group_by([key, by]).aggregate(**counts).rename({"key": by})
    return rows.filter(_any_of(rows, counts)).order_by([key, "key"])


def _aggregate(aggregate: Aggregate, events: Expr, currency: str) -> Expr:
    condition = holds(aggregate.where, events)
    match aggregate:
        case Count():
            return _int64(condition.sum().fill_null(0))
        case Sum():
            valued = condition & (events.currency == currency) & events.value.notnull()
            amount = (events.value * E4).cast("decimal(38, 0)")
            return _whole(ibis.cases((valued, amount), else_=None).sum())
        case Last():
            return ibis.cases((condition, events.occurred_us), else_=None).max()
        case First():
            return ibis.cases((condition, events.occurred_us), else_=None).min()
        case Days():
            return _int64(condition.sum().fill_null(0))
        case CountBy():
            raise AssertionError("kept apart, by key")


def _whole(total: Expr) -> Expr:
    """A sum of money as int64; a log full of absurd amounts must not stop the build."""
    return _int64(total.fill_null(0).clip(-LARGEST, LARGEST))


def _int64(total: Expr) -> Expr:
    """DuckDB adds whole numbers up in 128 bits, which Ibis takes for int64: the detour makes it write the cast."""
    return total.cast("decimal(38, 0)").cast("int64")


def _any_of(rows: Expr, names: Mapping[str, Any]) -> Expr:
    return reduce(lambda a, b: a | b, [(rows[name] != 0).fill_null(False) for name in names])


def snapshot(
    features: FeatureSet, entity: Entity, previous: Expr, days: Expr, by: Mapping[str, Expr], weights: Expr, at: Expr
) -> Expr:
    """One row per entity that is known before the snapshot's day, ordered by key, as `stored_schema`.

    `days` and `by` hold the daily aggregates with their day; `weights` says per day how often it counts in each window
    (1 enters, -1 leaves) and, in `new`, whether it lies between the snapshot before and this one; `at` has one row, the
    snapshot's own day.
    """
    key = KEY[entity]
    rows = _rolled(features, entity, previous, days, weights)
    sets = [c for c in features.stored(entity) if c.kind == "days"]
    if sets:
        dated = rows.cross_join(at)
        rows = dated.mutate(**{c.name: _kept_days(dated, c) for c in sets}).drop("at_day")
    for by_key, counts in by.items():
        for span in _spans_by(features, entity, by_key):
            rows = _with_counts(features, entity, rows, previous, counts, weights, by_key, span)
    return rows.select(key, *(c.name for c in features.stored(entity))).order_by(key)


def _rolled(features: FeatureSet, entity: Entity, previous: Expr, days: Expr, weights: Expr) -> Expr:
    """Sums, times and day sets: the snapshot before and the days, united and added up per entity."""
    key = KEY[entity]
    columns = [c for c in features.stored(entity) if c.kind in ("sum", "first", "last", "days")]
    joined = days.inner_join(weights, "day")
    before = previous.select(key, *(c.name for c in columns))
    since = joined.select(key, **{c.name: _contribution(joined, c) for c in columns})
    united = before.union(since)
    money = {name for name, made in features.aggregates(entity).items() if isinstance(made, Sum)}
    return united.group_by(key).aggregate(**{c.name: _merged(united, c, c.of in money) for c in columns})


def _contribution(days: Expr, column: StoredColumn) -> Expr:
    value = days[column.of]
    match column.kind:
        case "sum":
            return value * days[_weight(column)]
        case "days":
            happened = (value != 0) & (days.new == 1)
            return ibis.cases((happened, ibis.array([days.day])), else_=None)
        case _:
            return ibis.cases((days.new == 1, value), else_=None)


def _kept_days(rows: Expr, column: StoredColumn) -> Expr:
    """The days of a set that the longest window still holds, ascending; null if none."""
    held = rows[column.name].filter(lambda day: day >= rows.at_day - column.days)
    return ibis.cases((held.length() > 0, held.sort()), else_=None)


def _weight(column: StoredColumn) -> str:
    return "new" if column.days is None else f"w{column.days}"


def _merged(rows: Expr, column: StoredColumn, money: bool) -> Expr:
    value = rows[column.name]
    match column.kind:
        case "sum":
            return _whole(value.sum()) if money else _int64(value.sum())
        case "first":
            return value.min()
        case "last":
            return value.max()
        case _:
            return value.collect().flatten()


def _spans_by(features: FeatureSet, entity: Entity, by: str) -> list[int]:
    return [c.days for c in features.stored(entity) if c.kind == "keys" and c.of == by and c.days is not None]


def _with_counts(
    features: FeatureSet, entity: Entity, rows: Expr, previous: Expr, days: Expr, weights: Expr, by: str, span: int
) -> Expr:
    """`rows` with the counts by one column over one window."""
    key = KEY[entity]
    keys_name, counts = counted(features, entity, by, span)
    listed = previous.filter(previous[keys_name].length() > 0)
    entry = listed[keys_name].zip(*(listed[c.name] for c in counts)).unnest()
    entries = listed.select(key, entry=entry)
    before = entries.select(
        key, key_=entries.entry["f1"], **{c.name: entries.entry[f"f{n}"] for n, c in enumerate(counts, start=2)}
    )
    joined = days.inner_join(weights.filter(weights[f"w{span}"] != 0), "day")
    since = joined.select(key, key_=joined.key, **{c.name: joined[c.of] * joined[f"w{span}"] for c in counts})
    united = before.union(since)
    summed = united.group_by([key, "key_"]).aggregate(**{c.name: _int64(united[c.name].sum()) for c in counts})
    kept = summed.filter(_any_of(summed, {c.name: None for c in counts}))
    packed = kept.select(key, "key_", item=ibis.struct({"k": kept.key_, **{c.name: kept[c.name] for c in counts}}))
    lists = packed.group_by(key).aggregate(items=packed["item"].collect(order_by=packed.key_))
    unpacked = lists.select(
        key,
        **{keys_name: lists["items"].map(lambda item: item["k"])},
        **{c.name: lists["items"].map(lambda item, name=c.name: item[name]) for c in counts},
    )
    return rows.left_join(unpacked, key).drop(f"{key}_right")


def counted(features: FeatureSet, entity: Entity, by: str, span: int) -> tuple[str, list[StoredColumn]]:
    """The name of a keys column, and the counts columns parallel to it."""
    known = features.aggregates(entity)
    columns = features.stored(entity)
    keys = next(c.name for c in columns if c.kind == "keys" and c.of == by and c.days == span)
    counts = [
        c
        for c in columns
        if c.kind == "counts" and c.days == span and isinstance(a := known[c.of], CountBy) and a.key == by
    ]
    return keys, counts
