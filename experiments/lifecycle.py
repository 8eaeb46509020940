"""Where customers stand with us: new, active, returned, at risk, lapsed or left; each in exactly one stage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from experiments.tables import Tables
from experiments.units import keyed, make_population
from features.events import EPOCH, US_PER_DAY, to_us

RECENT_DAYS, LAPSED_DAYS = 30, 90
STAGES = {  # in the order in which they are asked; the first that holds is the stage
    "left": "cancelled, and not active since",
    "lapsed": f"last active {LAPSED_DAYS} days ago or longer",
    "at risk": f"last active {RECENT_DAYS} to {LAPSED_DAYS} days ago",
    "new": f"first active within {RECENT_DAYS} days",
    "returned": f"active within {RECENT_DAYS} days, not in the {RECENT_DAYS} days before, but earlier",
    "active": f"active within {RECENT_DAYS} days and in the {RECENT_DAYS} days before",
}
NEEDED_DAYS = {  # of data before the end: with fewer, who was active earlier would be taken for new, or not be there
    "left": 0,
    "lapsed": LAPSED_DAYS,
    "at risk": LAPSED_DAYS,
    "new": 2 * RECENT_DAYS,
    "returned": 2 * RECENT_DAYS,
    "active": 2 * RECENT_DAYS,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """How many customers stand where. `n` and `share` are None where the data begin too late to know; `why` then says
    so.
    """

    group: str  # "all", or the value of what was grouped by
    stage: str  # of STAGES
    n: int | None
    share: float | None  # of the group
    why: str | None = None


def lifecycle(tables: Tables, at: datetime, by: str | None = None) -> list[Stage]:
    """Everybody ever active before `at`, by stage; `by` as in `measured`. Empty stages are there with 0.

    What counts as activity is the data settings' `churn.activity`. The data begin with the first event of any kind.
    """
    at_us = to_us(at)
    made = make_population(tables, "all", EPOCH, at, by)
    group = "u.segment_0" if made.segments else "u.variant"
    recent, before, lapsed = (at_us - days * US_PER_DAY for days in (RECENT_DAYS, 2 * RECENT_DAYS, LAPSED_DAYS))
    activity = ", ".join(f"'{name}'" for name in tables.settings.churn.activity)
    active = f"e.event_type IN ({activity})"
    conditions = {
        "left": "cancelled > last",
        "lapsed": f"last <= {lapsed}",
        "at risk": f"last <= {recent}",
        "new": f"first > {recent}",
        "returned": "between_them = 0",
        "active": "TRUE",
    }
    stage = " ".join(f"WHEN {conditions[name]} THEN '{name}'" for name in STAGES)
    rows = tables.db.execute(
        f"SELECT grouped, CASE {stage} END AS stage, count(*) FROM (SELECT u.uid, {group} AS grouped, "
        f"min(CASE WHEN {active} THEN e.us END) AS first, max(CASE WHEN {active} THEN e.us END) AS last, "
        f"max(CASE WHEN {active} AND e.us > {before} AND e.us <= {recent} THEN 1 ELSE 0 END) AS between_them, "
        "max(CASE WHEN e.event_type = 'cancel' THEN e.us END) AS cancelled "
        f"FROM {keyed(tables, 'customer', at_us)} e JOIN units u ON e.key = u.key WHERE e.us < {at_us} "
        f"GROUP BY u.uid, {group}) WHERE last IS NOT NULL GROUP BY 1, 2"
    ).fetchall()
    tables.db.execute("DROP TABLE units")
    counts = {(str(name), str(where)): int(n) for name, where, n in rows}
    totals: dict[str, int] = {}
    for (name, _), n in counts.items():
        totals[name] = totals.get(name, 0) + n
    ((first_us,),) = tables.db.execute(f"SELECT min(us) FROM events WHERE us < {at_us}").fetchall()
    return [
        _stage(name, where, counts.get((name, where), 0), totals[name], at_us - first_us)
        for name in sorted(totals)
        for where in STAGES
    ]


def _stage(group: str, stage: str, n: int, total: int, watched_us: int) -> Stage:
    needed = NEEDED_DAYS[stage]
    if watched_us >= needed * US_PER_DAY:
        return Stage(group, stage, n, n / total)
    why = f"the data begin {watched_us / US_PER_DAY:.0f} days before the end, {needed} are needed"
    return Stage(group, stage, None, None, why)
