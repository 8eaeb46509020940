"""The log copied to the lake: each event, decision and exposure once, into the day it happened on.

A chunk of the log becomes Parquet files and the new exported position in one transaction of facts.db. A crash before it
leaves files that nobody reads and the old position; a crash after it leaves nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.duck import hush
from features.facts import Facts
from features.home import Home
from features.lake import EVENT_SCHEMA, ROWS_PER_GROUP, Staging, place, staging, sweep, writer_lock
from features.log import DecisionRow, ExposureRow, Log, LogEvent

DECISION_SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()),
        ("customer_id", pa.string()),  # visitor key
        ("decided_at", pa.timestamp("us", tz="UTC")),
        ("payload", pa.string()),  # JSON, as serving/decision_log.py writes it
    ]
)
EXPOSURE_SCHEMA = pa.schema(
    [
        ("experiment_id", pa.string()),
        ("phase", pa.int32()),
        ("unit_id", pa.string()),
        ("customer_id", pa.string()),  # visitor key of the decision
        ("variant", pa.string()),
        ("exposed_at", pa.timestamp("us", tz="UTC")),
        ("decision_id", pa.string()),
    ]
)
CHUNK_ROWS = 200_000  # of the log in memory, and in one commit
EXPORTED = "log_exported"  # key in facts.db


class Exported(msgspec.Struct, frozen=True):
    """How far the lake holds the log."""

    position: int = 0
    at: datetime | None = None
    exposures: int = 0  # these have positions of their own


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export brought to the lake."""

    n_events: int
    n_decisions: int
    n_known: int  # events whose id the lake held before, from an ingest
    days: tuple[str, ...]  # YYYY-MM-DD, touched
    position: int  # all of the log up to here is in the lake
    n_exposures: int = 0


def exported(facts: Facts) -> Exported:
    """How far the lake holds the log; position 0 if nothing was ever exported."""
    text = facts.meta(EXPORTED)
    return msgspec.json.decode(text, type=Exported) if text else Exported()


def export(
    home: Home, facts: Facts, log: Log, now: datetime, progress: Callable[[str], None] = lambda step: None
) -> ExportReport:
    """Copy what the log has received until now to the lake. Safe beside writers of the log; one export at a time."""
    n_events = n_decisions = n_known = n_exposures = 0
    days: set[str] = set()
    with writer_lock(home):
        sweep(home, facts)
        progress("swept")
        position, last, exposed = exported(facts).position, log.last_position(), exported(facts).exposures
        exposures = log.exposures_after(exposed, CHUNK_ROWS)
        while position < last or exposures:
            events, decisions, position = _read_chunk(log, position, last)
            progress("read")
            table = _event_table(events)
            fresh = _not_in_lake(home, facts, table)
            exposed = exposures[-1].position if exposures else exposed
            batch = f"log-{position:012d}-{exposed:012d}" if exposures else f"log-{position:012d}"
            with staging(home, batch) as staged:
                _stage(staged, "events", fresh, "occurred_at")
                _stage(staged, "decisions", _decision_table(decisions), "decided_at")
                _stage(staged, "exposures", _exposure_table(exposures), "exposed_at")
                progress("staged")
                files = place(home, staged)
                progress("placed")
                with facts.transaction():
                    facts.add_lake_files(files)
                    facts.set_meta(EXPORTED, msgspec.json.encode(Exported(position, now, exposed)).decode())
                    progress("listed")
            progress("committed")
            n_events += len(fresh)
            n_decisions += len(decisions)
            n_known += len(table) - len(fresh)
            n_exposures += len(exposures)
            days.update(file.day for file in files)
            exposures = log.exposures_after(exposed, CHUNK_ROWS) if len(exposures) == CHUNK_ROWS else []
    return ExportReport(n_events, n_decisions, n_known, tuple(sorted(days)), position, n_exposures)


def _read_chunk(log: Log, after: int, last: int) -> tuple[list[LogEvent], list[DecisionRow], int]:
    """The next rows, and the position up to which they are all."""
    events = log.events_after(after, CHUNK_ROWS)
    decisions = log.decisions_after(after, CHUNK_ROWS)
    if len(events) == CHUNK_ROWS:
        last = min(last, events[-1].position)
    if len(decisions) == CHUNK_ROWS:
        last = min(last, decisions[-1].position)
    return [one for one in events if one.position <= last], [one for one in decisions if one.position <= last], last


def _event_table(events: Sequence[LogEvent]) -> pa.Table:
    """As EVENT_SCHEMA, ordered by time and id."""
    rows = [
        (e.event_id, e.event_type, e.customer_id, e.occurred_us, e.received_us, e.decision_id, e.offer_id,
         e.placement_id, e.session_id, e.channel, e.category, e.value, e.currency, e.properties_json)
        for e in events
    ]  # fmt: skip
    return _table(rows, EVENT_SCHEMA).sort_by([("occurred_at", "ascending"), ("event_id", "ascending")])


def _decision_table(decisions: Sequence[DecisionRow]) -> pa.Table:
    """As DECISION_SCHEMA, ordered by time and id."""
    rows = [(d.decision_id, d.customer_id, d.decided_us, d.payload.decode()) for d in decisions]
    return _table(rows, DECISION_SCHEMA).sort_by([("decided_at", "ascending"), ("decision_id", "ascending")])


def _exposure_table(exposures: Sequence[ExposureRow]) -> pa.Table:
    """As EXPOSURE_SCHEMA, ordered by time and in the order of the log."""
    rows = [
        (e.experiment_id, e.phase, e.unit_id, e.customer_id, e.variant, e.exposed_us, e.decision_id)
        for e in sorted(exposures, key=lambda one: (one.exposed_us, one.position))
    ]
    return _table(rows, EXPOSURE_SCHEMA)


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema)


def _not_in_lake(home: Home, facts: Facts, table: pa.Table) -> pa.Table:
    """The rows whose event id no listed file holds: an event may come by an ingest and live."""
    files = [str(home.lake / file.path) for file in facts.lake_files("events")]
    if not files or not len(table):
        return table
    with duckdb.connect() as db:
        hush(db)
        db.register("fresh", table.select(["event_id"]))
        query = "SELECT DISTINCT event_id FROM read_parquet(?) SEMI JOIN fresh USING (event_id)"
        known = db.sql(query, params=[files]).to_arrow_table()["event_id"]
    return table.filter(pc.invert(pc.is_in(table["event_id"], value_set=known.combine_chunks())))


def _stage(staged: Staging, dataset: str, table: pa.Table, time_column: str) -> None:
    for day, part in _by_day(table, time_column):
        pq.write_table(part, staged.path(dataset, day), compression="zstd", row_group_size=ROWS_PER_GROUP)


def _by_day(table: pa.Table, time_column: str) -> Iterator[tuple[str, pa.Table]]:
    """(YYYY-MM-DD, rows) of a table that is ordered by time."""
    start = 0
    for run in pc.value_counts(table[time_column].cast(pa.date32())).to_pylist():
        yield run["values"].isoformat(), table.slice(start, run["counts"])
        start += run["counts"]
