"""The weekly digest as figures: everything that its document shows, from the tables of one deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from experiments.digest.caused import Holdout, caused
from experiments.digest.funnel import Narrowing, funnel
from experiments.digest.likings import Likings, likings
from experiments.digest.measures import Data, Measure, data_until, measures
from experiments.digest.movers import Movers, movers
from experiments.digest.running import Experiments, experiments_of
from experiments.digest.said import Said, said
from experiments.digest.shown import impressions
from experiments.digest.week import DAYS, Week
from experiments.lifecycle import lifecycle
from experiments.tables import Tables
from experiments.units import keyed
from features.errors import BadInput
from features.events import from_us, to_us
from features.experiment import Experiment


class Day(msgspec.Struct, frozen=True):
    """Customers with an activity on one day of the week; None: the data do not reach it."""

    day: str  # YYYY-MM-DD, of the deployment's calendar
    active: int | None
    active_before: int | None  # the same weekday, the week before


class StageChange(msgspec.Struct, frozen=True, kw_only=True):
    """A stage of the lifecycle; None: the data begin too late to know, and of this week `why` says so."""

    stage: str
    n: int | None
    share: float | None
    why: str | None
    n_before: int | None
    share_before: float | None


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """One week. What could not be computed is None and says why beside it."""

    week: str  # such as 2026-W09
    since: datetime
    until: datetime
    time_zone: str
    currency: str
    data_from: datetime  # the first and the last event up to the week's end
    data_until: datetime
    measures: tuple[Measure, ...]
    days: tuple[Day, ...]
    lifecycle: tuple[StageChange, ...]
    funnel: tuple[Narrowing, ...]
    movers: Movers | None  # None: the data begin after the week before did
    offer_names: dict[str, str]  # of the offers that movers and likings name
    said: Said
    likings: Likings
    experiments: Experiments
    holdout: Holdout
    alarms: tuple[str, ...]  # somebody should look today
    notes: tuple[str, ...]  # what to know before believing the figures


def make_digest(
    tables: Tables,
    week: Week,
    experiments: Sequence[Experiment] = (),
    holdout: Experiment | None = None,
    *,
    names: Mapping[str, str] | None = None,
    n_quotes: int = 3,
) -> Digest:
    """The digest of one week; `BadInput` when nothing happened in it at all. `names` are those of the offers."""
    data = data_until(tables, week.until)
    if data is None or data.last_us < to_us(week.since):
        raise BadInput(f"nothing happened in {week.name}: {_reach(tables)}", "week")
    with impressions(tables, week):
        steps, liked = tuple(funnel(tables, week, data)), likings(tables, week)
        moved = movers(tables, week) if _reaches(data, week.before) else None
    ran = experiments_of(tables, experiments, week)
    served = caused(tables, holdout, week, data)
    return Digest(
        week=week.name,
        since=week.since,
        until=week.until,
        time_zone=str(week.zone),
        currency=tables.settings.currency,
        data_from=from_us(data.first_us),
        data_until=from_us(data.last_us),
        measures=tuple(measures(tables, week, data)),
        days=tuple(_days(tables, week, data)),
        lifecycle=tuple(_stages(tables, week, data)),
        funnel=steps if _reaches(data, week.before) else tuple(map(_without_before, steps)),
        movers=moved,
        offer_names=_named(moved, liked, names or {}),
        said=said(tables, week, n_quotes),
        likings=liked,
        experiments=ran,
        holdout=served,
        alarms=(
            *(f"experiment {one.experiment_id}: {alarm}" for one in ran.states for alarm in one.alarms),
            *(f"holdout: {alarm}" for alarm in served.alarms),
        ),
        notes=tuple(_notes(tables, week, data)),
    )


def _named(moved: Movers | None, liked: Likings, names: Mapping[str, str]) -> dict[str, str]:
    told = {one.offer_id for one in (*liked.likes, *liked.rejects)}
    if moved is not None:
        told |= {one.offer_id for one in (*moved.up, *moved.down, *moved.changed)}
    return {offer_id: names[offer_id] for offer_id in sorted(told) if offer_id in names}


def _reach(tables: Tables) -> str:
    ((first, last),) = tables.db.execute("SELECT min(us), max(us) FROM events").fetchall()
    if first is None:
        return "the data hold no event"
    return f"the data hold events from {from_us(first):%Y-%m-%d} to {from_us(last):%Y-%m-%d}"


def _reaches(data: Data, week: Week) -> bool:
    """Whether the data are of the whole week, but for a day."""
    return from_us(data.first_us) <= week.since + timedelta(days=1)


def _without_before(step: Narrowing) -> Narrowing:
    return msgspec.structs.replace(step, before=None)


def _days(tables: Tables, week: Week, data: Data) -> list[Day]:
    """What counts as activity is the data settings' `churn.activity`."""
    activity = ", ".join(f"'{name}'" for name in tables.settings.churn.activity)
    ends = [to_us(week.midnight(day)) for day in range(-DAYS, DAYS + 1)]
    counts = ", ".join(
        f"count(DISTINCT CASE WHEN us >= {since} AND us < {until} THEN key END)" for since, until in pairwise(ends)
    )
    (row,) = tables.db.execute(
        f"SELECT {counts} FROM {keyed(tables, 'customer', ends[-1])} "
        f"WHERE event_type IN ({activity}) AND us >= {ends[0]} AND us < {ends[-1]}"
    ).fetchall()
    known = [
        n if data.first_us < until and since <= data.last_us else None
        for n, (since, until) in zip(row, pairwise(ends), strict=True)
    ]
    return [Day((week.monday + timedelta(days=day)).isoformat(), known[DAYS + day], known[day]) for day in range(DAYS)]


def _stages(tables: Tables, week: Week, data: Data) -> list[StageChange]:
    before = {one.stage: one for one in lifecycle(tables, week.since)} if data.first_us < to_us(week.since) else {}
    return [
        StageChange(
            stage=one.stage,
            n=one.n,
            share=one.share,
            why=one.why,
            n_before=before[one.stage].n if before else None,
            share_before=before[one.stage].share if before else None,
        )
        for one in lifecycle(tables, week.until)
    ]


def _notes(tables: Tables, week: Week, data: Data) -> list[str]:
    notes = []
    last = from_us(data.last_us)
    if last < week.until - timedelta(days=1):
        notes.append(
            f"The last event is of {last:%Y-%m-%d %H:%M} UTC, before the week was over: counts of this week are of a "
            "part of it, and do not compare with those of the week before."
        )
    if not _reaches(data, week.before):
        notes.append(
            f"The data begin on {from_us(data.first_us):%Y-%m-%d}, after the week before did: there is nothing to "
            "compare with."
        )
    rows = tables.db.execute(
        "SELECT coalesce(currency, 'no currency'), count(*) FROM events WHERE event_type = 'purchase' AND "
        f"us >= {to_us(week.since)} AND us < {to_us(week.until)} AND currency IS DISTINCT FROM $1 "
        "GROUP BY 1 ORDER BY 1",
        [tables.settings.currency],
    ).fetchall()
    notes += [
        f"{n:,} purchases in {currency} do not count: money is in {tables.settings.currency}" for currency, n in rows
    ]
    return notes
