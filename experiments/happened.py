"""What happened to each unit, as the rows that metric expressions read: events, and outcomes of impressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np

from experiments.metrics import Metric, event_types
from experiments.tables import Tables
from experiments.units import Made, Unit, keyed
from features.attribution import NEVER, Touches, match
from features.data_settings import DataSettings
from features.events import BY_NAME, US_PER_DAY

NEGATIVE = tuple(kind.name for kind in BY_NAME.values() if kind.negative)
DERIVED = ("accepted", "clicked", "dismissed")  # row types that are not event types
SCORES = ("nps", "csat", "ces")


def make_happened(tables: Tables, made: Made, metrics: Sequence[Metric], until_us: int) -> None:
    """Temporary table `happened`: uid and the columns of `experiments/metrics.py` that these metrics read.

    Rows from `pre_days` before each unit's start until its end, exclusive. An outcome counts when it came within the
    unit's time too: what is known beforehand must not hold what the exposure changed.
    """
    types = event_types(metrics, tables.settings)
    columns = tuple(sorted({name for metric in metrics for name in metric.columns}))
    kinds = ", ".join(f"'{name}'" for name in (*BY_NAME, *DERIVED))
    parts = [_events(tables, made, [name for name in types if name not in DERIVED], columns, until_us, kinds)]
    derived = [name for name in types if name in DERIVED]
    if derived:
        match_outcomes(tables, made.unit, derived, until_us)
    parts += [_derived(tables, made, name, columns, kinds) for name in derived]
    tables.db.execute(f"CREATE OR REPLACE TEMP TABLE happened AS {' UNION ALL '.join(parts)}")
    for name in DERIVED:
        tables.db.execute(f"DROP TABLE IF EXISTS outcome_{name}")


def foreign_purchases(tables: Tables, made: Made, until_us: int) -> dict[str, int]:
    """Purchases after exposure in another currency than the deployment's, which no metric counts; by currency."""
    rows = tables.db.execute(
        f"SELECT coalesce(e.currency, 'none'), count(*) FROM {keyed(tables, made.unit, until_us)} e "
        "JOIN units u ON e.key = u.key WHERE e.event_type = 'purchase' AND e.us >= u.start_us AND e.us < u.end_us "
        "AND coalesce(e.currency, 'none') <> $1 GROUP BY 1 ORDER BY 1",
        [tables.settings.currency],
    ).fetchall()
    return {str(currency): int(n) for currency, n in rows}


def _times(us: str) -> str:
    since = f"({us} - u.start_us)"
    return f"{since} AS since_us, CAST(floor({since} / {US_PER_DAY}) AS INTEGER) AS day"


def _within(made: Made, us: str) -> str:
    return f"{us} >= u.start_us - {made.pre_us} AND {us} < u.end_us"


def _watched(tables: Tables, us: str) -> str:
    """1 where the window ended before the unit's time did; before the start there was time enough."""
    return f"CASE WHEN {us} < u.start_us OR {us} + {watch_us(tables)} < u.end_us THEN 1 ELSE 0 END"


def watch_us(tables: Tables) -> str:
    """How long an impression is watched, as SQL over `offers o`."""
    common = _common_watch_us(tables)
    return f"coalesce(o.watched_us, {common})" if tables.own_windows else str(common)


def _common_watch_us(tables: Tables) -> int:
    rules = tables.settings.attribution
    days = rules.window_days if rules.at_most_days is None else min(rules.window_days, rules.at_most_days)
    return int(days * US_PER_DAY)


def _events(tables: Tables, made: Made, types: Iterable[str], columns: Sequence[str], until_us: int, kinds: str) -> str:
    listed = ", ".join(f"'{name}'" for name in types) or "NULL"
    values = {
        "watched": f"CAST(CASE WHEN e.event_type = 'impression' THEN {_watched(tables, 'e.us')} END AS TINYINT)",
        "value": f"CASE WHEN e.event_type = 'purchase' AND e.currency = '{tables.settings.currency}' THEN e.value END",
        "offer_value": "CAST(NULL AS DOUBLE)",
        "observed_us": "u.observed_us",
        "to_end_us": "(u.end_us - e.us)",
    } | {
        name: f"CASE WHEN e.event_type = 'feedback' "
        f"THEN TRY_CAST(json_extract_string(e.properties, '$.{name}') AS DOUBLE) END"
        for name in SCORES
    }
    join = "LEFT JOIN offers o ON e.offer_id = o.offer_id" if "watched" in columns and tables.own_windows else ""
    return (
        f"SELECT u.uid, CAST(e.event_type AS ENUM({kinds})) AS event_type, {_times('e.us')}"
        f"{''.join(f', {values[name]} AS {name}' for name in columns)} "
        f"FROM {keyed(tables, made.unit, until_us)} e JOIN units u ON e.key = u.key {join} "
        f"WHERE e.event_type IN ({listed}) AND {_within(made, 'e.us')}"
    )


def _derived(tables: Tables, made: Made, name: str, columns: Sequence[str], kinds: str) -> str:
    values = {
        "watched": f"CAST({_watched(tables, 'm.us')} AS TINYINT)",
        "value": "CAST(NULL AS DECIMAL(18, 4))",
        "offer_value": "o.offer_value",
        "observed_us": "u.observed_us",
        "to_end_us": "(u.end_us - m.us)",
    } | dict.fromkeys(SCORES, "CAST(NULL AS DOUBLE)")
    return (
        f"SELECT u.uid, CAST('{name}' AS ENUM({kinds})) AS event_type, {_times('m.us')}"
        f"{''.join(f', {values[column]} AS {column}' for column in columns)} "
        f"FROM outcome_{name} m JOIN units u ON m.key = u.key LEFT JOIN offers o ON m.offer_id = o.offer_id "
        f"WHERE {_within(made, 'm.us')} AND m.outcome_us <= m.us + {watch_us(tables)} "
        "AND m.outcome_us < CASE WHEN m.us < u.start_us THEN u.start_us ELSE u.end_us END"
    )


def match_outcomes(tables: Tables, unit: Unit, names: Sequence[str], until_us: int) -> None:
    """Temporary tables `outcome_<name>`: key, us, offer and decision of each impression with such an outcome, and when.

    Only impressions are looked at whose decision, or person, has some outcome at all. Those of one person and offer at
    the same instant are alike, so that it does not matter which comes first.
    """
    import pyarrow as pa

    types = {
        "accepted": tables.settings.attribution.outcomes,
        "clicked": ("click",),
        "dismissed": NEGATIVE,
    }
    wanted = ", ".join(f"'{one}'" for one in sorted({one for name in names for one in types[name]}))
    events = keyed(tables, unit, until_us)
    tables.db.execute(
        "CREATE OR REPLACE TEMP TABLE taken AS SELECT event_type, person, offer_id, decision_id, us "
        f"FROM {events} WHERE event_type IN ({wanted}) AND offer_id IS NOT NULL AND us < {until_us}"
    )
    related = "person IN (SELECT person FROM taken)"
    if tables.settings.attribution.matching == "decision":
        related = (
            "(decision_id IN (SELECT decision_id FROM taken WHERE decision_id IS NOT NULL) "
            "OR person IN (SELECT person FROM taken WHERE decision_id IS NULL))"
        )
    shown = _arrow(
        tables,
        f"SELECT key, person, offer_id, decision_id, us FROM {events} WHERE event_type = 'impression' "
        f"AND offer_id IS NOT NULL AND us < {until_us} AND {related} ORDER BY us, decision_id",
    )
    for name in names:
        listed = ", ".join(f"'{one}'" for one in types[name])
        taken = _arrow(
            tables,
            f"SELECT person, offer_id, decision_id, us FROM taken WHERE event_type IN ({listed}) "
            "ORDER BY us, decision_id",
        )
        outcome_us = _matched(tables, shown, taken)
        found = outcome_us != NEVER
        kept = shown.select(["key", "us", "offer_id", "decision_id"]).filter(pa.array(found))
        tables.db.register("kept", kept.append_column("outcome_us", pa.array(outcome_us[found])))
        tables.db.execute(f"CREATE OR REPLACE TEMP TABLE outcome_{name} AS SELECT * FROM kept")
        tables.db.unregister("kept")
    tables.db.execute("DROP TABLE taken")


def _matched(tables: Tables, shown: Any, taken: Any) -> Any:
    """The instant of each impression's outcome, shape (n_impressions,)."""
    codes = {name: _codes(shown[name], taken[name]) for name in ("person", "offer_id", "decision_id")}
    impressions, outcomes = (
        Touches(codes["person"][at], codes["offer_id"][at], codes["decision_id"][at], one["us"].to_numpy())
        for at, one in enumerate((shown, taken))
    )
    rules = tables.settings.attribution
    n_offers = int(max(codes["offer_id"][at].max(initial=-1) for at in (0, 1))) + 1
    windows = np.full(n_offers, int(rules.window_days * US_PER_DAY), np.int64)
    if tables.own_windows:
        own = dict(tables.db.execute("SELECT offer_id, window_us FROM offers").fetchall())
        for at, offer_id in zip(codes["offer_id"][0].tolist(), shown["offer_id"].to_pylist(), strict=True):
            windows[at] = own.get(offer_id, windows[at])
    return match(impressions, outcomes, windows, rules)


def _codes(*columns: Any) -> tuple[Any, ...]:
    """The same number for the same text in all columns, -1 for none."""
    import pyarrow as pa

    chunks = [chunk for column in columns for chunk in column.chunks]
    joined = pa.chunked_array(chunks, pa.string()).combine_chunks().dictionary_encode()
    codes = joined.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum([len(column) for column in columns])
    return tuple(codes[end - len(column) : end] for column, end in zip(columns, ends, strict=True))


def _arrow(tables: Tables, query: str) -> Any:
    return tables.db.sql(query).to_arrow_table()


def recorded_types(tables: Tables, until_us: int) -> frozenset[str]:
    """Types of the events that ever happened before that time, whoever did them."""
    rows = tables.db.execute(f"SELECT DISTINCT event_type FROM events WHERE us < {until_us:d}").fetchall()
    return frozenset(str(kind) for (kind,) in rows)


def never_recorded(metric: Metric, settings: DataSettings, types: Set[str]) -> str | None:
    """Why a metric is not known although everybody has a number; None if what it counts is written down at all."""
    missing = (kinds for kinds in _needed(metric, settings) if not types & set(kinds))
    return next((f"no {' or '.join(kinds)} was ever recorded" for kinds in missing), None)


def _needed(metric: Metric, settings: DataSettings) -> list[tuple[str, ...]]:
    """Event types, of each group at least one, without which a zero would only say that nobody wrote it down."""
    derived = {"accepted": settings.attribution.outcomes, "clicked": ("click",), "dismissed": NEGATIVE}
    named = [derived.get(name, (name,)) for name in metric.events if name != "cancel"]
    if any("{activity}" in text for text in (metric.numerator, metric.denominator or "")):
        named.append(settings.churn.activity)
    assert all(kind in BY_NAME for kinds in named for kind in kinds)
    return named
