"""Who a visitor is: an anonymous one joined to a known customer, and what both of them did taken together.

Events keep the key they were sent with. Whoever reads a customer reads the aliases too, see `Facts.aliases_of`, and
puts the stored parts together with `joined_row`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from features.definitions.dsl import CountBy, FeatureSet, StoredKind
from features.errors import AlreadyJoined, Erased
from features.events import to_us
from features.facts import MOST_KEYS, Facts
from features.live import StoredRow
from features.profile import CATEGORY, Profile

MOST_ALIASES = 64  # browsers of one customer; every decision reads them all


class Joined(NamedTuple):
    """What a join brought."""

    profile: Profile
    new: bool  # false: they were one before


def nobody(keys: Sequence[str]) -> Set[str]:
    """Where no experiment ever ran."""
    return frozenset()


def join(
    facts: Facts, alias: str, customer_id: str, now: datetime, exposed: Callable[[Sequence[str]], Set[str]] = nobody
) -> Joined:
    """The anonymous visitor `alias` is this customer, from now on and for what was. Again: changes nothing.

    `exposed` says which of these visitors met an experiment. If this one did, and the customer never did, experiments
    go on to split the customer by the visitor's key, so that nobody's variant changes by becoming known.
    `AlreadyJoined` if it is another customer or there are too many; `Erased` if either of them was.
    """
    with facts.transaction() as db:
        if facts.erased_among((alias, customer_id)):
            raise Erased
        known = facts.identity_of(alias)
        if known == customer_id:
            return Joined(facts.profile(customer_id) or Profile(customer_id=customer_id), new=False)
        if known != alias:
            raise AlreadyJoined("this anonymous_id is joined to another customer, and a visitor is one customer only")
        aliases = facts.aliases_of(customer_id)
        if len(aliases) >= MOST_ALIASES:
            raise AlreadyJoined(f"this customer has {MOST_ALIASES} anonymous ids, more are not joined")
        is_unit = exposed((alias, customer_id, *aliases)) == {alias}
        db.execute("INSERT INTO identities VALUES (?, ?, ?, ?)", (alias, customer_id, to_us(now), is_unit))
        mine, others = facts.profile(customer_id), facts.profile(alias)
        profile = merged(mine or Profile(customer_id=customer_id), others or Profile(customer_id=alias))
        if others is not None:
            profile = facts.put_profile(profile, now)
            facts.remove_profiles([alias])  # its history stays, for training
    return Joined(profile, new=True)


def merged(customer: Profile, visitor: Profile) -> Profile:
    """The customer's profile with what the visitor adds. Its own word stands, but any refusal beats consent."""
    consent = {**visitor.consent, **customer.consent}
    consent |= dict.fromkeys(customer.refused | visitor.refused, False)
    consent = _bounded(consent)
    said_us = {
        key: max(customer.said_us.get(key, 0), visitor.said_us.get(key, 0))  # an older word of either changes nothing
        for key in customer.said_us.keys() | visitor.said_us.keys()
        if key in consent or (key not in customer.consent and key not in visitor.consent)
    }
    room = max(MOST_KEYS - len(customer.attributes), 0)
    added = {name: value for name, value in visitor.attributes.items() if name not in customer.attributes}
    return msgspec.structs.replace(
        customer,
        attributes=customer.attributes | dict(list(added.items())[:room]),
        consent=consent,
        said_us=said_us,
        time_zone=customer.time_zone or visitor.time_zone,
        less_like=_union(customer.less_like, visitor.less_like),
    )


def _bounded(consent: Mapping[str, bool]) -> dict[str, bool]:
    """Refusals first, so that none is lost to the limit; channels and categories have one each."""
    first = sorted(consent.items(), key=lambda one: one[1])
    categories = [one for one in first if one[0].startswith(CATEGORY)]
    return dict([one for one in first if not one[0].startswith(CATEGORY)][:MOST_KEYS] + categories[:MOST_KEYS])


def _union(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other)))[:MOST_KEYS]


def joined_row(features: FeatureSet, rows: Sequence[StoredRow | None]) -> StoredRow | None:
    """The stored row of one customer seen under several keys; None if there is none under any.

    The rows are of one snapshot: their features, derived from the joined row, are those of all their events together.
    """
    found = [row for row in rows if row is not None]
    if len(found) < 2:
        return found[0] if found else None
    columns: list[Any] = [None] * len(found[0].columns)
    for at, keep in _kept(features):
        values = [value for row in found if (value := row.columns[at]) is not None]
        columns[at] = keep(values) if values else None
    for keys_at, counts_at in _keyed(features):
        columns[keys_at], counted = _joined_counts(found, keys_at, counts_at)
        for at, numbers in zip(counts_at, counted, strict=True):
            columns[at] = numbers
    return StoredRow(columns, max(row.as_of_us for row in found))


def _joined_counts(
    rows: Sequence[StoredRow], keys_at: int, counts_at: Sequence[int]
) -> tuple[list[str] | None, list[list[int] | None]]:
    """Keys in ascending order, and the counts of each column beside them."""
    held = [row for row in rows if row.columns[keys_at]]
    if not held:
        return rows[0].columns[keys_at], [rows[0].columns[at] for at in counts_at]
    keys = sorted({key for row in held for key in row.columns[keys_at]})
    sums: list[list[int] | None] = []
    for at in counts_at:
        totals = dict.fromkeys(keys, 0)
        for row in held:
            for key, n in zip(row.columns[keys_at], row.columns[at] or (), strict=False):
                totals[key] += n
        sums.append(list(totals.values()))
    return keys, sums


def _all_days(values: Sequence[Sequence[int]]) -> list[int]:
    return sorted({day for days in values for day in days})


_JOINING: dict[StoredKind, Callable[[Any], Any]] = {"sum": sum, "first": min, "last": max, "days": _all_days}


@lru_cache(maxsize=16)
def _kept(features: FeatureSet) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
    """Columns whose values join one by one: (position, how)."""
    columns = features.stored("customer")
    return tuple((at, _JOINING[column.kind]) for at, column in enumerate(columns) if column.kind in _JOINING)


@lru_cache(maxsize=16)
def _keyed(features: FeatureSet) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Columns that join by their keys: (position of the keys, positions of the counts beside them)."""
    columns = features.stored("customer")
    counts: dict[int, list[int]] = {at: [] for at, column in enumerate(columns) if column.kind == "keys"}
    keys_at = {(columns[at].of, columns[at].days): at for at in counts}
    known = features.aggregates("customer")
    for at, column in enumerate(columns):
        if column.kind == "counts":
            made = known[column.of]
            assert isinstance(made, CountBy)
            counts[keys_at[made.key, column.days]].append(at)
    return tuple((at, tuple(beside)) for at, beside in counts.items())
