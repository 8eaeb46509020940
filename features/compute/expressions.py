"""The declarations as Ibis expressions: a day's aggregates, and a snapshot from the one before.

A snapshot rolls: the sums of the one before, plus the days since, minus the days that have left each window. Whole
numbers only are added and taken away, so that rolling and summing anew give the same row. Counts by key are kept long
here, and of day sets only what is new; `pack.py` makes lists of them.
"""

from __future__ import annotations

from collections.abc import Sequence
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
WIDE = ("sum", "first", "last", "days")


def wide_schema(features: FeatureSet, entity: Entity) -> ibis.Schema:
    """What `rolled` starts from: id, and the columns that are neither day sets nor counts by key."""
    columns = {c.name: "int64" for c in wide_columns(features, entity) if c.kind != "days"}
    return ibis.schema({"id": "int64", **columns})


def long_schema(features: FeatureSet, entity: Entity, by: str, span: int) -> ibis.Schema:
    """What `counted` starts from and gives: id, the value counted by, and the counts."""
    columns = {c.name: "int64" for c in count_columns(features, entity, by, span)}
    return ibis.schema({"id": "int64", "by": "string", **columns})


def ids_schema(entity: Entity) -> ibis.Schema:
    """The entities of a snapshot, numbered from 0 in order of their keys: numbers are joined faster than texts."""
    return ibis.schema({"id": "int64", KEY[entity]: "string"})


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
    """One day's aggregates: one row per entity with an event, ordered by key."""
    key = KEY[entity]
    made = {
        name: _aggregate(aggregate, events, features.currency)
        for name, aggregate in features.aggregates(entity).items()
        if not isinstance(aggregate, CountBy)
    }
    return events.filter(events[key].notnull()).group_by(key).aggregate(**made).order_by(key)


def daily_by(features: FeatureSet, entity: Entity, by: str, events: Expr) -> Expr:
    """One day's counts by a column: one row per entity and value, ordered by both."""
    key = KEY[entity]
    counts = {
        name: _counted(holds(a.where, events))
        for name, a in features.aggregates(entity).items()
        if isinstance(a, CountBy) and a.key == by
    }
    named = events.filter(events[key].notnull() & events[by].notnull())
    if by == key:
        raise ValueError(f"counts of a {entity} by itself")
    rows = named.group_by([key, by]).aggregate(**counts).rename({"by": by})
    return rows.filter(_any_of(rows, list(counts))).order_by([key, "by"])


def _aggregate(aggregate: Aggregate, events: Expr, currency: str) -> Expr:
    condition = holds(aggregate.where, events)
    match aggregate:
        case Count():
            return _counted(condition)
        case Sum():
            valued = condition & (events.currency == currency) & events.value.notnull()
            total = ibis.cases((valued, events.value), else_=None).sum().cast("decimal(38, 4)")
            return _whole((total * E4).cast("decimal(38, 0)"))
        case Last():
            return ibis.cases((condition, events.occurred_us), else_=None).max()
        case First():
            return ibis.cases((condition, events.occurred_us), else_=None).min()
        case Days():
            return _counted(condition)
        case CountBy():
            raise AssertionError("kept apart, by key")


def _counted(numbers: Expr) -> Expr:
    """A sum of counts as int64. Exact and the same in any order: whole numbers this small are exact as floats.

    DuckDB adds integers up in 128 bits, which costs more, and which Ibis takes for int64.
    """
    return numbers.cast("int64").cast("float64").sum().fill_null(0.0).cast("int64")


def _whole(total: Expr) -> Expr:
    """A sum of money as int64; a log full of absurd amounts must not stop the build."""
    return total.fill_null(0).clip(-LARGEST, LARGEST).cast("decimal(38, 0)").cast("int64")


def _any_of(rows: Expr, names: Sequence[str]) -> Expr:
    return reduce(lambda a, b: a | b, [(rows[name] != 0).fill_null(False) for name in names])


def rolled(features: FeatureSet, entity: Entity, previous: Expr, days: Expr, weights: Expr, ids: Expr) -> Expr:
    """Per id, in order: sums and times of everything before the snapshot's day, and the new days of day sets.

    `previous` is the snapshot before, or empty, as `wide_schema`; `days` holds daily aggregates with their day;
    `weights` says how often each day counts in each window (1 enters, -1 leaves) and, in `new`, whether it lies between
    the snapshot before and this one; `ids` holds everyone in either.
    """
    columns = wide_columns(features, entity)
    money = {name for name, made in features.aggregates(entity).items() if isinstance(made, Sum)}
    joined = days.inner_join(weights, "day").inner_join(ids, KEY[entity])
    change = joined.group_by("id").aggregate(**{_new(c): _change(joined, c, c.of in money) for c in columns})
    both = previous.outer_join(change.rename({_new("id"): "id"}), [("id", _new("id"))])
    rows = both.select(
        id=ibis.coalesce(both["id"], both[_new("id")]), **{c.name: _merged(both, c, c.of in money) for c in columns}
    )
    return rows.order_by("id")


def counted(
    features: FeatureSet, entity: Entity, by: str, span: int, previous: Expr, days: Expr, weights: Expr, ids: Expr
) -> Expr:
    """Counts by one column over one window, as `long_schema`, in no order; rows that are all 0 are left out."""
    columns = count_columns(features, entity, by, span)
    joined = days.inner_join(weights.filter(weights[f"w{span}"] != 0), "day").inner_join(ids, KEY[entity])
    change = joined.group_by(["id", "by"]).aggregate(**{_new(c): _change(joined, c, money=False) for c in columns})
    renamed = change.rename({_new(name): name for name in ("id", "by")})
    both = previous.outer_join(renamed, [(name, _new(name)) for name in ("id", "by")])
    rows = both.select(
        **{name: ibis.coalesce(both[name], both[_new(name)]) for name in ("id", "by")},
        **{c.name: _merged(both, c, money=False) for c in columns},
    )
    return rows.filter(_any_of(rows, [c.name for c in columns]))


def wide_columns(features: FeatureSet, entity: Entity) -> list[StoredColumn]:
    """The stored columns that are not counts by key."""
    return [c for c in features.stored(entity) if c.kind in WIDE]


def count_columns(features: FeatureSet, entity: Entity, by: str, span: int) -> list[StoredColumn]:
    """The counts by one column over one window."""
    known = features.aggregates(entity)
    counts = [c for c in features.stored(entity) if c.kind == "counts" and c.days == span]
    return [c for c in counts if isinstance(a := known[c.of], CountBy) and a.key == by]


def counted_windows(features: FeatureSet, entity: Entity) -> list[tuple[str, int]]:
    """(column, span) of everything that is counted by key, in order."""
    return [(c.of, c.days) for c in features.stored(entity) if c.kind == "keys" and c.days is not None]


def _new(column: StoredColumn | str) -> str:
    return f"new_{column if isinstance(column, str) else column.name}"


def _change(days: Expr, column: StoredColumn, money: bool) -> Expr:
    """What the days that enter or leave change in one column."""
    value = days[column.of]
    match column.kind:
        case "sum" | "counts":
            weighted = value * days["new" if column.days is None else f"w{column.days}"]
            return weighted.sum().cast("decimal(38, 0)") if money else _counted(weighted)
        case "first":
            return value.min(where=days.new == 1)
        case "last":
            return value.max(where=days.new == 1)
        case _:
            return days.day.collect(where=(value != 0) & (days.new == 1), order_by=days.day)


def _merged(both: Expr, column: StoredColumn, money: bool) -> Expr:
    """The snapshot before with what has changed; of a day set only what is new, `pack.py` unites them."""
    after = both[_new(column)]
    match column.kind:
        case "sum" | "counts":
            before = both[column.name].fill_null(0)
            return _whole(before.cast("decimal(38, 0)") + after.fill_null(0)) if money else before + after.fill_null(0)
        case "first":
            return ibis.coalesce(ibis.least(both[column.name], after), both[column.name], after)
        case "last":
            return ibis.coalesce(ibis.greatest(both[column.name], after), both[column.name], after)
        case _:
            return after
