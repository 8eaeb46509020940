"""One customer's features at an instant: the stored whole days, plus what happened since, by the same declarations.

Serving asks for one customer (`features_of`), training for many instants (`feature_table`). One row is calculated
number by number and many as arrays, because arrays of one row cost more than the arithmetic; a test holds them equal.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.definitions.dsl import Entity, FeatureSet
from features.definitions.profile import attribute_value
from features.events import US_PER_DAY
from features.live_plan import Numbers, Plan, plan_of
from features.live_state import US_PER_HOUR, State, StoredRow, add_events, copied, state_of
from features.log import LogEvent
from features.profile import Profile

__all__ = [
    "US_PER_HOUR",
    "Instant",
    "StoredRow",
    "Value",
    "feature_table",
    "features_of",
    "offer_features_of",
    "stored_table",
]
ROWS_PER_BLOCK = 20_000
Value: TypeAlias = float | str | dict[str, float] | None


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
    plan = plan_of(feature_set, "customer")
    known = profile.attributes if profile is not None else {}
    attributes = [attribute_value(kind, known.get(name)) for name, kind in plan.attributes]
    return _one(plan, Instant(stored, recent, attributes, now_us))


def offer_features_of(feature_set: FeatureSet, stored: StoredRow | None, now_us: int) -> dict[str, Value]:
    """All offer features by name; the defaults for an offer that nobody has seen."""
    return _one(plan_of(feature_set, "offer"), Instant(stored, (), (), now_us))


def feature_table(feature_set: FeatureSet, entity: Entity, instants: Iterable[Instant]) -> dict[str, NDArray[Any]]:
    """One array per feature, in feature order: float64 for numbers, objects for categories and mappings."""
    plan = plan_of(feature_set, entity)
    blocks = []
    rows = iter(instants)
    while block := list(islice(rows, ROWS_PER_BLOCK)):
        blocks.append(_block(plan, block))
    if not blocks:
        blocks.append(_block(plan, []))
    return {
        feature.name: np.concatenate([block[feature.name] for block in blocks]) for feature in feature_set.of(entity)
    }


def stored_table(
    feature_set: FeatureSet,
    entity: Entity,
    stored: Iterable[tuple[NDArray[np.intp], Any]],
    since_us: NDArray[np.int64],
    now_us: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """The same of stored rows alone: `stored` has positions among the rows, and an Arrow table of stored columns.

    For entities of which nothing is live and nothing is kept by key or by day, such as offers.
    """
    plan = plan_of(feature_set, entity)
    if plan.keyed or plan.day_columns or plan.attributes:
        raise ValueError(f"rows of a {entity} are more than numbers")
    n = len(now_us)
    sums = np.zeros((n, len(plan.sum_columns)))
    times = np.full((n, len(plan.time_columns)), np.nan)
    for at, table in stored:
        for into, columns in ((sums, plan.sum_columns), (times, plan.time_columns)):
            for slot, column in enumerate(columns):
                if column >= 0:
                    values = table.column(column).to_numpy()
                    into[at, slot] = np.where(np.isnan(values), 0.0, values) if into is sums else values
    nothing, now = np.zeros((n, 0)), now_us.astype(np.float64)
    numbers = _numbers(plan, sums, times, nothing, nothing, now)
    unknown = _numbers(plan, np.zeros_like(sums), np.full_like(times, np.nan), nothing, nothing, now)
    age_us, ttl_us = now_us - since_us, dict(plan.ttl_us)
    column_of = {name: column for column, name in enumerate(plan.number_names)}
    return {
        feature.name: np.where(
            age_us > ttl_us[feature.name], unknown[:, column_of[feature.name]], numbers[:, column_of[feature.name]]
        )
        for feature in feature_set.of(entity)
    }


# One row


@dataclass(frozen=True, slots=True)
class _Base:
    """What a stored row says by itself on one day; shared, so never changed."""

    plan: Plan
    day: int
    state: State
    found: dict[str, Value]  # every feature; those that depend on the instant or the profile are filled in later


def _one(plan: Plan, instant: Instant) -> dict[str, Value]:
    day = instant.now_us // US_PER_DAY
    base = _base(plan, instant.stored, day) if instant.stored is not None else _nothing(plan)
    if instant.recent:
        state = copied(base.state)
        add_events(plan, state, instant.recent, day)
        found = _derived(plan, state, day)
    else:
        state, found = base.state, base.found.copy()
        for name, at in plan.mappings:
            found[name] = state.counts[at].copy()  # the caller's own
    _fill_in(plan, found, state.times, instant)
    expired = _expired(plan, instant)
    if expired:
        fresh = _one(plan, instant._replace(stored=None))
        found.update((name, fresh[name]) for name in expired)
    return found


def _base(plan: Plan, row: StoredRow, day: int) -> _Base:
    """Kept with the row, which is read again and again while its customer is there."""
    base: _Base | None = row.base
    if base is None or base.plan is not plan or base.day != day:
        state = state_of(plan, row)
        base = row.base = _Base(plan, day, state, _derived(plan, state, day))
    return base


@lru_cache(maxsize=64)
def _nothing(plan: Plan) -> _Base:
    """Of an entity without a stored row, on any day."""
    state = state_of(plan, None)
    return _Base(plan, 0, state, _derived(plan, state, 0))


def _derived(plan: Plan, state: State, day: int) -> dict[str, Value]:
    """Every feature by name, in order; what depends on the instant or the profile has no value yet."""
    sums, counts = state.sums, state.counts
    found = plan.blank.copy()
    for name, at, unit in plan.totals:
        found[name] = sums[at] / unit
    for name, of, by, unit, default in plan.shares:
        found[name] = _divided(sums[of], sums[by] * unit) if sums[by] else default
    for name, of, by, unit, add, weight in plan.smoothed:
        found[name] = _divided(sums[of] / unit + add, sums[by] + weight)
    for name, at, days in plan.active:
        found[name] = _active_days(state.day_sets[at], days, day)
    for name, at, measure in plan.measures:
        found[name] = measure(counts[at])
    for name, at, measure in plan.objects:
        found[name] = measure(counts[at])
    return found


def _fill_in(plan: Plan, found: dict[str, Value], times: Sequence[float], instant: Instant) -> None:
    """Ages, and what the profile says."""
    now_us, attributes = float(instant.now_us), instant.attributes
    for name, at, default in plan.ages:
        age_us = now_us - times[at]
        if age_us != age_us:  # NaN: never
            found[name] = default
        else:
            found[name] = age_us / US_PER_DAY if age_us > 0.0 else 0.0
    for name, at, is_time in plan.told:
        told: Any = attributes[at]
        value = math.nan if told is None else float(told)
        found[name] = (now_us - value) / US_PER_DAY if is_time else value
    for name, at in plan.categories:
        found[name] = attributes[at]


def _divided(one: float, other: float) -> float:
    """As arrays divide, also by zero."""
    return one / other if other else float(np.float64(one) / np.float64(other))


def _active_days(held: Sequence[int], days: int, day: int) -> float:
    """On how many of the last `days` days it happened."""
    return float(len(held) - bisect_right(held, day - days))


def _expired(plan: Plan, instant: Instant) -> Sequence[str]:
    """The features whose stored part is too old to be read."""
    if instant.stored is None:
        return ()
    age_us = instant.now_us - instant.stored.as_of_us
    if age_us <= plan.shortest_ttl_us:
        return ()
    return [name for name, ttl_us in plan.ttl_us if age_us > ttl_us]


# Many rows


def _block(plan: Plan, block: Sequence[Instant]) -> dict[str, NDArray[Any]]:
    n = len(block)
    states = [_state(plan, instant) for instant in block]
    sizes = [_sizes(plan, state, one.now_us // US_PER_DAY) for state, one in zip(states, block, strict=True)]
    told = [[one.attributes[t.at] for t in plan.told] for one in block]  # None becomes NaN
    numbers = _numbers(
        plan,
        np.array([state.sums for state in states], np.float64).reshape(n, len(plan.sum_columns)),
        np.array([state.times for state in states], np.float64).reshape(n, len(plan.time_columns)),
        np.array(sizes, np.float64).reshape(n, len(plan.active) + len(plan.measures)),
        np.array(told, np.float64).reshape(n, len(plan.told)),
        np.array([instant.now_us for instant in block], np.float64),
    )
    found: dict[str, NDArray[Any]] = {name: numbers[:, at].copy() for at, name in enumerate(plan.number_names)}
    for name, at, measure in plan.objects:
        found[name] = _objects([measure(state.counts[at]) for state in states])
    for name, at in plan.categories:
        found[name] = _objects([instant.attributes[at] for instant in block])
    for row, instant in enumerate(block):
        expired = _expired(plan, instant)
        if expired:
            fresh = _one(plan, instant._replace(stored=None))
            for name in expired:
                found[name][row] = fresh[name]
    return found


def _state(plan: Plan, instant: Instant) -> State:
    state = state_of(plan, instant.stored)
    if instant.recent:
        add_events(plan, state, instant.recent, instant.now_us // US_PER_DAY)
    return state


def _sizes(plan: Plan, state: State, day: int) -> list[float]:
    active = [_active_days(state.day_sets[at], days, day) for _, at, days in plan.active]
    return active + [measure(state.counts[at]) for _, at, measure in plan.measures]


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _numbers(plan: Plan, sums: Numbers, times: Numbers, sizes: Numbers, told: Numbers, now_us: Numbers) -> Numbers:
    """Shapes (n, slots of each kind), (n,) -> (n, number features), in the order of `plan.number_names`."""
    of = plan.arrays
    by = sums.take(of.share_by, axis=1)
    empty = by == 0
    by[empty] = 1.0
    shares = sums.take(of.share_of, axis=1) / (by * of.share_unit)
    np.copyto(shares, of.share_default, where=empty)
    smoothed = (sums.take(of.smooth_of, axis=1) / of.smooth_unit + of.smooth_add) / (
        sums.take(of.smooth_by, axis=1) + of.smooth_weight
    )
    ages = np.maximum(now_us[:, None] - times.take(of.age_from, axis=1), 0.0) / US_PER_DAY
    np.copyto(ages, of.age_default, where=np.isnan(ages))
    told = np.where(of.told_is_time, (now_us[:, None] - told) / US_PER_DAY, told)
    totals = sums.take(of.total_from, axis=1) / of.total_unit
    return np.concatenate((totals, shares, smoothed, ages, sizes, told), axis=1)
