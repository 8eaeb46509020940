"""The declarations as Ibis expressions of a day's aggregates, and the columns of a snapshot that are made of them."""

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
