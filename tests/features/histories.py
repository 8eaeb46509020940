"""Builders for the tests of features: a lake from a few events, and a slow, obvious recomputation to compare with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from features.data_settings import DataSettings
from features.definitions import FeatureSet, dsl
from features.events import US_PER_DAY, to_us
from features.facts import Facts, LakeFile
from features.home import Home
from features.lake import EVENT_SCHEMA
from features.log import LogEvent

FIRST = date(2026, 3, 1)
FIRST_US = to_us(datetime(2026, 3, 1, tzinfo=UTC))


def event(
    customer: str,
    kind: str,
    at_us: int,
    *,
    offer: str | None = None,
    category: str | None = None,
    channel: str | None = None,
    value: Any = None,
    currency: str | None = None,
    event_id: str | None = None,
    position: int = 0,
) -> LogEvent:
    amount = None if value is None else Decimal(str(value)).quantize(Decimal("0.0001"))
    return LogEvent(
        position, event_id or f"{customer}-{kind}-{at_us}-{offer}-{value}", kind, customer, at_us, None, offer, None,
        None, channel, category, amount, currency, "{}",
    )  # fmt: skip


def at(day: int, hour: float = 0.0) -> int:
    """Microseconds of an hour on the n-th day of the test's calendar."""
    return FIRST_US + day * US_PER_DAY + round(hour * 3_600_000_000)


def day_name(day: int) -> str:
    return (FIRST + timedelta(days=day)).isoformat()


def open_home(folder: Path, **settings: Any) -> tuple[Home, Facts]:
    home = Home(folder)
    facts = Facts(home.facts_db)
    facts.set_data_settings(DataSettings(**settings))
    return home, facts


def write_lake(home: Home, facts: Facts, events: Iterable[LogEvent], batch: str = "test") -> None:
    """One file per day; a second batch adds files beside the first's."""
    by_day: dict[str, list[LogEvent]] = {}
    for one in events:
        name = (date(1970, 1, 1) + timedelta(days=one.occurred_us // US_PER_DAY)).isoformat()
        by_day.setdefault(name, []).append(one)
    for name, some in by_day.items():
        rows = sorted(
            (e.event_id, e.event_type, e.customer_id, e.occurred_us, e.occurred_us, e.decision_id, e.offer_id,
             e.placement_id, e.session_id, e.channel, e.category, e.value, e.currency, e.properties_json)
            for e in sorted(some, key=lambda e: (e.occurred_us, e.event_id))
        )  # fmt: skip
        rows.sort(key=lambda row: (row[3], row[0]))
        columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), EVENT_SCHEMA, strict=True)]
        path = home.lake / "events" / f"day={name}" / f"{batch}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, schema=EVENT_SCHEMA), path)
        digest = f"{batch}-{hash(tuple(rows))}"
        facts.add_lake_files(
            [LakeFile("events", path.relative_to(home.lake).as_posix(), name, len(rows), digest, batch)]
        )


@dataclass(frozen=True)
class Recomputation:
    """Every feature from the whole history, event by event, as its declaration says in words."""

    features: FeatureSet
    events: Sequence[LogEvent]
    attributes: dict[str, dict[str, Any]]  # by customer, already numbers or texts

    def customer(self, customer: str, now_us: int) -> dict[str, Any]:
        past = [e for e in self.events if e.customer_id == customer and e.occurred_us < now_us]
        today = now_us // US_PER_DAY
        return {
            f.name: self._value(f, past, now_us, lambda e, days: today - e.occurred_us // US_PER_DAY < days, customer)
            for f in self.features.customer
        }

    def offer(self, offer: str, now_us: int) -> dict[str, Any]:
        today = now_us // US_PER_DAY
        past = [e for e in self.events if e.offer_id == offer and e.occurred_us // US_PER_DAY < today]
        return {
            f.name: self._value(f, past, now_us, lambda e, days: today - e.occurred_us // US_PER_DAY <= days, offer)
            for f in self.features.offer
        }

    def _value(self, feature: Any, past: list[LogEvent], now_us: int, within: Any, key: str) -> Any:
        value = feature.value
        known = self.features.aggregates(feature.entity)

        def those(name: str, days: int | None) -> list[LogEvent]:
            return [e for e in past if _counts(known[name].where, e) and (days is None or within(e, days))]

        def total(name: str, days: int | None) -> float:
            if isinstance(known[name], dsl.Sum):
                return float(sum((e.value for e in those(name, days) if e.value is not None
                                  and e.currency == self.features.currency), Decimal(0)))  # fmt: skip
            return float(len(those(name, days)))

        def by_key(name: str, days: int) -> dict[str, float]:
            names = [getattr(e, known[name].key) for e in those(name, days)]
            return {k: float(n) for k, n in Counter(n for n in names if n is not None).items()}

        default = math.nan if feature.default is None else feature.default
        match value:
            case dsl.Total(of=of, days=days):
                return total(of, days)
            case dsl.Share(of=of, by=by, days=days):
                return total(of, days) / total(by, days) if total(by, days) else default
            case dsl.Smoothed(of=of, by=by, days=days, prior=prior, weight=weight):
                return (total(of, days) + prior * weight) / (total(by, days) + weight)
            case dsl.Age(of=of):
                times = [e.occurred_us for e in those(of, None)]
                if not times:
                    return default
                return (now_us - (max if isinstance(known[of], dsl.Last) else min)(times)) / US_PER_DAY
            case dsl.ActiveDays(of=of, days=days):
                return float(len({e.occurred_us // US_PER_DAY for e in those(of, days)}))
            case dsl.ByKey(of=of, days=days):
                return by_key(of, days)
            case dsl.Size(of=of, days=days):
                return float(len(by_key(of, days)))
            case dsl.Diversity(of=of, days=days):
                n = list(by_key(of, days).values())
                return -sum(one / sum(n) * math.log(one / sum(n)) for one in n) if len(n) > 1 else 0.0
            case dsl.Favourite(of=of, days=days):
                counts = by_key(of, days)
                return min(counts, key=lambda k: (-counts[k], k)) if counts else None
            case dsl.Attribute(name=name, of=kind):
                told = self.attributes.get(key, {}).get(name)
                if kind == "category":
                    return told
                if not isinstance(told, int | float):  # unknown, or not of the kind that most customers have
                    return math.nan
                return (now_us - told) / US_PER_DAY if kind == "time" else float(told)
        raise AssertionError(value)


def _counts(where: dsl.Where, e: LogEvent) -> bool:
    hour = datetime.fromtimestamp(e.occurred_us / 1e6, UTC).hour if e.occurred_us % US_PER_DAY else 0
    if where.event_types and e.event_type not in where.event_types:
        return False
    if where.has_offer is not None and (e.offer_id is not None) != where.has_offer:
        return False
    if where.channels and e.channel not in where.channels:
        return False
    return where.hours is None or where.hours[0] <= hour < where.hours[1]


def different(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The features on which two answers disagree; floats to 9 digits, NaN equals NaN."""
    assert set(one) == set(other)
    return {name: (one[name], other[name]) for name in one if not _same(one[name], other[name])}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
