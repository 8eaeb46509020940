"""One customer's features at an instant: the stored whole days, plus what happened since, by the same declarations.

Serving asks for one customer (`features_of`), training for many instants (`feature_table`); both run the same code.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.definitions import dsl
from features.definitions.dsl import (
    E4,
    Aggregate,
    Count,
    CountBy,
    Days,
    Entity,
    Feature,
    FeatureSet,
    First,
    Last,
    Sum,
)
from features.definitions.profile import attribute_value
from features.events import US_PER_DAY
from features.log import LogEvent
from features.profile import Profile

US_PER_HOUR = 3_600_000_000
ROWS_PER_BLOCK = 20_000
Value: TypeAlias = float | str | dict[str, float] | None
Counts: TypeAlias = dict[str, float]
Numbers: TypeAlias = NDArray[np.float64]


class StoredRow(NamedTuple):
    """One entity's row of a snapshot: values in the order of `FeatureSet.stored`, None where there is none."""

    columns: Sequence[Any]
    as_of_us: int  # the snapshot covers what happened before this instant


class Instant(NamedTuple):
    """All that is known of one customer at one moment."""

    stored: StoredRow | None
    recent: Sequence[LogEvent]  # what `stored` does not hold
    attributes: Sequence[float | str | None]  # in the order of the profile family's features
    now_us: int


def features_of(
    feature_set: FeatureSet,
    stored: StoredRow | None,
    recent: Sequence[LogEvent],
    profile: Profile | None,
    now_us: int,
) -> dict[str, Value]:
    """All customer features by name. `recent` is what `stored` does not hold; every event of it counts.

    An event a little ahead of the clock counts as today's. Stored parts past a feature's time to live are not read.
    """
    plan = _plan(feature_set, "customer")
    known = profile.attributes if profile is not None else {}
    attributes = [attribute_value(kind, known.get(name)) for name, kind in plan.attributes]
    return _one(plan, Instant(stored, recent, attributes, now_us))


def offer_features_of(feature_set: FeatureSet, stored: StoredRow | None, now_us: int) -> dict[str, Value]:
    """All offer features by name; the defaults for an offer that nobody has seen."""
    return _one(_plan(feature_set, "offer"), Instant(stored, (), (), now_us))


def feature_table(feature_set: FeatureSet, entity: Entity, instants: Iterable[Instant]) -> dict[str, NDArray[Any]]:
    """One array per feature, in feature order: float64 for numbers, objects for categories and mappings."""
    plan = _plan(feature_set, entity)
    blocks = []
    rows = iter(instants)
    while block := list(islice(rows, ROWS_PER_BLOCK)):
        blocks.append(_block(plan, block))
    if not blocks:
        blocks.append(_block(plan, []))
    return {
        feature.name: np.concatenate([block[feature.name] for block in blocks]) for feature in feature_set.of(entity)
    }


def _one(plan: _Plan, instant: Instant) -> dict[str, Value]:
    state = _state(plan, instant)
    numbers = _numbers(
        plan, np.array([state.sums]), np.array([state.times]), np.array([state.sizes]), np.array([state.told]),
        np.array([instant.now_us], np.float64),
    )  # fmt: skip
    found: dict[str, Value] = dict(zip(plan.number_names, numbers[0].tolist(), strict=True))
    found.update(zip(plan.object_names, state.objects, strict=True))
    expired = _expired(plan, instant)
    if expired:
        fresh = _one(plan, instant._replace(stored=None))
        found.update((name, fresh[name]) for name in expired)
    return found


def _block(plan: _Plan, block: Sequence[Instant]) -> dict[str, NDArray[Any]]:
    n = len(block)
    states = [_state(plan, instant) for instant in block]
    now_us = np.array([instant.now_us for instant in block], np.float64)
    numbers = _numbers(
        plan,
        np.array([state.sums for state in states], np.float64).reshape(n, len(plan.sum_columns)),
        np.array([state.times for state in states], np.float64).reshape(n, len(plan.time_columns)),
        np.array([state.sizes for state in states], np.float64).reshape(n, len(plan.size_names)),
        np.array([state.told for state in states], np.float64).reshape(n, len(plan.told)),
        now_us,
    )
    found: dict[str, NDArray[Any]] = {name: numbers[:, at].copy() for at, name in enumerate(plan.number_names)}
    for at, name in enumerate(plan.object_names):
        column = np.empty(n, object)
        column[:] = [state.objects[at] for state in states]
        found[name] = column
    for row, instant in enumerate(block):
        expired = _expired(plan, instant)
        if expired:
            fresh = _one(plan, instant._replace(stored=None))
            for name in expired:
                found[name][row] = fresh[name]
    return found


def _expired(plan: _Plan, instant: Instant) -> Sequence[str]:
    """The features whose stored part is too old to be read."""
    if instant.stored is None:
        return ()
    age_us = instant.now_us - instant.stored.as_of_us
    if age_us <= plan.shortest_ttl_us:
        return ()
    return [name for name, ttl_us in plan.ttl_us if age_us > ttl_us]


# What a feature set needs, worked out once


class _Keyed(NamedTuple):
    """One CountBy over one window."""

    days: int
    keys_at: int  # stored columns; -1 if nothing is stored
    counts_at: int


class _Part(NamedTuple):
    """What one aggregate of one event changes."""

    kind: type
    slots: tuple[tuple[int, int | None], ...]  # (slot, days) of sums and keyed counts; slot of times and day sets
    key: str = ""  # field of the event, for CountBy


@dataclass(frozen=True, slots=True)
class _Plan:
    sum_columns: tuple[int, ...]  # per sum slot: its stored column, -1 if nothing is stored
    time_columns: tuple[int, ...]  # per time slot
    day_columns: tuple[int, ...]  # per day-set slot
    keyed: tuple[_Keyed, ...]
    active: tuple[tuple[int, int], ...]  # (day-set slot, days) per ActiveDays feature
    measures: tuple[tuple[Callable[[Counts], float], int], ...]  # per Size and Diversity feature: function, keyed slot
    objects: tuple[tuple[Callable[[Counts], Value] | None, int], ...]  # function, keyed slot; None: attribute at slot
    told: tuple[tuple[int, bool], ...]  # numeric attributes: position, whether a time
    attributes: tuple[tuple[str, Any], ...]  # (attribute, kind) of all
    number_names: tuple[str, ...]  # totals, shares, smoothed, ages, sizes, told
    size_names: tuple[str, ...]
    object_names: tuple[str, ...]
    total_from: NDArray[np.intp]
    total_unit: Numbers
    share_of: NDArray[np.intp]
    share_by: NDArray[np.intp]
    share_unit: Numbers
    share_default: Numbers
    smooth_of: NDArray[np.intp]
    smooth_by: NDArray[np.intp]
    smooth_unit: Numbers
    smooth_add: Numbers
    smooth_weight: Numbers
    age_from: NDArray[np.intp]
    age_default: Numbers
    told_is_time: NDArray[np.bool_]
    aggregates: tuple[tuple[Aggregate, _Part], ...]
    channels: frozenset[str]  # those that a predicate names
    currency: str
    ttl_us: tuple[tuple[str, float], ...]
    shortest_ttl_us: float
    matched: dict[tuple[str, bool, str | None, int], tuple[_Part, ...]]  # a cache, bounded by types, channels and hours


@lru_cache(maxsize=64)
def _plan(feature_set: FeatureSet, entity: Entity) -> _Plan:
    features = feature_set.of(entity)
    known = feature_set.aggregates(entity)
    column_at = {column.name: at for at, column in enumerate(feature_set.stored(entity))}
    slots = _Slots(feature_set, entity, column_at)

    totals = [f for f in features if isinstance(f.value, dsl.Total)]
    shares = [f for f in features if isinstance(f.value, dsl.Share)]
    smoothed = [f for f in features if isinstance(f.value, dsl.Smoothed)]
    ages = [f for f in features if isinstance(f.value, dsl.Age)]
    active = [f for f in features if isinstance(f.value, dsl.ActiveDays)]
    measured = [f for f in features if isinstance(f.value, dsl.Size | dsl.Diversity)]
    attributes = [f for f in features if isinstance(f.value, dsl.Attribute)]
    told = [(at, f) for at, f in enumerate(attributes) if f.kind == "number"]
    objects = [f for f in features if f.kind in ("keyed", "category")]
    unit = {name: float(E4) if isinstance(made, Sum) else 1.0 for name, made in known.items()}

    def at(of: Sequence[Feature], role: str) -> NDArray[np.intp]:
        return np.array([slots.sum(_role(f, role), _role(f, "days")) for f in of], np.intp)

    def units(of: Sequence[Feature], role: str) -> Numbers:
        return np.array([unit[_role(f, role)] for f in of], np.float64)

    total_from, share_of, share_by = at(totals, "of"), at(shares, "of"), at(shares, "by")
    smooth_of, smooth_by = at(smoothed, "of"), at(smoothed, "by")
    age_from = np.array([slots.time(_role(f, "of")) for f in ages], np.intp)
    active_at = tuple((slots.day_set(_role(f, "of")), _role(f, "days")) for f in active)
    measures = tuple((_MEASURES[type(f.value)], slots.key(_role(f, "of"), _role(f, "days"))) for f in measured)
    object_at = tuple(_object_slot(f, attributes, slots) for f in objects)
    ttl_us = tuple((f.name, f.ttl_days * US_PER_DAY if f.ttl_days else math.inf) for f in features)
    of_attributes = {f.name for f in attributes}
    return _Plan(
        sum_columns=tuple(slots.sums.values()),
        time_columns=tuple(slots.times.values()),
        day_columns=tuple(slots.day_sets.values()),
        keyed=tuple(slots.keyed.values()),
        active=active_at,
        measures=measures,
        objects=object_at,
        told=tuple((position, isinstance(f.value, dsl.Attribute) and f.value.of == "time") for position, f in told),
        attributes=tuple((f.value.name, f.value.of) for f in attributes if isinstance(f.value, dsl.Attribute)),
        number_names=tuple(
            f.name for f in (*totals, *shares, *smoothed, *ages, *active, *measured, *(f for _, f in told))
        ),
        size_names=tuple(f.name for f in (*active, *measured)),
        object_names=tuple(f.name for f in objects),
        total_from=total_from,
        total_unit=units(totals, "of"),
        share_of=share_of,
        share_by=share_by,
        share_unit=units(shares, "of") / units(shares, "by"),
        share_default=np.array([f.missing for f in shares], np.float64),
        smooth_of=smooth_of,
        smooth_by=smooth_by,
        smooth_unit=units(smoothed, "of"),
        smooth_add=np.array([f.value.prior * f.value.weight for f in smoothed if isinstance(f.value, dsl.Smoothed)]),
        smooth_weight=np.array([f.value.weight for f in smoothed if isinstance(f.value, dsl.Smoothed)]),
        age_from=age_from,
        age_default=np.array([f.missing for f in ages], np.float64),
        told_is_time=np.array([isinstance(f.value, dsl.Attribute) and f.value.of == "time" for _, f in told], bool),
        aggregates=tuple((made, slots.part(name, made)) for name, made in known.items()),
        channels=frozenset(channel for made in known.values() for channel in made.where.channels),
        currency=feature_set.currency,
        ttl_us=tuple((name, ttl) for name, ttl in ttl_us if name not in of_attributes),
        shortest_ttl_us=min((ttl for name, ttl in ttl_us if name not in of_attributes), default=math.inf),
        matched={},
    )


def _role(feature: Feature, name: str) -> Any:
    return getattr(feature.value, name)


class _Slots:
    """Where the parts of a customer's state are kept, given out as features ask for them."""

    def __init__(self, feature_set: FeatureSet, entity: Entity, column_at: Mapping[str, int]) -> None:
        self._set, self._entity, self._column_at = feature_set, entity, column_at
        self._known = feature_set.aggregates(entity)
        self._stored = {(c.kind, c.of, c.days): column_at[c.name] for c in feature_set.stored(entity)}
        self.sums: dict[tuple[str, int | None], int] = {}
        self.times: dict[str, int] = {}
        self.day_sets: dict[str, int] = {}
        self.keyed: dict[tuple[str, int], _Keyed] = {}

    def sum(self, of: str, days: int | None) -> int:
        whole = self._set.whole_days(self._entity, days)
        self.sums.setdefault((of, days), self._stored.get(("sum", of, whole), -1))
        return list(self.sums).index((of, days))

    def time(self, of: str) -> int:
        kind: dsl.StoredKind = "last" if isinstance(self._known[of], Last) else "first"
        self.times.setdefault(of, self._stored[(kind, of, None)])
        return list(self.times).index(of)

    def day_set(self, of: str) -> int:
        at = [position for (kind, name, _), position in self._stored.items() if kind == "days" and name == of]
        self.day_sets.setdefault(of, at[0] if at else -1)
        return list(self.day_sets).index(of)

    def key(self, of: str, days: int) -> int:
        made = self._known[of]
        assert isinstance(made, CountBy)
        whole = self._set.whole_days(self._entity, days)
        keys_at = self._stored.get(("keys", made.key, whole), -1)
        self.keyed.setdefault((of, days), _Keyed(days, keys_at, self._stored.get(("counts", of, whole), -1)))
        return list(self.keyed).index((of, days))

    def part(self, name: str, made: Aggregate) -> _Part:
        match made:
            case Count() | Sum():
                return _Part(type(made), tuple((at, d) for at, (of, d) in enumerate(self.sums) if of == name))
            case CountBy(key=key):
                return _Part(CountBy, tuple((at, d) for at, (of, d) in enumerate(self.keyed) if of == name), key)
            case Days():
                return _Part(Days, tuple((at, None) for at, of in enumerate(self.day_sets) if of == name))
            case _:
                return _Part(type(made), tuple((at, None) for at, of in enumerate(self.times) if of == name))


def _object_slot(
    feature: Feature, attributes: Sequence[Feature], slots: _Slots
) -> tuple[Callable[[Counts], Value] | None, int]:
    value = feature.value
    if isinstance(value, dsl.Attribute):
        return None, list(attributes).index(feature)
    assert isinstance(value, dsl.ByKey | dsl.Favourite)
    return (_as_is if isinstance(value, dsl.ByKey) else _favourite), slots.key(value.of, value.days)


# Measures of a mapping from key to count


def _as_is(counts: Counts) -> Value:
    return counts


def _favourite(counts: Counts) -> str | None:
    return min(counts, key=lambda key: (-counts[key], key)) if counts else None


def _diversity(counts: Counts) -> float:
    if len(counts) < 2:
        return 0.0
    total = math.fsum(counts.values())
    return -math.fsum(n / total * math.log(n / total) for n in counts.values())


def _size(counts: Counts) -> float:
    return float(len(counts))


_MEASURES: dict[type, Callable[[Counts], float]] = {dsl.Size: _size, dsl.Diversity: _diversity}


# The state of one customer at one instant, and the arithmetic over many


class _State(NamedTuple):
    sums: list[float]
    times: list[float]  # NaN if never
    sizes: list[float]
    told: list[float]
    objects: list[Any]


def _state(plan: _Plan, instant: Instant) -> _State:
    """Stored parts with what happened since merged in."""
    now_day = instant.now_us // US_PER_DAY
    sums: list[float]
    if instant.stored is None:
        sums = [0.0] * len(plan.sum_columns)
        times = [math.nan] * len(plan.time_columns)
        day_sets: list[Sequence[int]] = [()] * len(plan.day_columns)
        counts: list[Counts] = [{} for _ in plan.keyed]
    else:
        row = instant.stored.columns
        sums = [(row[at] or 0.0) if at >= 0 else 0.0 for at in plan.sum_columns]
        times = [math.nan if (t := row[at]) is None else t for at in plan.time_columns]
        day_sets = [(row[at] or ()) if at >= 0 else () for at in plan.day_columns]
        counts = [_counts(row, keyed) for keyed in plan.keyed]
    if instant.recent:
        added: list[set[int]] = [set() for _ in day_sets]
        for event in instant.recent:
            _add(plan, event, now_day, sums, times, added, counts)
        day_sets = [sorted({*stored, *new}) if new else stored for stored, new in zip(day_sets, added, strict=True)]
    sizes: list[float] = []
    for at, days in plan.active:
        held = day_sets[at]
        sizes.append(float(len(held) - bisect_right(held, now_day - days)))
    sizes.extend([measure(counts[at]) for measure, at in plan.measures])
    attributes = instant.attributes
    told = [math.nan if (v := attributes[at]) is None else v for at, _ in plan.told]
    objects = [attributes[at] if make is None else make(counts[at]) for make, at in plan.objects]
    return _State(sums, times, sizes, told, objects)  # type: ignore[arg-type]


def _counts(row: Sequence[Any], keyed: _Keyed) -> Counts:
    if keyed.counts_at < 0 or not (numbers := row[keyed.counts_at]):
        return {}
    return {key: float(n) for key, n in zip(row[keyed.keys_at], numbers, strict=True) if n}


def _add(
    plan: _Plan, event: LogEvent, now_day: int, sums: list[float], times: list[float], days: list[set[int]],
    counts: list[Counts],
) -> None:  # fmt: skip
    occurred_us = event.occurred_us
    day = occurred_us // US_PER_DAY
    age = now_day - day
    for kind, slots, key in _matching(plan, event):
        if kind is Count:
            for at, window in slots:
                if window is None or age < window:
                    sums[at] += 1.0
        elif kind is Sum:
            if event.value is not None and event.currency == plan.currency:
                amount = float(round(event.value * E4))
                for at, window in slots:
                    if window is None or age < window:
                        sums[at] += amount
        elif kind is Last:
            for at, _ in slots:
                if not times[at] >= occurred_us:  # NaN: never before
                    times[at] = occurred_us
        elif kind is First:
            for at, _ in slots:
                if not times[at] <= occurred_us:
                    times[at] = occurred_us
        elif kind is Days:
            for at, _ in slots:
                days[at].add(day)
        else:
            name = getattr(event, key)
            if name is not None:
                for at, window in slots:
                    if window is None or age < window:
                        counts[at][name] = counts[at].get(name, 0.0) + 1.0


def _matching(plan: _Plan, event: LogEvent) -> tuple[_Part, ...]:
    """The aggregates in which an event counts."""
    channel = event.channel if event.channel in plan.channels else None
    hour = event.occurred_us % US_PER_DAY // US_PER_HOUR
    asked = (event.event_type, event.offer_id is not None, channel, hour)
    parts = plan.matched.get(asked)
    if parts is None:
        parts = tuple(part for made, part in plan.aggregates if part.slots and made.where.holds(*asked))
        plan.matched[asked] = parts
    return parts


def _numbers(plan: _Plan, sums: Numbers, times: Numbers, sizes: Numbers, told: Numbers, now_us: Numbers) -> Numbers:
    """Shapes (n, slots of each kind), (n,) -> (n, number features), in the order of `plan.number_names`."""
    by = sums.take(plan.share_by, axis=1)
    empty = by == 0
    by[empty] = 1.0
    shares = sums.take(plan.share_of, axis=1) / (by * plan.share_unit)
    np.copyto(shares, plan.share_default, where=empty)
    smoothed = (sums.take(plan.smooth_of, axis=1) / plan.smooth_unit + plan.smooth_add) / (
        sums.take(plan.smooth_by, axis=1) + plan.smooth_weight
    )
    ages = np.maximum(now_us[:, None] - times.take(plan.age_from, axis=1), 0.0) / US_PER_DAY
    np.copyto(ages, plan.age_default, where=np.isnan(ages))
    told = np.where(plan.told_is_time, (now_us[:, None] - told) / US_PER_DAY, told)
    totals = sums.take(plan.total_from, axis=1) / plan.total_unit
    return np.concatenate((totals, shares, smoothed, ages, sizes, told), axis=1)
