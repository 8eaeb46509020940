"""What a feature set asks of stored rows and live events, worked out once: slots, and the arithmetic over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
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
    FeatureSet,
    Last,
    Sum,
)
from features.events import US_PER_DAY

Counts: TypeAlias = dict[str, float]
Numbers: TypeAlias = NDArray[np.float64]


class Keyed(NamedTuple):
    """One CountBy over one window."""

    days: int
    keys_at: int  # stored columns; -1 if nothing is stored
    counts_at: int


class Part(NamedTuple):
    """What one aggregate of one event changes."""

    kind: type
    slots: tuple[tuple[int, int | None], ...]  # (slot, days) of sums and keyed counts; slot of times and day sets
    key: str = ""  # field of the event, for CountBy


class TotalOf(NamedTuple):
    name: str
    at: int  # sum slot
    unit: float


class ShareOf(NamedTuple):
    name: str
    of: int  # sum slots
    by: int
    unit: float
    default: float


class SmoothedOf(NamedTuple):
    name: str
    of: int  # sum slots
    by: int
    unit: float
    add: float
    weight: float


class AgeOf(NamedTuple):
    name: str
    at: int  # time slot
    default: float


class ActiveOf(NamedTuple):
    name: str
    at: int  # day-set slot
    days: int


class MeasureOf(NamedTuple):
    name: str
    at: int  # keyed slot
    measure: Callable[[Counts], Any]  # a number, a category or the mapping itself


class ToldOf(NamedTuple):
    name: str
    at: int  # position among the attributes
    is_time: bool


@dataclass(frozen=True, eq=False)
class Plan:
    """Slots of the state, and each feature's arithmetic over them; the arrays are for many rows at once."""

    sum_columns: tuple[int, ...]  # per sum slot: its stored column, -1 if nothing is stored
    time_columns: tuple[int, ...]  # per time slot
    day_columns: tuple[int, ...]  # per day-set slot
    keyed: tuple[Keyed, ...]
    totals: tuple[TotalOf, ...]
    shares: tuple[ShareOf, ...]
    smoothed: tuple[SmoothedOf, ...]
    ages: tuple[AgeOf, ...]
    active: tuple[ActiveOf, ...]
    measures: tuple[MeasureOf, ...]  # that are numbers
    told: tuple[ToldOf, ...]  # attributes that are numbers
    objects: tuple[MeasureOf, ...]  # categories and mappings
    categories: tuple[tuple[str, int], ...]  # (name, position) of attributes that are categories
    attributes: tuple[tuple[str, Any], ...]  # (attribute, kind) of all
    aggregates: tuple[tuple[Aggregate, Part], ...]
    channels: frozenset[str]  # those that a predicate names
    currency: str
    ttl_us: tuple[tuple[str, float], ...]
    shortest_ttl_us: float
    matched: dict[tuple[str, bool, str | None, int], tuple[Part, ...]] = field(default_factory=dict)  # a cache,
    # bounded by types, channels and hours

    @cached_property
    def number_names(self) -> tuple[str, ...]:
        """The order of `live.numbers`."""
        kinds: tuple[Sequence[Any], ...] = (
            self.totals, self.shares, self.smoothed, self.ages, self.active, self.measures, self.told,
        )  # fmt: skip
        return tuple(one.name for kind in kinds for one in kind)

    @cached_property
    def blank(self) -> dict[str, Any]:
        """Every feature by name, in order, without a value."""
        of_objects = (*(one.name for one in self.objects), *(name for name, _ in self.categories))
        return dict.fromkeys((*self.number_names, *of_objects), math.nan)

    @cached_property
    def mappings(self) -> tuple[tuple[str, int], ...]:
        """(name, keyed slot) of the features that are a mapping itself."""
        return tuple((one.name, one.at) for one in self.objects if one.measure is as_is)

    @cached_property
    def arrays(self) -> PlanArrays:
        return PlanArrays(
            total_from=_at(self.totals, "at"),
            total_unit=_of(self.totals, "unit"),
            share_of=_at(self.shares, "of"),
            share_by=_at(self.shares, "by"),
            share_unit=_of(self.shares, "unit"),
            share_default=_of(self.shares, "default"),
            smooth_of=_at(self.smoothed, "of"),
            smooth_by=_at(self.smoothed, "by"),
            smooth_unit=_of(self.smoothed, "unit"),
            smooth_add=_of(self.smoothed, "add"),
            smooth_weight=_of(self.smoothed, "weight"),
            age_from=_at(self.ages, "at"),
            age_default=_of(self.ages, "default"),
            told_is_time=np.array([one.is_time for one in self.told], bool),
        )


@dataclass(frozen=True, slots=True)
class PlanArrays:
    """The same arithmetic as arrays, each along its kind of feature."""

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


def _at(of: Sequence[Any], role: str) -> NDArray[np.intp]:
    return np.array([getattr(one, role) for one in of], np.intp)


def _of(of: Sequence[Any], role: str) -> Numbers:
    return np.array([getattr(one, role) for one in of], np.float64)


@lru_cache(maxsize=64)
def plan_of(feature_set: FeatureSet, entity: Entity) -> Plan:
    features = feature_set.of(entity)
    known = feature_set.aggregates(entity)
    column_at = {column.name: at for at, column in enumerate(feature_set.stored(entity))}
    slots = _Slots(feature_set, entity, column_at)
    unit = {name: float(E4) if isinstance(made, Sum) else 1.0 for name, made in known.items()}
    attributes = [f for f in features if isinstance(f.value, dsl.Attribute)]
    totals, shares, smoothed, ages, active, measures, objects, told, categories = [], [], [], [], [], [], [], [], []
    for f in features:
        match f.value:
            case dsl.Total(of=of, days=days):
                totals.append(TotalOf(f.name, slots.sum(of, days), unit[of]))
            case dsl.Share(of=of, by=by, days=days):
                of_at, by_at = slots.sum(of, days), slots.sum(by, days)
                shares.append(ShareOf(f.name, of_at, by_at, unit[of] / unit[by], f.missing))
            case dsl.Smoothed(of=of, by=by, days=days, prior=prior, weight=weight):
                of_at, by_at = slots.sum(of, days), slots.sum(by, days)
                smoothed.append(SmoothedOf(f.name, of_at, by_at, unit[of], prior * weight, weight))
            case dsl.Age(of=of):
                ages.append(AgeOf(f.name, slots.time(of), f.missing))
            case dsl.ActiveDays(of=of, days=days):
                active.append(ActiveOf(f.name, slots.day_set(of), days))
            case dsl.Size(of=of, days=days) | dsl.Diversity(of=of, days=days):
                measures.append(MeasureOf(f.name, slots.key(of, days), MEASURES[type(f.value)]))
            case dsl.ByKey(of=of, days=days) | dsl.Favourite(of=of, days=days):
                objects.append(MeasureOf(f.name, slots.key(of, days), MEASURES[type(f.value)]))
            case dsl.Attribute(of=kind) if f.kind == "number":
                told.append(ToldOf(f.name, attributes.index(f), kind == "time"))
            case dsl.Attribute():
                categories.append((f.name, attributes.index(f)))
    of_attributes = {f.name for f in attributes}
    ttl_us = tuple(
        (f.name, f.ttl_days * US_PER_DAY if f.ttl_days else math.inf) for f in features if f.name not in of_attributes
    )
    return Plan(
        sum_columns=tuple(slots.sums.values()),
        time_columns=tuple(slots.times.values()),
        day_columns=tuple(slots.day_sets.values()),
        keyed=tuple(slots.keyed.values()),
        totals=tuple(totals),
        shares=tuple(shares),
        smoothed=tuple(smoothed),
        ages=tuple(ages),
        active=tuple(active),
        measures=tuple(measures),
        told=tuple(told),
        objects=tuple(objects),
        categories=tuple(categories),
        attributes=tuple((f.value.name, f.value.of) for f in attributes if isinstance(f.value, dsl.Attribute)),
        aggregates=tuple((made, slots.part(name, made)) for name, made in known.items()),
        channels=frozenset(channel for made in known.values() for channel in made.where.channels),
        currency=feature_set.currency,
        ttl_us=ttl_us,
        shortest_ttl_us=min((ttl for _, ttl in ttl_us), default=math.inf),
    )


class _Slots:
    """Where the parts of a customer's state are kept, given out as features ask for them."""

    def __init__(self, feature_set: FeatureSet, entity: Entity, column_at: Mapping[str, int]) -> None:
        self._set, self._entity, self._column_at = feature_set, entity, column_at
        self._known = feature_set.aggregates(entity)
        self._stored = {(c.kind, c.of, c.days): column_at[c.name] for c in feature_set.stored(entity)}
        self.sums: dict[tuple[str, int | None], int] = {}
        self.times: dict[str, int] = {}
        self.day_sets: dict[str, int] = {}
        self.keyed: dict[tuple[str, int], Keyed] = {}

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
        self.keyed.setdefault((of, days), Keyed(days, keys_at, self._stored.get(("counts", of, whole), -1)))
        return list(self.keyed).index((of, days))

    def part(self, name: str, made: Aggregate) -> Part:
        match made:
            case Count() | Sum():
                return Part(type(made), tuple((at, d) for at, (of, d) in enumerate(self.sums) if of == name))
            case CountBy(key=key):
                return Part(CountBy, tuple((at, d) for at, (of, d) in enumerate(self.keyed) if of == name), key)
            case Days():
                return Part(Days, tuple((at, None) for at, of in enumerate(self.day_sets) if of == name))
            case _:
                return Part(type(made), tuple((at, None) for at, of in enumerate(self.times) if of == name))


# Measures of a mapping from key to count


def as_is(counts: Counts) -> Counts:
    return counts


def _favourite(counts: Counts) -> str | None:
    if not counts:
        return None
    most = max(counts.values())
    return min([key for key, n in counts.items() if n == most])


def _diversity(counts: Counts) -> float:
    if len(counts) < 2:
        return 0.0
    total = math.fsum(counts.values())
    shares = [n / total for n in counts.values()]
    return -math.fsum([share * math.log(share) for share in shares])


def _size(counts: Counts) -> float:
    return float(len(counts))


MEASURES: dict[type, Callable[[Counts], Any]] = {
    dsl.Size: _size,
    dsl.Diversity: _diversity,
    dsl.ByKey: as_is,
    dsl.Favourite: _favourite,
}
