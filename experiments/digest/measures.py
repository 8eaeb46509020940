"""The engagement measures of a week with their intervals, and their change against the week before.

Levels are those of `experiments/population.py`. A change is of the same customers at two times, so its interval takes
both weeks of each customer together (the delta method over the union of both weeks' customers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from scipy.stats import norm

from experiments.digest.week import DAYS, Week
from experiments.happened import never_recorded
from experiments.metrics import MAU_DAYS, METRICS, RETAINED_UNTIL, Metric
from experiments.moments import answering
from experiments.per_unit import unit_rows
from experiments.population import Measured, measured_all
from experiments.statistics.corrections import benjamini_hochberg
from experiments.tables import Tables
from experiments.units import Question, make_population
from features.data_settings import DataSettings
from features.events import US_PER_DAY, from_us, to_us

Group = Literal["engagement", "offers", "money", "said", "service"]
ALPHA = 0.05
FAR_FROM_ZERO = 3.0  # standard errors that both weeks must be above 0 for a relative change to mean something
SHOWN: Mapping[Group, tuple[str, ...]] = {
    "engagement": (
        "customer_engagement", "active_customers", "visit_frequency", "mau", "stickiness", "retention", "churn_rate",
    ),
    "offers": (
        "click_through_rate", "acceptance_rate", "dismissal_rate", "opt_out_rate", "offer_value_per_visitor",
    ),
    "money": ("revenue_per_customer", "clv"),
    "said": ("nps", "csat", "ces"),
    "service": ("latency_p50", "latency_p99"),
}  # fmt: skip


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """A measure at one time. `value` is None where it could not be measured, and `why` says so."""

    since: datetime
    until: datetime
    n: int = 0  # customers measured
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """This week minus the one before; relative where both are clearly above zero."""

    absolute: float
    low: float | None = None  # None: all customers changed alike, or too few
    high: float | None = None
    relative: float | None = None
    relative_low: float | None = None
    relative_high: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None  # Benjamini-Hochberg over all measures of the digest


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of the week."""

    metric: str
    title: str
    group: Group
    unit: str
    better: Literal["higher", "lower"]
    formula: str
    now: Level
    before: Level
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """What the events hold at all."""

    first_us: int
    last_us: int
    types: frozenset[str]  # of events that ever happened


def data_until(tables: Tables, until: datetime) -> Data | None:
    """Of all events before that time; None if there are none."""
    rows = tables.db.execute(
        f"SELECT event_type, min(us), max(us) FROM events WHERE us < {to_us(until)} GROUP BY 1"
    ).fetchall()
    if not rows:
        return None
    return Data(min(row[1] for row in rows), max(row[2] for row in rows), frozenset(str(row[0]) for row in rows))


def measures(tables: Tables, week: Week, data: Data, shown: Mapping[Group, tuple[str, ...]] = SHOWN) -> list[Measure]:
    """All that are `shown`, each beside the week before, those that cannot be measured too."""
    group_of = {name: group for group, names in shown.items() for name in names}
    found: dict[str, Measure] = {}
    by_days: dict[int, list[Metric]] = {}
    for name in group_of:
        by_days.setdefault(days_of(METRICS[name], tables), []).append(METRICS[name])
    for days, metrics in by_days.items():
        spans = _span(week, days), _span(week.before, days)
        levels = [_levels(tables, metrics, span, data) for span in spans]
        both = [one for one in metrics if all(level[one.name].value is not None for level in levels)]
        changes = _changes(tables, both, spans, levels)
        for one in metrics:
            found[one.name] = Measure(
                metric=one.name,
                title=one.title,
                group=group_of[one.name],
                unit=one.unit,
                better=one.better,
                formula=one.formula,
                now=levels[0][one.name],
                before=levels[1][one.name],
                change=changes.get(one.name),
            )
    return _adjusted([found[name] for name in group_of])


def days_of(metric: Metric, tables: Tables) -> int:
    """The days before the week's end that a metric needs: its own window after each customer's beginning, and 7."""
    churn = tables.settings.churn.gap_days + tables.settings.churn.horizon_days
    needs = {
        "mau": MAU_DAYS,
        "stickiness": MAU_DAYS,
        "retention": RETAINED_UNTIL + DAYS,
        "churn_rate": churn + DAYS,
        "clv": churn + DAYS,
        "acceptance_rate": math.ceil(longest_window_us(tables) / US_PER_DAY) + DAYS,
    }
    return needs.get(metric.name, DAYS)


def longest_window_us(tables: Tables) -> int:
    """How long the slowest offer's impressions are watched."""
    rules = tables.settings.attribution
    days = rules.window_days if rules.at_most_days is None else min(rules.window_days, rules.at_most_days)
    (longest,) = tables.db.execute("SELECT max(watched_us) FROM offers").fetchone() or (None,)
    return int(longest) if tables.own_windows and longest is not None else int(days * US_PER_DAY)


def _span(week: Week, days: int) -> tuple[datetime, datetime]:
    """Days of 24 hours, so that no window is cut where clocks change; a week is the calendar's."""
    return (week.since if days == DAYS else week.until - timedelta(days=days)), week.until


def _levels(tables: Tables, metrics: Sequence[Metric], span: tuple[datetime, datetime], data: Data) -> dict[str, Level]:
    since, until = span
    why = {one.name: why_not(one, since, data, tables.settings) for one in metrics}
    known = [one.name for one in metrics if why[one.name] is None]
    measured = {one.metric: one for one in measured_all(tables, known, since, until, alpha=ALPHA)}
    return {
        one.name: _level(measured[one.name], since, until)
        if one.name in measured
        else Level(since=since, until=until, why=why[one.name])
        for one in metrics
    }


def _level(one: Measured, since: datetime, until: datetime) -> Level:
    return Level(since=since, until=until, n=one.n, value=one.value, low=one.low, high=one.high, why=one.why)


def why_not(metric: Metric, since: datetime, data: Data, settings: DataSettings) -> str | None:
    """Why a metric would be a number that means nothing; None if it means something."""
    first = from_us(data.first_us)
    if first > since + timedelta(days=1):
        return f"it needs what happened from {since:%Y-%m-%d} on, and the data begin on {first:%Y-%m-%d}"
    return never_recorded(metric, settings, data.types)


def _changes(
    tables: Tables,
    metrics: Sequence[Metric],
    spans: tuple[tuple[datetime, datetime], tuple[datetime, datetime]],
    levels: Sequence[Mapping[str, Level]],
) -> dict[str, Change]:
    found = {one.name: _apart(*(level[one.name] for level in levels)) for one in metrics if one.kind == "quantile"}
    of_events = [one for one in metrics if one.kind != "quantile"]
    for population in dict.fromkeys(one.population for one in of_events):
        mine = [one for one in of_events if one.population == population]
        for at, (since, until) in zip(("now", "before"), spans, strict=True):
            made = make_population(tables, population, since, until, None)
            with answering(tables, Question(experiment_id="", until=until, pre_days=0.0), made, mine):
                rows = unit_rows(tables, made, mine)
                tables.db.execute(f"CREATE OR REPLACE TEMP TABLE week_{at} AS SELECT * FROM ({rows})")
        found |= {
            one.name: _together(tables, one, sure=all(level[one.name].low is not None for level in levels))
            for one in mine
        }
        for at in ("now", "before"):
            tables.db.execute(f"DROP TABLE week_{at}")
    return found


def _together(tables: Tables, metric: Metric, *, sure: bool) -> Change:
    """From each customer's numbers in both weeks; who is in one week only has zeros in the other.

    Not `sure`: too few customers to tell in one of the weeks how much others differ, so the change has no interval.
    """
    numbers = {
        f"{at}_{one}": f"coalesce({at}.{metric.name}_{one}, 0)" for at in ("now", "before") for one in ("num", "den")
    }
    names = list(numbers)
    columns = ", ".join(f"{text} AS {name}" for name, text in numbers.items())
    sums = ", ".join(f"sum({name})" for name in names)
    covs = ", ".join(f"covar_samp({left}, {right})" for left in names for right in names)
    ((n, *values),) = tables.db.execute(
        f"SELECT count(*), {sums}, {covs} FROM (SELECT {columns} FROM week_now now "
        "FULL OUTER JOIN week_before before ON now.unit_id = before.unit_id)"
    ).fetchall()
    covs_known = values[4:] if sure else [0.0] * 16
    return change_of(int(n), values[:4], covs_known, total=metric.unit == "customers")


def change_of(n: int, sums: Sequence[float], covs: Sequence[float | None], *, total: bool) -> Change:
    """The change of a ratio of sums, or of the numerator's sum (`total`), over n customers.

    `sums` are of this week's numerator and denominator and of those before; `covs` their sample covariances, (4 × 4) by
    rows. The denominators are above 0.
    """
    num, den, num_before, den_before = (float(one) for one in sums)
    now, before = (num, num_before) if total else (num / den, num_before / den_before)
    if total:
        ups, downs = (1.0, 0.0), (1.0, 0.0)
    else:
        ups, downs = (1 / den, -now / den), (1 / den_before, -before / den_before)
    spread = [0.0 if one is None else float(one) for one in covs]

    def variance(left: Sequence[float], right: Sequence[float], a: int, b: int) -> float:
        return n * sum(left[i] * right[j] * spread[4 * (a + i) + b + j] for i in (0, 1) for j in (0, 1))

    of_now, of_before = (max(0.0, one) for one in (variance(ups, ups, 0, 0), variance(downs, downs, 2, 2)))
    return _change(now, before, of_now, of_before, variance(ups, downs, 0, 2))


def _apart(now: Level, before: Level) -> Change:
    """Of two levels as if they were of different customers."""
    assert now.value is not None and before.value is not None  # noqa: PT018
    z = float(norm.isf(ALPHA / 2))

    def variance(one: Level) -> float:
        return 0.0 if one.low is None or one.high is None else ((one.high - one.low) / (2 * z)) ** 2

    return _change(now.value, before.value, variance(now), variance(before), 0.0)


def _change(now: float, before: float, of_now: float, of_before: float, shared: float) -> Change:
    absolute, variance = now - before, of_now + of_before - 2 * shared
    if variance <= 1e-12 * max(now * now, before * before):  # rounding; nobody changed, or all alike
        return Change(absolute=absolute, relative=absolute / before if before > 0 else None)
    z, error = float(norm.isf(ALPHA / 2)), math.sqrt(variance)
    found: dict[str, Any] = {"low": absolute - z * error, "high": absolute + z * error}
    found["p_value"] = float(2 * norm.sf(abs(absolute) / error))
    if now > FAR_FROM_ZERO * math.sqrt(of_now) and before > FAR_FROM_ZERO * math.sqrt(of_before):
        ratio = now / before
        of_log = max(0.0, of_now / now**2 + of_before / before**2 - 2 * shared / (now * before))
        reach = math.exp(z * math.sqrt(of_log))
        found |= {"relative": ratio - 1, "relative_low": ratio / reach - 1, "relative_high": ratio * reach - 1}
    return Change(absolute=absolute, **found)


def _adjusted(found: Iterable[Measure]) -> list[Measure]:
    held = list(found)
    p_values = benjamini_hochberg([one.change.p_value if one.change is not None else None for one in held])
    return [
        one
        if one.change is None
        else msgspec.structs.replace(one, change=msgspec.structs.replace(one.change, p_adjusted=p))
        for one, p in zip(held, p_values, strict=True)
    ]
