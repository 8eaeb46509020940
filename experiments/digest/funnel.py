"""From decisions to acceptances: how many of each step of the week, and of the week before, as both ended."""

from __future__ import annotations

from typing import Literal

import msgspec

from experiments.digest.measures import Data
from experiments.digest.week import Week
from experiments.happened import NEGATIVE
from experiments.tables import Tables
from features.events import to_us

Step = Literal["decisions", "offers", "impressions", "clicks", "acceptances", "dismissals"]


class Count(msgspec.Struct, frozen=True):
    n: int
    customers: int


class Narrowing(msgspec.Struct, frozen=True, kw_only=True):
    """One step. None is not known, and `why` says so. Outcomes are of the week's impressions, up to its end."""

    step: Step
    title: str
    now: Count | None = None
    before: Count | None = None
    of: Step | None = None  # the step that `share` is of
    share: float | None = None  # of this week
    why: str | None = None


def funnel(tables: Tables, week: Week, data: Data) -> list[Narrowing]:
    """Steps in their order, over what `impressions` made."""
    decided = {at: _decided(tables, one) for at, one in (("now", week), ("before", week.before))}
    seen = {at: _seen(tables, one) for at, one in (("now", week), ("before", week.before))}
    outcomes = tables.settings.attribution.outcomes
    none = "no decision is in the log of this week: what was shown was chosen elsewhere"
    has_decisions = decided["now"]["decisions"].n > 0
    return [
        _step("decisions", "decisions", decided, why=None if has_decisions else none),
        _step("offers", "offers answered", decided, "decisions", why=None if has_decisions else none),
        _step("impressions", "impressions", seen, why=_never(data, "impression")),
        _step("clicks", "with a click", seen, "impressions", why=_never(data, "click")),
        _step("acceptances", "accepted", seen, "impressions", why=_never(data, *outcomes)),
        _step("dismissals", "dismissed or rejected", seen, "impressions", why=_never(data, *NEGATIVE)),
    ]  # fmt: skip


def _never(data: Data, *kinds: str) -> str | None:
    return None if data.types.intersection(kinds) else f"no {' or '.join(kinds)} was ever recorded"


def _step(
    step: Step, title: str, counted: dict[str, dict[Step, Count]], of: Step | None = None, *, why: str | None
) -> Narrowing:
    if why is not None:
        return Narrowing(step=step, title=title, of=of, why=why)
    now, before = counted["now"][step], counted["before"][step]
    whole = counted["now"][of].n if of is not None else 0
    return Narrowing(step=step, title=title, now=now, before=before, of=of, share=now.n / whole if whole else None)


def _decided(tables: Tables, week: Week) -> dict[Step, Count]:
    ((n, who, offers, offered),) = tables.db.execute(
        "SELECT count(DISTINCT decision_id), count(DISTINCT person), count(offer_id), "
        "count(DISTINCT CASE WHEN offer_id IS NOT NULL THEN person END) "
        f"FROM answered WHERE us >= {to_us(week.since)} AND us < {to_us(week.until)}"
    ).fetchall()
    return {"decisions": Count(n, who), "offers": Count(offers, offered)}


def _seen(tables: Tables, week: Week) -> dict[Step, Count]:
    until_us = to_us(week.until)
    conditions: dict[Step, str] = {
        "impressions": "TRUE",
        "clicks": f"clicked_us < {until_us}",
        "acceptances": f"accepted_us < {until_us}",
        "dismissals": f"dismissed_us < {until_us}",
    }
    columns = ", ".join(
        f"count(*) FILTER ({one}), count(DISTINCT person) FILTER ({one})" for one in conditions.values()
    )
    (values,) = tables.db.execute(
        f"SELECT {columns} FROM shown WHERE us >= {to_us(week.since)} AND us < {until_us}"
    ).fetchall()
    return {step: Count(*values[2 * i : 2 * i + 2]) for i, step in enumerate(conditions)}
