"""The checks in SQL mean what `check_event` means: for rows as JSON lines, as typed columns and as CSV text."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.errors import BadEvent
from features.events import BY_NAME, FIELDS, MAX_AHEAD, Event, check_event, to_us
from features.ingest_events import checked
from features.ingest_sources import tables_of
from tests.conftest import NOW

SLOW = settings(
    max_examples=18, deadline=None, phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck)
)
ODD_TEXT = (
    "",
    "a",
    "x" * 256,
    "x" * 257,
    "é" * 256,
    "é" * 257,
    "a\x1fb",
    "\x7f",
    "\x85",
    "\xa0",
    "😀" * 200,
    "' OR 1",
    '"',
)
TIMES = (
    "2026-03-04T12:00:00Z", "2026-03-04T12:05:00Z", "2026-03-04T12:05:00.000001Z", "2026-03-04 12:00:00Z",
    "2026-03-04t12:00:00z", "2026-03-04T12:00:00+01:00", "2026-03-04T12:00:00-0130", "2026-03-04T12:00:00+01",
    "2026-03-04T12:00:00", "2026-03-04", "2026-02-30T00:00:00Z", "2026-03-04T24:00:00Z", "2026-03-04T23:59:60Z",
    "2026-03-04T11:00:00.1234565Z", "2026-03-04T11:00:00.1234564999Z", "2026-03-04T11:00:00.9999999Z",
    "2026-03-04T11:00:00.Z", "2026-03-04T11:00:00,5Z", "2026-03-04T11:00:00+24:00", "2026-03-04T11:00:00+23:60",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59Z",
    "2026-03-04T11:00:00−01:00", " 2026-03-04T11:00:00Z", "tomorrow", "1772625600", "",
)  # fmt: skip
AMOUNTS = (
    0.0,
    -0.0,
    1,
    25.2,
    -3.5,
    0.00005,
    -0.00005,
    0.00015,
    1.00005,
    1e-30,
    1e12,
    -1e12,
    1.000001e12,
    10**30,
    1e300,
)
CURRENCIES = ("EUR", "USD", "eur", "EURO", "EU", "ÉUR", "E R", "")
PROPERTIES: tuple[dict[str, Any], ...] = (
    {}, {"nps": 0}, {"nps": 10}, {"nps": 11}, {"nps": -1}, {"nps": 7.0}, {"nps": "7"}, {"nps": True}, {"nps": None},
    {"csat": 1}, {"csat": 0}, {"ces": 7}, {"ces": 8}, {"nps": 5, "ces": 99}, {"text": ""}, {"text": "NaN infinity"},
    {"reason": "slow"}, {"channel": "email"}, {"channel": ""}, {"channel": None}, {"category": False},
    {"category": 0}, {"category": 0.0}, {"category": []}, {"category": [1]}, {"channel": {}}, {"channel": ["web"]},
    {"channel": "a\x01"}, {"channel": "é" * 256}, {"category": "x" * 257}, {"channel": True}, {"deep": {"nps": 3}},
)  # fmt: skip


def odd(usual: st.SearchStrategy[Any], *others: Any) -> st.SearchStrategy[Any]:
    """Mostly usual, so that the later checks are reached."""
    return st.one_of(usual, usual, usual, usual, st.sampled_from(others))


TEXT = st.sampled_from(ODD_TEXT) | st.text(max_size=4)
NAMES = ("event_id", "customer_id", "anonymous_id", "decision_id", "offer_id", "placement_id", "session_id", "channel",
         "category")  # fmt: skip


def rows_with(odd_id: tuple[Any, ...], odd_other: tuple[Any, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Events of which every field may be odd."""
    plain = st.text("abc-9", min_size=1, max_size=5)
    fields = {
        "event_id": odd(plain, *ODD_TEXT, *odd_id, None),
        "event_type": odd(st.sampled_from(tuple(BY_NAME)), "Visit", "", *odd_id, None),
        "customer_id": odd(plain, *ODD_TEXT, *odd_id, None),
        "anonymous_id": odd(st.none(), "v-1", "", *odd_id),
        "occurred_at": odd(st.just("2026-03-04T11:00:00Z"), *TIMES, *odd_id, None),
        "value": odd(st.sampled_from((*AMOUNTS, None)), math.nan, math.inf, -math.inf, *odd_other),
        "currency": odd(st.sampled_from(("EUR", None)), *CURRENCIES, *odd_id),
        "properties": odd(st.sampled_from((*PROPERTIES, None)), *odd_other),
        **{name: odd(st.none() | plain, *ODD_TEXT, *odd_id) for name in ("decision_id", "offer_id", "session_id")},
        **{name: odd(st.none(), *ODD_TEXT, *odd_id) for name in ("placement_id", "channel", "category")},
    }
    return st.fixed_dictionaries(fields)


JSON_ROWS = st.builds(
    lambda row, dropped, extra: {k: v for k, v in {**row, **extra}.items() if k not in dropped},
    rows_with(odd_id=(5, 1.5, True, [], {}), odd_other=(True, "12", [1], "text")),
    st.frozensets(st.sampled_from(FIELDS), max_size=1),
    st.sampled_from(({}, {}, {}, {}, {}, {"valeu": 1}, {"valeu": None})),
)
COLUMN_ROWS = rows_with(odd_id=(), odd_other=(None,))


def verdict(raw: Any) -> str | Event:
    try:
        return check_event(raw, NOW)
    except BadEvent as fault:
        return fault.code


def in_sql(folder: Path, n: int) -> list[dict[str, Any]]:
    """What SQL says of each row of the events table in `folder`, in order."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'; SET threads = 1")
        con.execute("CREATE TEMP TABLE known_offers (offer_id VARCHAR, category VARCHAR)")
        (table,) = tables_of(con, folder, None)
        latest_us = to_us(NOW + MAX_AHEAD)
        query = checked(table, None, where="true", latest_us=latest_us, offers_known=False)
        rows = con.sql(query).to_arrow_table().to_pylist()
    assert len(rows) == n
    return rows


def assert_same(said: dict[str, Any], expected: str | Event, raw: Any) -> None:
    if isinstance(expected, str):
        assert said["fault"] is not None, raw
        assert said["fault"].partition(": ")[0] == expected, (raw, said["fault"])
        return
    assert said["fault"] is None, (raw, said["fault"])
    for name in ("event_id", "event_type", "customer_id", "occurred_at", "decision_id", "offer_id", "placement_id",
                 "session_id", "channel", "category", "value", "currency"):  # fmt: skip
        assert said[name] == getattr(expected, name), (name, raw)
    assert json.loads(said["properties"]) == expected.properties


@SLOW
@given(rows=st.lists(JSON_ROWS, min_size=1, max_size=40))
def test_json_lines_are_judged_like_events_of_the_api(
    rows: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for said, line in zip(in_sql(folder, len(rows)), lines, strict=True):
        assert_same(said, verdict(json.loads(line)), line)


@SLOW
@given(rows=st.lists(COLUMN_ROWS, min_size=1, max_size=40))
def test_typed_columns_are_judged_like_events_of_the_api(
    rows: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("columns")
    rows = [{**row, "value": None if row["value"] is None else float(row["value"])} for row in rows]
    columns = {
        name: pa.array([row[name] for row in rows], pa.string())
        for name in FIELDS
        if name not in ("value", "properties")
    }
    columns["value"] = pa.array([row["value"] for row in rows], pa.float64())
    columns["properties"] = pa.array(
        [None if r["properties"] is None else json.dumps(r["properties"]) for r in rows], pa.string()
    )
    pq.write_table(pa.table(columns), folder / "events.parquet")
    for said, row in zip(in_sql(folder, len(rows)), rows, strict=True):
        assert_same(said, verdict(row), row)


@SLOW
@given(rows=st.lists(COLUMN_ROWS, min_size=1, max_size=40))
def test_csv_text_is_judged_like_events_of_the_api(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """In a CSV nothing and the empty text are the same: missing."""
    folder = tmp_path_factory.mktemp("text")
    cells = [
        {**row, "properties": None if row["properties"] is None else json.dumps(row["properties"])} for row in rows
    ]
    with (folder / "events.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(cells)
    for said, row in zip(in_sql(folder, len(rows)), rows, strict=True):
        given = {name: None if value == "" else value for name, value in row.items()}
        assert_same(said, verdict(given), row)
