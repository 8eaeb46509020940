"""Whom a question is about: one row per unit with its variant and the time that counts for it, as a temporary table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from experiments.metrics import Population
from experiments.tables import Tables
from features.errors import BadInput
from features.events import US_PER_DAY, to_us

Unit = Literal["customer", "session"]
MOST_SEGMENT_VALUES = 50
UNKNOWN = "unknown"  # a unit of whom a segment's value is not known
# Of several at the same instant it is the same one each time.
FIRST = "SELECT *, row_number() OVER (PARTITION BY key ORDER BY us, phase, variant, unit_id) AS nth FROM exposed"
BUILT_IN = {"known": "CASE WHEN starts_with(person, chr(31)) THEN 'anonymous' ELSE 'known' END"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which units of an experiment, and which of their time.

    A unit belongs to the phase and variant of its first exposure. Its time ends at `until`, at the end of its phase, or
    `window_days` after its exposure; with a window, units are left out that were not watched for it.
    """

    experiment_id: str
    until: datetime  # exclusive
    unit: Unit = "customer"
    phase: int | None = None  # only units first exposed in it; None: all, told apart
    phase_ends: Mapping[int, datetime] = field(default_factory=dict)  # of phases after which units may change variant
    pre_days: float = 14.0  # before exposure, for CUPED; 0: none
    window_days: float | None = None
    segments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What was found on the way."""

    n_units: int
    n_crossed: int  # seen in two variants within their time; left out
    n_immature: int  # not watched for the whole window; left out
    pre_us: int
    unit: Unit
    segments: tuple[str, ...]  # columns segment_0, segment_1, … of `units`


def make_units(tables: Tables, question: Question) -> Made:
    """Temporary table `units`: uid (from 1), key, unit_id, variant, phase, start_us, end_us, observed_us, segments.

    Whoever was exposed under two keys, and turned out to be one person, is one unit.
    """
    until_us = to_us(question.until)
    segments = tuple(dict.fromkeys(question.segments))
    sources = _segment_sources(tables, segments)
    carried = [name for name in segments if sources[name] == "exposures"]
    exposed = _exposed(tables, question, until_us, carried)
    _view(tables, "exposed", exposed)
    n, n_keys = _row(tables, "SELECT count(*), count(DISTINCT key) FROM exposed")
    if n != n_keys:  # several of one unit: they are read again and again
        tables.db.execute(f"CREATE OR REPLACE TEMP TABLE kept_exposed AS {exposed}")
        _view(tables, "exposed", "SELECT * FROM kept_exposed")
    first = "exposed" if n == n_keys else f"(SELECT * FROM ({FIRST}) WHERE nth = 1)"
    closed = f"least({_phase_end(question, until_us)}, {until_us})"
    _view(tables, "first_exposed", f"SELECT *, us AS start_us, {closed} AS closed_us FROM {first}")
    where = "start_us < closed_us" + ("" if question.phase is None else f" AND phase = {question.phase:d}")
    n_crossed = 0
    if n != n_keys:
        n_crossed = _keep_crossed(tables)
        where += " AND key NOT IN (SELECT key FROM crossed)"
    end, n_immature = "closed_us", 0
    if question.window_days is not None:
        end = f"start_us + {int(question.window_days * US_PER_DAY)}"
        (n_immature,) = _row(tables, f"SELECT count(*) FROM first_exposed WHERE {where} AND {end} > closed_us")
        where += f" AND {end} <= closed_us"
    _view(
        tables,
        "selected",
        f"SELECT key, person, unit_id, variant, phase, start_us, {end} AS end_us{_listed(carried)} "
        f"FROM first_exposed WHERE {where}",
    )
    n_units = _number(tables, segments, sources)
    _drop(tables, "kept_exposed", "crossed")
    return Made(n_units, n_crossed, n_immature, int(question.pre_days * US_PER_DAY), question.unit, segments)


def _keep_crossed(tables: Tables) -> int:
    """Temporary table `crossed`: keys seen in another variant than their first within their time; how many."""
    tables.db.execute(
        "CREATE OR REPLACE TEMP TABLE crossed AS SELECT DISTINCT e.key FROM exposed e "
        "JOIN first_exposed f ON e.key = f.key WHERE e.variant <> f.variant AND e.us < f.closed_us"
    )
    (n,) = _row(tables, "SELECT count(*) FROM crossed")
    return n


def make_population(
    tables: Tables, population: Population, since: datetime, until: datetime, by: str | None, pre_days: float = 0.0
) -> Made:
    """The same table for customers at large: `all` seen before the end, or `visitors`, `active` or `decided` within it.

    Visitors and active ones begin when they were first seen, or first active, within the period, the others with it.
    `by` is a segment, or `variant:<experiment id>`, then by the variant in which somebody was first exposed, `none` for
    the others.
    """
    since_us, until_us = to_us(since), to_us(until)
    if until_us <= since_us:
        raise BadInput("the period ends before it begins", "until")
    experiment_id = by.removeprefix("variant:") if by is not None and by.startswith("variant:") else None
    named = (by,) if by is not None and experiment_id is None else ()
    sources = _segment_sources(tables, named)
    if "exposures" in sources.values():
        raise BadInput(f"{by!r} is known of exposures only, not of everybody", "by")
    where = {
        "all": f"us < {until_us}",
        "visitors": f"us >= {since_us} AND us < {until_us}",
        "decided": f"us >= {since_us} AND us < {until_us}",
        "active": f"us >= {since_us} AND us < {until_us} AND event_type IN ("
        + ", ".join(f"'{name}'" for name in tables.settings.churn.activity)
        + ")",
    }[population]
    start = "min(us)" if population in ("visitors", "active") else str(since_us)
    rows = keyed(tables, "customer", until_us, "decisions" if population == "decided" else "events")
    seen = f"SELECT person AS key, {start} AS start_us FROM {rows} WHERE {where} GROUP BY 1"
    variant = "'all'"
    join = ""
    if experiment_id is not None:
        variant, join = (
            "coalesce(variant, 'none')",
            f"LEFT JOIN (SELECT key, variant FROM ({FIRST}) WHERE nth = 1) v ON seen.key = v.key",
        )
        _view(tables, "exposed", _exposed(tables, Question(experiment_id=experiment_id, until=until), until_us, []))
    _view(
        tables,
        "selected",
        f"SELECT seen.key, seen.key AS person, seen.key AS unit_id, {variant} AS variant, 1 AS phase, start_us, "
        f"CAST({until_us} AS BIGINT) AS end_us FROM ({seen}) seen {join}",
    )
    n_units = _number(tables, named, sources)
    return Made(n_units, 0, 0, int(pre_days * US_PER_DAY), "customer", named)


def keyed(tables: Tables, unit: Unit, until_us: int, of: Literal["events", "decisions"] = "events") -> str:
    """The events, or decisions, with the person behind each and the key of the unit they belong to, as a subquery."""
    person, join = "e.customer_id", ""
    if tables.has_aliases:
        person = "coalesce(i.known, e.customer_id)"
        join = f"LEFT JOIN identities i ON e.customer_id = i.alias AND i.joined_us <= {until_us}"
    session = "e.session_id" if of == "events" else "json_extract_string(e.payload, '$.request.context.session_id')"
    key = person if unit == "customer" else f"coalesce({session}, {person})"
    return f"(SELECT e.*, {person} AS person, {key} AS key FROM {of} e {join})"


def _exposed(tables: Tables, question: Question, until_us: int, carried: Sequence[str]) -> str:
    """Exposures with the person behind each, as a query. A session has no aliases, a visitor who stands for one has."""
    key, person, join = "e.unit_id", "e.customer_id", ""
    if tables.has_aliases:
        key, person = "coalesce(i.known, e.unit_id)", "coalesce(j.known, e.customer_id, i.known, e.unit_id)"
        join = (
            f"LEFT JOIN identities i ON e.unit_id = i.alias AND i.joined_us <= {until_us} "
            f"LEFT JOIN identities j ON e.customer_id = j.alias AND j.joined_us <= {until_us}"
        )
    if question.unit == "customer":
        person = key
    elif not tables.has_aliases:
        person = "coalesce(e.customer_id, e.unit_id)"
    more = "".join(f', coalesce(e."{name}", \'{UNKNOWN}\') AS "{name}"' for name in carried)
    experiment_id = question.experiment_id.replace("'", "''")
    return (
        f"SELECT {key} AS key, {person} AS person, e.unit_id, e.variant, coalesce(e.phase, 1) AS phase, e.us{more} "
        f"FROM exposures e {join} WHERE e.experiment_id = '{experiment_id}' AND e.us < {until_us}"
    )


def _phase_end(question: Question, until_us: int) -> str:
    cases = " ".join(f"WHEN {number:d} THEN {to_us(at)}" for number, at in sorted(question.phase_ends.items()))
    return f"CASE phase {cases} ELSE {until_us} END" if cases else str(until_us)


def _segment_sources(tables: Tables, names: Sequence[str]) -> dict[str, str]:
    known = {**tables.segments, **dict.fromkeys(BUILT_IN, "built in")}
    for name in names:
        if name not in known:
            raise BadInput(
                f"{name!r} is not known of customers; expected one of {', '.join(sorted(known))}", "segments"
            )
    return {name: known[name] for name in names}


def _number(tables: Tables, segments: Sequence[str], sources: Mapping[str, str]) -> int:
    """`units` from `selected`, numbered, with what was known of each person at the start."""
    columns, joins = [], []
    for n, name in enumerate(segments):
        if sources[name] == "exposures":
            value = f"s.{quoted(name)}"
        elif sources[name] == "customers":
            tables.need("customers")
            value = f"coalesce(c{n}.value, '{UNKNOWN}')"
            joins.append(
                f"LEFT JOIN (SELECT s.key, max_by(c.{quoted(name)}, c.us) AS value FROM selected s JOIN customers c "
                f"ON s.person = c.customer_id AND c.us <= s.start_us AND c.{quoted(name)} IS NOT NULL GROUP BY s.key) "
                f"c{n} ON s.key = c{n}.key"
            )
        else:
            value = BUILT_IN[name]
        columns.append(f"{value} AS segment_{n}")
    tables.db.execute(
        f"CREATE OR REPLACE TEMP TABLE units AS SELECT CAST(row_number() OVER () AS INTEGER) AS uid, s.key, unit_id, "
        f"variant, phase, start_us, end_us, "
        f"end_us - start_us AS observed_us{''.join(f', {one}' for one in columns)} FROM selected s {' '.join(joins)}",
    )
    for n, name in enumerate(segments):
        (n_values,) = _row(tables, f"SELECT count(DISTINCT segment_{n}) FROM units")
        if n_values > MOST_SEGMENT_VALUES:
            raise BadInput(
                f"{name} has {n_values:,} values, expected at most {MOST_SEGMENT_VALUES}: group it first", "segments"
            )
    (n_units,) = _row(tables, "SELECT count(*) FROM units")
    return n_units


def quoted(name: str) -> str:
    """An attribute's name may hold anything."""
    return '"' + name.replace('"', '""') + '"'


def _listed(names: Iterable[str]) -> str:
    return "".join(f", {quoted(name)}" for name in names)


def _view(tables: Tables, name: str, query: str) -> None:
    tables.db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")


def _drop(tables: Tables, *names: str) -> None:
    for name in names:
        tables.db.execute(f"DROP TABLE IF EXISTS {name}")


def _row(tables: Tables, query: str) -> tuple[int, ...]:
    (found,) = tables.db.execute(query).fetchall()
    return tuple(int(one) for one in found)
