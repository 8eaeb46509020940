"""The state of one entity at one instant: stored whole days, with what happened since merged in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

from features.definitions.dsl import E4, Count, Days, First, Last, Sum
from features.events import US_PER_DAY
from features.live_plan import Counts, Keyed, Part, Plan
from features.log import LogEvent

US_PER_HOUR = 3_600_000_000


@dataclass(slots=True)
class StoredRow:
    """One entity's row of a snapshot: values in the order of `FeatureSet.stored`, None where there is none."""

    columns: Sequence[Any]
    as_of_us: int  # the snapshot covers what happened before this instant
    base: Any = field(default=None, compare=False, repr=False)  # what `live` worked out of it and reads again


class State(NamedTuple):
    """By slot of the plan."""

    sums: list[float]
    times: list[float]  # NaN if never
    day_sets: list[Sequence[int]]  # ascending days since 1970
    counts: list[Counts]


def state_of(plan: Plan, stored: StoredRow | None) -> State:
    """What is stored, or nothing."""
    if stored is None:
        return State(
            [0.0] * len(plan.sum_columns),
            [math.nan] * len(plan.time_columns),
            [()] * len(plan.day_columns),
            [{} for _ in plan.keyed],
        )
    row = stored.columns
    return State(
        [(row[at] or 0.0) if at >= 0 else 0.0 for at in plan.sum_columns],
        [math.nan if (t := row[at]) is None else t for at in plan.time_columns],
        [(row[at] or ()) if at >= 0 else () for at in plan.day_columns],
        [_counts(row, keyed) for keyed in plan.keyed],
    )


def copied(state: State) -> State:
    """One that may be changed."""
    return State(state.sums[:], state.times[:], state.day_sets[:], [counts.copy() for counts in state.counts])


def add_events(plan: Plan, state: State, events: Sequence[LogEvent], now_day: int) -> None:
    """Changes the state. An event a little ahead of the clock counts as today's."""
    added: list[set[int]] = [set() for _ in state.day_sets]
    for event in events:
        _add(plan, event, now_day, state, added)
    for at, new in enumerate(added):
        if new:
            state.day_sets[at] = sorted({*state.day_sets[at], *new})


def _counts(row: Sequence[Any], keyed: Keyed) -> Counts:
    if keyed.counts_at < 0 or not (numbers := row[keyed.counts_at]) or not any(numbers):
        return {}
    counted = compress(row[keyed.keys_at], numbers)  # loops in C: this is most of a first read
    return dict(zip(counted, map(float, filter(None, numbers)), strict=True))


def _add(plan: Plan, event: LogEvent, now_day: int, state: State, days: list[set[int]]) -> None:
    sums, times, _, counts = state
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


def _matching(plan: Plan, event: LogEvent) -> tuple[Part, ...]:
    """The aggregates in which an event counts."""
    channel = event.channel if event.channel in plan.channels else None
    hour = event.occurred_us % US_PER_DAY // US_PER_HOUR
    asked = (event.event_type, event.offer_id is not None, channel, hour)
    parts = plan.matched.get(asked)
    if parts is None:
        parts = tuple(part for made, part in plan.aggregates if part.slots and made.where.holds(*asked))
        plan.matched[asked] = parts
    return parts
