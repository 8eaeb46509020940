"""Customer features, offers, context and affinity as one numeric row per (customer, offer).

The columns are fitted once, kept as JSON in the release, and filled by the same rules in training (`rows`) and
for one customer and all offers in serving (`prepare` and `fill`); a test holds the two equal.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import repeat
from operator import itemgetter
from struct import Struct
from struct import error as NotPacked
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.events import US_PER_DAY

Source = Literal[
    "customer",  # a customer feature
    "rate",  # a customer feature per day since the log began: unlike the count it does not grow with the log
    "by_category", "by_offer", "by_channel", "by_placement_id",  # a keyed customer feature, read under the row's key
    "offer",  # a field of `offer_fields`
    "offer_feature",
    "context",
    "affinity",
]  # fmt: skip
BY_CONTEXT = {"by_channel": "channel", "by_placement_id": "placement_id"}  # the context that holds the key
SAME_FOR_ALL_OFFERS = frozenset({"customer", "rate", "context", *BY_CONTEXT})
NOW = "us"  # of the context: the instant of the row, for rates
Rows = NDArray[np.float64]
FEW_CATEGORIES = 50
NUMERIC = (int, float, np.number, np.bool_)


class Column(msgspec.Struct, frozen=True):
    """One column of the encoded row; with `values` it is a category, its code the position in `values`."""

    source: Source
    key: str  # the name in its source
    values: tuple[str, ...] | None = None
    since_us: int | None = None  # of a rate: when the log began

    @property
    def name(self) -> str:
        return f"{self.source}.{self.key}" if self.key else self.source


@dataclass(frozen=True)
class OfferSide:
    """What of the encoded rows depends on the offers alone; made once per catalogue and release."""

    template: Rows  # (n_offers, n_columns), NaN where customer, context or affinity belong
    categories: tuple[str, ...]
    category_of: NDArray[np.int64]  # (n_offers,) position in `categories`, -1 without a category
    row_of: Mapping[str, int]  # offer id -> row
    cells: tuple[NDArray[np.int64], NDArray[np.int64]]  # columns by category, and in each all positions of categories

    @cached_property
    def position_of(self) -> Mapping[str, int]:
        """Category -> position in `categories`."""
        return {category: at for at, category in enumerate(self.categories)}


class Entries(NamedTuple):
    """What keyed features hold for some of the categories or offers; it is 0 for all others. Shapes (n_entries,).

    Of few categories all have an entry: to ask for each costs less than to find out which there are.
    """

    column: NDArray[np.int64]  # of the encoded row
    of: NDArray[np.int64]  # position of the category, or row of the offer
    value: NDArray[np.float64]


class _Numbers:
    """Some numbers of a customer as bytes: taken out of the features at once and packed, which refuses what is not a
    number. Those of the last customer are kept, as several models ask for the same ones."""

    __slots__ = ("_keys", "_last", "_packed", "_taken")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys, self._packed = keys, Struct(f"{len(keys)}d").pack
        self._taken: Callable[[Mapping[str, Any]], Sequence[Any]] = (
            itemgetter(*keys) if len(keys) > 1 else lambda features: [features[key] for key in keys]
        )
        self._last: tuple[Mapping[str, Any], bytes] | None = None

    def of(self, features: Mapping[str, Any]) -> bytes:
        last = self._last
        if last is not None and last[0] is features:
            return last[1]
        try:
            found = self._packed(*self._taken(features))
        except (KeyError, NotPacked):
            found = self._packed(*[number(features.get(key), None) for key in self._keys])
        self._last = features, found
        return found


@lru_cache(maxsize=64)
def _numbers_of(keys: tuple[str, ...]) -> _Numbers:
    return _Numbers(keys)


class _Shared(NamedTuple):
    """How the columns that are the same for all offers are filled: first the customer's numbers, then all others."""

    columns: NDArray[np.int64]
    numbers: _Numbers
    packed: Callable[..., bytes]  # of the others
    codes: tuple[tuple[str, dict[str, float]], ...]
    context: tuple[tuple[str, dict[str, float] | None], ...]
    keyed: tuple[tuple[str, str], ...]  # and the context that holds the key
    rates: tuple[tuple[str, int | None], ...]  # and since when


class Encoder(msgspec.Struct, frozen=True, dict=True):
    """The columns in order, and how each is filled. Unknown and missing values are NaN."""

    columns: tuple[Column, ...]

    @cached_property
    def _by_source(self) -> dict[str, list[tuple[int, str, dict[str, float] | None]]]:
        found: dict[str, list[tuple[int, str, dict[str, float] | None]]] = {}
        for at, column in enumerate(self.columns):
            codes = None if column.values is None else {value: float(code) for code, value in enumerate(column.values)}
            found.setdefault(column.source, []).append((at, column.key, codes))
        return found

    def of(self, source: Source) -> list[tuple[int, str, dict[str, float] | None]]:
        """The columns of one source as (position, key, codes or None)."""
        return self._by_source.get(source, [])

    @property
    def categorical(self) -> list[int]:
        return [at for at, column in enumerate(self.columns) if column.values is not None]

    @cached_property
    def varies_by_offer(self) -> NDArray[np.bool_]:
        """Which columns may differ between the offers of one customer, (n_columns,)."""
        return np.array([column.source not in SAME_FOR_ALL_OFFERS for column in self.columns], dtype=np.bool_)

    @cached_property
    def _shared(self) -> _Shared:
        numbers = [(at, key) for at, key, codes in self.of("customer") if codes is None]
        codes = [(at, key, codes) for at, key, codes in self.of("customer") if codes is not None]
        keyed = [
            (at, key, name) for source, name in BY_CONTEXT.items() for at, key, _ in self._by_source.get(source, [])
        ]
        rates = self.of("rate")
        others = (*codes, *self.of("context"), *keyed, *rates)
        return _Shared(
            columns=np.array([at for at, _ in numbers] + [at for at, _, _ in others], dtype=np.int64),
            rates=tuple((key, self.columns[at].since_us) for at, key, _ in rates),
            numbers=_numbers_of(tuple(key for _, key in numbers)),
            packed=Struct(f"{len(others)}d").pack,
            codes=tuple((key, codes) for _, key, codes in codes),
            context=tuple((key, codes) for _, key, codes in self.of("context")),
            keyed=tuple((key, name) for _, key, name in keyed),
        )

    @property
    def shared_columns(self) -> NDArray[np.int64]:
        """The columns that are the same for all offers of one customer, in the order of `shared`."""
        return self._shared.columns

    def shared(self, features: Mapping[str, Any], context: Mapping[str, Any]) -> NDArray[np.float64]:
        """What they hold, shape (n_shared,); not to be written to."""
        plan = self._shared
        others = [_code(features.get(key), codes) for key, codes in plan.codes]
        for key, of in plan.context:
            others.append(number(context.get(key), of))
        for key, name in plan.keyed:
            others.append(count(features.get(key), context.get(name)))
        others += [per_day(features.get(key), context.get(NOW), since_us) for key, since_us in plan.rates]
        return np.frombuffer(plan.numbers.of(features) + plan.packed(*others))

    @cached_property
    def _blank(self) -> NDArray[np.float64]:
        return np.full(len(self.columns), np.nan)

    def prepare(self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]]) -> OfferSide:
        template = np.full((len(offers), len(self.columns)), np.nan)
        for row, offer in enumerate(offers):
            fields = offer_fields(offer)
            for at, key, codes in self.of("offer"):
                template[row, at] = number(fields.get(key), codes)
            known = offer_features.get(offer.offer_id, {})
            for at, key, codes in self.of("offer_feature"):
                template[row, at] = number(known.get(key), codes)
        return self.side(offers, template)

    def side(self, offers: Sequence[Offer], template: Rows) -> OfferSide:
        """Around the rows of these offers, (n_offers, n_columns)."""
        categories = tuple(sorted({offer.category for offer in offers if offer.category is not None}))
        position = {category: at for at, category in enumerate(categories)}
        category_of = np.array([position.get(o.category, -1) if o.category else -1 for o in offers], dtype=np.int64)
        by_category = np.array([at for at, _, _ in self.of("by_category")], np.int64)
        cells = np.repeat(by_category, len(categories)), np.tile(np.arange(len(categories)), len(by_category))
        return OfferSide(template, categories, category_of, {o.offer_id: row for row, o in enumerate(offers)}, cells)

    def fill(
        self,
        side: OfferSide,
        features: Mapping[str, Any],
        context: Mapping[str, Any],
        affinity: NDArray[np.floating[Any]] | None,
    ) -> Rows:
        """One customer against all offers of the side, (n_offers, n_columns)."""
        rows = side.template.copy()
        for at, key, codes in self.of("customer"):
            rows[:, at] = number(features.get(key), codes)
        for at, key, codes in self.of("context"):
            rows[:, at] = number(context.get(key), codes)
        for source, name in BY_CONTEXT.items():
            for at, key, _ in self._by_source.get(source, []):
                rows[:, at] = count(features.get(key), context.get(name))
        for at, key, _ in self.of("rate"):
            rows[:, at] = per_day(features.get(key), context.get(NOW), self.columns[at].since_us)
        for at, key, _ in self.of("by_category"):
            counts = features.get(key)
            by_category = np.array([count(counts, category) for category in side.categories] + [0.0])
            rows[:, at] = by_category[side.category_of]  # -1 reads the last, which is 0
        for at, key, _ in self.of("by_offer"):
            rows[:, at] = 0.0
            counts = features.get(key)
            for offer_id, n in counts.items() if isinstance(counts, dict) else ():
                row = side.row_of.get(offer_id)
                if row is not None:
                    rows[row, at] = n
        for at, _, _ in self.of("affinity"):
            rows[:, at] = np.nan if affinity is None else relative(affinity[None, :])[0]
        return rows

    def of_customer(self, features: Mapping[str, Any], context: Mapping[str, Any]) -> NDArray[np.float64]:
        """What is the same in all rows of one customer, (n_columns,); NaN where the columns differ by offer."""
        row = self._blank.copy()
        row[self._shared.columns] = self.shared(features, context)
        return row

    def by_category(self, side: OfferSide, features: Mapping[str, Any]) -> Entries:
        """What the customer's features hold under the categories of the side."""
        held = _dicts(features, self._keys_by_category)
        if len(side.categories) > FEW_CATEGORIES:
            return _entries(_places(self.of("by_category"), held, side.position_of), held)
        numbers: list[float] = []
        for one in held:
            numbers += map(one.get, side.categories, ZEROS) if one else [0.0] * len(side.categories)
        return Entries(*side.cells, np.frombuffer(array("d", numbers)))

    def by_offer(self, side: OfferSide, features: Mapping[str, Any]) -> Entries:
        """What the customer's features hold under the offers of the side."""
        held = _dicts(features, self._keys_by_offer)
        return _entries(_places(self.of("by_offer"), held, side.row_of), held)

    @cached_property
    def _keys_by_category(self) -> tuple[str, ...]:
        return tuple(key for _, key, _ in self.of("by_category"))

    @cached_property
    def _keys_by_offer(self) -> tuple[str, ...]:
        return tuple(key for _, key, _ in self.of("by_offer"))

    def rows(
        self,
        n: int,
        customers: Mapping[str, Sequence[Any]],
        offers: Sequence[Offer],
        offer_features: Mapping[str, Sequence[Any]],
        context: Mapping[str, Sequence[Any]],
        affinity: NDArray[np.floating[Any]] | None,
    ) -> Rows:
        """`n` training rows; every argument has one value per row; `affinity` is already relative, (n,)."""
        out = np.full((n, len(self.columns)), np.nan)
        for source, values in (("customer", customers), ("offer_feature", offer_features), ("context", context)):
            for at, key, codes in self._by_source.get(source, []):
                if key in values:
                    out[:, at] = numbers(values[key], codes)
        for at, key, _ in self.of("rate"):
            instants, since_us = context.get(NOW, [None] * n), self.columns[at].since_us
            out[:, at] = [per_day(total, us, since_us) for total, us in zip(customers[key], instants, strict=True)]
        distinct = {offer.offer_id: offer for offer in offers}
        known = {offer_id: offer_fields(offer) for offer_id, offer in distinct.items()}
        for at, key, codes in self.of("offer"):
            each = {offer_id: number(fields.get(key), codes) for offer_id, fields in known.items()}
            out[:, at] = [each[offer.offer_id] for offer in offers]
        keys: dict[str, Sequence[Any]] = {
            "by_category": [offer.category for offer in offers],
            "by_offer": [offer.offer_id for offer in offers],
            **{source: context.get(name, [None] * n) for source, name in BY_CONTEXT.items()},
        }
        for source, key_of in keys.items():
            for at, key, _ in self._by_source.get(source, []):
                out[:, at] = [count(counts, of) for counts, of in zip(customers[key], key_of, strict=True)]
        for at, _, _ in self.of("affinity"):
            out[:, at] = np.nan if affinity is None else affinity
        return out

    def one(self, features: Mapping[str, Any]) -> Rows:
        """One customer without an offer, (1, n_columns): for models of the customer alone."""
        return self.of_customer(features, {})[None, :]


def _dicts(features: Mapping[str, Any], keys: Sequence[str]) -> list[dict[str, float]]:
    """What keyed features hold; nothing where one is missing."""
    return [held if isinstance(held, dict) else {} for held in map(features.get, keys)]


def _places(
    columns: Sequence[tuple[int, str, Any]], names: Sequence[Iterable[str]], position: Mapping[str, int]
) -> _Places:
    """Where that belongs which is held under these names, one collection of names per column."""
    of_column, of = array("q"), array("q")
    for (column, _, _), some in zip(columns, names, strict=True):
        of.extend(map(position.get, some, GONE))
        of_column.extend(repeat(column, len(of) - len(of_column)))
    if not of:
        return NOWHERE
    found = np.frombuffer(of_column, np.int64), np.frombuffer(of, np.int64)
    if -1 not in of:
        return _Places(*found, None)
    there = np.flatnonzero(found[1] >= 0)
    return _Places(found[0][there], found[1][there], there)


def _entries(places: _Places, held: Sequence[dict[str, float]]) -> Entries:
    if not places.of.size:
        return NO_ENTRIES
    numbers: list[float] = []
    for one in held:
        numbers += one.values()
    values = np.frombuffer(array("d", numbers))  # which refuses what is not a number
    return Entries(places.column, places.of, values if places.there is None else values[places.there])


class _Places(NamedTuple):
    """Where entries belong, and which of all that are held are on offer; None: all."""

    column: NDArray[np.int64]
    of: NDArray[np.int64]
    there: NDArray[np.intp] | None


ZEROS = repeat(0.0)
GONE = repeat(-1)  # where a name that is not on offer stands
NOWHERE = _Places(np.zeros(0, np.int64), np.zeros(0, np.int64), None)
NO_ENTRIES = Entries(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def offer_fields(offer: Offer) -> dict[str, Any]:
    """What an offer is, as flat names: its own fields, and its attributes behind `attributes.`."""
    fields: dict[str, Any] = {
        "offer_id": offer.offer_id,
        "category": offer.category,
        "value": offer.value,
        "retention": offer.retention,
        "channels": len(offer.channels),
    }
    for channel in offer.channels:
        fields[f"channel={channel}"] = 1.0
    for name, value in offer.attributes.items():
        if isinstance(value, list | tuple):
            for item in value:
                fields[f"attributes.{name}={item}"] = 1.0
        else:
            fields[f"attributes.{name}"] = value
    return fields


def _code(value: Any, codes: Mapping[str, float]) -> float:
    return codes.get(value, math.nan) if type(value) is str else number(value, codes)


def number(value: Any, codes: Mapping[str, float] | None) -> float:
    """A value as a column holds it: its code where there are codes, else itself; NaN if missing or unfit."""
    if value is None:
        return math.nan
    if codes is not None:
        return codes.get(str(value), math.nan)
    return float(value) if isinstance(value, NUMERIC) else math.nan


def per_day(total: Any, us: Any, since_us: int | None) -> float:
    """A total by the days since the log began; NaN where one is missing, and before a day has been observed."""
    if us is None or since_us is None:
        return math.nan
    days = (number(us, None) - since_us) / US_PER_DAY
    return number(total, None) / days if days >= 1.0 else math.nan


def count(counts: Any, key: Any) -> float:
    """What a keyed feature holds under `key`; 0 where either is missing."""
    return float(counts.get(key, 0.0)) if isinstance(counts, dict) and key is not None else 0.0


def numbers(values: Sequence[Any], codes: Mapping[str, float] | None) -> NDArray[np.float64]:
    """`number` of each; shape (n,)."""
    array = np.asarray(values)
    if codes is None and array.dtype.kind in "fiub":
        return array.astype(np.float64)
    return np.array([number(value, codes) for value in array.tolist()], dtype=np.float64)


def relative(affinity: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Affinity in standard deviations from the customer's mean over the offers; (n, n_offers), zeros if all are equal.

    A recommender's raw scale grows with the data it saw; this one does not, so that the acceptance model can be
    fitted on the scores of an earlier recommender than the one it is served with.
    """
    wide = affinity.astype(np.float64)
    if not wide.size:
        return wide
    spread = wide.std(axis=1, keepdims=True)
    centred = wide - wide.mean(axis=1, keepdims=True)
    np.divide(centred, spread, out=centred, where=spread > 1e-9)
    return np.where(spread > 1e-9, centred, 0.0)
