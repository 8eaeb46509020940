"""The language in which features are declared: daily mergeable aggregates, and what is derived from them when read.

A declaration is data. Three places interpret it, and tests hold them equal: `features/compute` (Ibis, whole days, into
snapshots), `features/live.py` (numpy, what happened since), and a plain recomputation in the tests.

The snapshot of day D covers whole UTC days strictly before D. A customer's window of n days is the n - 1 whole days
before today plus today so far; an offer's window (`live=False`) is the n whole days before the snapshot's day.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import msgspec

Entity = Literal["customer", "offer"]
View = Literal["customer", "profile", "offer"]  # what Feast keeps apart: one view each
Kind = Literal["number", "category", "keyed"]
AttributeKind = Literal["number", "category", "boolean", "time"]
E4 = 10_000  # money is summed as whole ten-thousandths, exactly


class Where(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events count: those that meet every condition given here."""

    event_types: tuple[str, ...] = ()  # empty: any
    has_offer: bool | None = None
    channels: tuple[str, ...] = ()  # empty: any
    hours: tuple[int, int] | None = None  # of the UTC day, from (inclusive) to (exclusive)

    def holds(self, event_type: str, has_offer: bool, channel: str | None, hour: int) -> bool:
        return (
            (not self.event_types or event_type in self.event_types)
            and (self.has_offer is None or self.has_offer == has_offer)
            and (not self.channels or channel in self.channels)
            and (self.hours is None or self.hours[0] <= hour < self.hours[1])
        )


# Aggregates: one value per entity and whole UTC day, mergeable over days and with what happened today.


class Count(msgspec.Struct, frozen=True, tag=True):
    """How many events; days add up."""

    where: Where


class Sum(msgspec.Struct, frozen=True, tag=True):
    """The events' `value` in the deployment's currency, in ten-thousandths; others count as 0. Days add up."""

    where: Where


class Last(msgspec.Struct, frozen=True, tag=True):
    """When it last happened; of two days the later."""

    where: Where


class First(msgspec.Struct, frozen=True, tag=True):
    """When it first happened; of two days the earlier."""

    where: Where


class Days(msgspec.Struct, frozen=True, tag=True):
    """The set of UTC days on which it happened; days unite."""

    where: Where


class CountBy(msgspec.Struct, frozen=True, tag=True):
    """How many events by the value of a column (events without one are left out); days add up key by key."""

    key: Literal["category", "channel", "offer_id", "placement_id"]
    where: Where


Aggregate: TypeAlias = Count | Sum | Last | First | Days | CountBy


# Derivations: a feature's value from stored columns and what happened since. `days=None` means ever.


class Total(msgspec.Struct, frozen=True, tag=True):
    """A Count or Sum over a window, or ever."""

    of: str
    days: int | None


class Age(msgspec.Struct, frozen=True, tag=True):
    """Days, with fraction, since a First or Last; the feature's default if it never happened."""

    of: str


class ActiveDays(msgspec.Struct, frozen=True, tag=True):
    """On how many days of a window it happened."""

    of: str
    days: int


class Share(msgspec.Struct, frozen=True, tag=True):
    """One total divided by another; the feature's default where the other is 0."""

    of: str
    by: str
    days: int | None


class Smoothed(msgspec.Struct, frozen=True, tag=True):
    """(of + prior * weight) / (by + weight): a rate that starts from a prior worth `weight` observations."""

    of: str
    by: str
    days: int | None
    prior: float
    weight: float


class ByKey(msgspec.Struct, frozen=True, tag=True):
    """The counts of a CountBy over a window, as a mapping without zeros."""

    of: str
    days: int


class Size(msgspec.Struct, frozen=True, tag=True):
    """How many keys a CountBy has over a window."""

    of: str
    days: int


class Diversity(msgspec.Struct, frozen=True, tag=True):
    """Shannon entropy, in nats, of a CountBy over a window; 0 with fewer than two keys."""

    of: str
    days: int


class Favourite(msgspec.Struct, frozen=True, tag=True):
    """The key with the highest count of a CountBy over a window, the first in order of ties; None if there is none."""

    of: str
    days: int


class Attribute(msgspec.Struct, frozen=True, tag=True):
    """A profile attribute. Times are read as the days since."""

    name: str
    of: AttributeKind


Derivation: TypeAlias = Total | Age | ActiveDays | Share | Smoothed | ByKey | Size | Diversity | Favourite | Attribute


def in_days(days: int) -> str:
    """A customer's window in words, for descriptions."""
    return "today" if days == 1 else f"in {days} days"


def window(of: str, days: int) -> Total:
    return Total(of, days)


def ever(of: str) -> Total:
    return Total(of, None)


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature as models and rules see it."""

    name: str
    value: Derivation
    unit: str
    description: str
    default: float | None = 0.0  # when nothing is known; None is missing: NaN for a number, None for a category
    ttl_days: float = 2.0  # stored parts older than this are not read; 0 is never too old
    entity: Entity = "customer"  # set by its family
    family: str = ""  # set by its family

    @property
    def kind(self) -> Kind:
        match self.value:
            case ByKey():
                return "keyed"
            case Favourite() | Attribute(of="category"):
                return "category"
            case _:
                return "number"

    @property
    def missing(self) -> float:
        """The default of a number."""
        return math.nan if self.default is None else self.default


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Features of one theme, with the daily aggregates that they need."""

    name: str
    description: str
    features: tuple[Feature, ...]
    daily: dict[str, Aggregate] = {}
    entity: Entity = "customer"
    live: bool = True  # whether what happened since the snapshot is added

    def __post_init__(self) -> None:
        owned = tuple(msgspec.structs.replace(f, entity=self.entity, family=self.name) for f in self.features)
        msgspec.structs.force_setattr(self, "features", owned)


StoredKind = Literal["sum", "first", "last", "days", "keys", "counts", "number", "boolean", "category", "time"]


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column of a snapshot, and so of a Feast view.

    sum: whole number. first, last, time: microseconds since 1970 UTC. days: ascending days since 1970. keys: ascending
    strings, shared by the `counts` columns of the same key and days, which are parallel to it. number, boolean,
    category, time: a profile attribute.
    """

    name: str
    kind: StoredKind
    of: str  # aggregate, attribute, or key column
    days: int | None = None  # whole days before the snapshot's day; None is ever
    description: str = ""


class _Declaration(msgspec.Struct, frozen=True):
    families: tuple[Family, ...]
    currency: str


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Families in order, and all that follows from them. Equal sets have equal digests."""

    families: tuple[Family, ...]
    currency: str = "EUR"  # the deployment's: a Sum adds up no other

    def __post_init__(self) -> None:
        _check(self)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, FeatureSet) and self.digest == other.digest)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.digest)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        return tuple(feature for family in self.families for feature in family.features)

    @cached_property
    def customer(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.entity == "customer")

    @cached_property
    def offer(self) -> tuple[Feature, ...]:
        return tuple(feature for feature in self.features if feature.entity == "offer")

    def of(self, entity: Entity) -> tuple[Feature, ...]:
        return self.customer if entity == "customer" else self.offer

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the declaration."""
        return hashlib.sha256(self.to_json()).hexdigest()

    def aggregates(self, entity: Entity) -> dict[str, Aggregate]:
        """All daily aggregates of an entity, by name, in order."""
        return {
            name: made for family in self.families if family.entity == entity for name, made in family.daily.items()
        }

    def stored(self, view: View) -> tuple[StoredColumn, ...]:
        """The columns of a view, without entity key and time, in order."""
        return self._stored[view]

    @cached_property
    def _stored(self) -> dict[str, tuple[StoredColumn, ...]]:
        return {
            "customer": tuple(_daily_columns(self, "customer")),
            "profile": tuple(_attribute_columns(self)),
            "offer": tuple(_daily_columns(self, "offer")),
        }

    def whole_days(self, entity: Entity, days: int | None) -> int | None:
        """How many whole days before the snapshot's day belong to a window of `days`."""
        if days is None:
            return None
        return days - 1 if entity == "customer" else days

    def longest(self, entity: Entity) -> int:
        """The longest window of an entity, in days; 1 if it has none."""
        spans = [getattr(feature.value, "days", None) for feature in self.of(entity)]
        return max((days for days in spans if days is not None), default=1)

    def to_json(self) -> bytes:
        return msgspec.json.encode(_Declaration(self.families, self.currency), order="sorted")

    @classmethod
    def from_json(cls, data: bytes | str) -> FeatureSet:
        declared = msgspec.json.decode(data, type=_Declaration)
        return cls(declared.families, declared.currency)


_OF_KIND: dict[type, tuple[type, ...]] = {
    Total: (Count, Sum),
    Share: (Count, Sum),
    Smoothed: (Count, Sum),
    Age: (First, Last),
    ActiveDays: (Days,),
    ByKey: (CountBy,),
    Size: (CountBy,),
    Diversity: (CountBy,),
    Favourite: (CountBy,),
}


def _check(features: FeatureSet) -> None:
    """`ValueError` when names collide, or a feature derives from what its entity does not declare."""
    names = [feature.name for feature in features.features]
    if len(set(names)) < len(names):
        raise ValueError(f"declared twice: {sorted({name for name in names if names.count(name) > 1})}")
    for entity in ("customer", "offer"):
        declared = [name for family in features.families if family.entity == entity for name in family.daily]
        if len(set(declared)) < len(declared):
            raise ValueError(f"aggregates declared twice: {sorted({n for n in declared if declared.count(n) > 1})}")
    for family in features.families:
        if family.live != (family.entity == "customer"):
            raise ValueError(f"{family.name}: customers are live, offers are not")
    for feature in features.features:
        known = features.aggregates(feature.entity)
        allowed = _OF_KIND.get(type(feature.value), ())
        for role in ("of", "by"):
            name = getattr(feature.value, role, None)
            if allowed and name is not None and not isinstance(known.get(name), allowed):
                wanted = " or ".join(kind.__name__ for kind in allowed)
                raise ValueError(f"{feature.name} needs a {wanted} named {name!r}")
        days = getattr(feature.value, "days", None)
        if days is not None and days < 1:
            raise ValueError(f"{feature.name}: a window has at least 1 day, this has {days}")
        if isinstance(feature.value, Total | ActiveDays | ByKey | Size | Diversity) and feature.default != 0.0:
            raise ValueError(f"{feature.name}: of nothing there are 0, the default is {feature.default}")


def _daily_columns(features: FeatureSet, entity: Entity) -> Iterator[StoredColumn]:
    made: dict[str, StoredColumn] = {}
    known = features.aggregates(entity)
    for feature in features.of(entity):
        for column in _needed(features, feature, known):
            made.setdefault(column.name, column)
    yield from made.values()


def _needed(features: FeatureSet, feature: Feature, known: dict[str, Aggregate]) -> Iterator[StoredColumn]:
    value = feature.value
    whole = features.whole_days(feature.entity, getattr(value, "days", None))
    if whole == 0:
        return  # today alone: nothing of it is stored
    span = "ever" if whole is None else f"prev{whole}d"
    before = "all whole days before the snapshot" if whole is None else f"the {whole} whole days before the snapshot"
    match value:
        case Total(of=of):
            yield StoredColumn(f"{of}_{span}", "sum", of, whole, f"{of} in {before}{_money(known[of])}")
        case Share(of=of, by=by) | Smoothed(of=of, by=by):
            yield StoredColumn(f"{of}_{span}", "sum", of, whole, f"{of} in {before}{_money(known[of])}")
            yield StoredColumn(f"{by}_{span}", "sum", by, whole, f"{by} in {before}{_money(known[by])}")
        case Age(of=of):
            kind: StoredKind = "last" if isinstance(known[of], Last) else "first"
            yield StoredColumn(f"{of}_us", kind, of, None, f"{of}, microseconds since 1970 UTC")
        case ActiveDays(of=of):
            longest = max(
                f.value.days
                for f in features.of(feature.entity)
                if isinstance(f.value, ActiveDays) and f.value.of == of
            )
            kept = features.whole_days(feature.entity, longest)
            if kept:
                yield StoredColumn(f"{of}_prev{kept}d", "days", of, kept, f"{of}: which of the {kept} days before")
        case ByKey(of=of) | Size(of=of) | Diversity(of=of) | Favourite(of=of):
            by_key = known[of]
            assert isinstance(by_key, CountBy)
            key = by_key.key
            yield StoredColumn(f"{key}_keys_{span}", "keys", key, whole, f"each {key} with a count in {before}")
            yield StoredColumn(f"{of}_{span}", "counts", of, whole, f"{of} in {before}, parallel to {key}_keys_{span}")
        case Attribute():
            pass


def _money(aggregate: Aggregate) -> str:
    return ", in ten-thousandths" if isinstance(aggregate, Sum) else ""


def _attribute_columns(features: FeatureSet) -> Iterator[StoredColumn]:
    for feature in features.customer:
        if isinstance(feature.value, Attribute):
            yield StoredColumn(attribute_column(feature.name), feature.value.of, feature.value.name)


def attribute_column(feature: str) -> str:
    """The stored column of a profile attribute: safe as a Feast field, and unlike any other feature's."""
    return "attribute_" + "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in feature)


def allowed_windows(windows: Sequence[int], longest: int) -> tuple[int, ...]:
    """The windows that fit into `longest` days, ascending; the shortest always stays."""
    ordered = sorted(set(windows))
    return tuple(days for days in ordered if days <= longest) or (ordered[0],)
