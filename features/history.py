"""Features as they were at past instants: the stored parts of the snapshot that served then, plus what happened since.

Training asks here what serving would have known, strictly before each instant. Of an instant one snapshot can be asked,
that of its day, so that a day's file is read once and the rest never; a test holds it equal to Feast's point-in-time
join over all of them, which answers for profiles, whose versions begin at any time. Rows are worked out day by day, so
that memory holds the days of one block, however many rows are asked for.
"""

from __future__ import annotations

import gc
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.compute import built, current_features
from features.compute.expressions import KEY
from features.compute.files import files_of
from features.definitions.dsl import Entity, FeatureSet, View
from features.duck import hush
from features.errors import BadInput
from features.events import US_PER_DAY, from_us, to_us
from features.facts import Facts
from features.feast_repo import open_feast
from features.feast_repo.apply import check_applied
from features.home import Home
from features.identities import joined_row
from features.live import Instant, StoredRow, feature_table, stored_table
from features.log import LogEvent
from features.online import VIEWS

ROW = "row_"  # marks the caller's rows through the join
ROWS_PER_READ = 20_000  # rows whose snapshots and events are in memory together, or those of one day
EVENT_COLUMNS = "event_type, customer_id, offer_id, placement_id, channel, category, value, currency"


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Rows make millions of lists and mappings, none of which leads back to itself: the collector would walk them all,
    again and again, for nothing."""
    sought = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if sought:
            gc.enable()


@_no_cycles()
def customer_features_at(home: Home, facts: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    """One column per customer feature, in the order and with the index of `rows`: customer_id, event_timestamp (UTC).

    `BadInput` when an instant lies outside of the days that have a snapshot.
    """
    features = current_features(facts)
    at_us = _instants(rows, "customer_id")
    snapshot_us = _snapshots_of(facts, features, at_us)
    customers = rows["customer_id"].to_numpy(object)
    told = _joined(home, facts, features, "profile", customers, at_us)
    nothing = (None,) * len(features.stored("profile"))
    found = {f.name: np.empty(len(rows), np.float64 if f.kind == "number" else object) for f in features.customer}
    for at in _blocks(snapshot_us):
        asked = customers[at], snapshot_us[at], at_us[at]
        stored = _stored(home, facts, features, *asked)
        others = _of_aliases(home, facts, features, *asked)
        recent = _recent(home, facts, *asked)
        instants = (
            _instant(features, [row, *others[n]], events, attributes or nothing, now)
            for n, (row, attributes, events, now) in enumerate(
                zip(stored, [told[n] for n in at.tolist()], recent, at_us[at].tolist(), strict=True)
            )
        )
        for name, values in feature_table(features, "customer", instants).items():
            found[name][at] = values
    return pd.DataFrame(found, index=rows.index)


def _blocks(snapshot_us: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Positions of the rows, those of one snapshot after the other, some whole snapshots at a time."""
    order = np.argsort(snapshot_us, kind="stable")
    days = np.flatnonzero(np.diff(snapshot_us[order], prepend=np.iinfo(np.int64).min))
    start = 0
    for end in [*days[1:].tolist(), len(order)]:
        if end - start >= ROWS_PER_READ or end == len(order):
            for low in range(start, end, 2 * ROWS_PER_READ):  # a day of many rows, in parts
                yield order[low : min(low + 2 * ROWS_PER_READ, end)]
            start = end


class _Alias(NamedTuple):
    """What was known, under another key, of somebody who was joined by then."""

    stored: StoredRow | None
    recent: Sequence[LogEvent]


def _instant(
    features: FeatureSet, known: Sequence[Any], events: Sequence[LogEvent], attributes: Sequence[Any], now_us: int
) -> Instant:
    """`known` is the stored row of the customer, then what there is of each alias."""
    row, *others = known
    if not others:
        return Instant(row, events, attributes, now_us)
    together = sorted((event for one in (events, *(o.recent for o in others)) for event in one), key=_by_time)
    return Instant(joined_row(features, [row, *(other.stored for other in others)]), together, attributes, now_us)


def _by_time(event: LogEvent) -> int:
    return event.occurred_us


def _of_aliases(
    home: Home, facts: Facts, features: FeatureSet, customers: NDArray[Any], since_us: NDArray[np.int64],
    at_us: NDArray[np.int64],
) -> dict[int, list[_Alias]]:  # fmt: skip
    """Per row the visitors who were known to be the customer at that instant, as serving would have read them."""
    joined = facts.identities()
    asked = [
        (row, alias)
        for row, (customer, now_us) in enumerate(zip(customers.tolist(), at_us.tolist(), strict=True))
        for alias, joined_us in joined.get(customer, ())
        if joined_us <= now_us
    ]
    found: dict[int, list[_Alias]] = defaultdict(list)
    if asked:
        at = np.array([row for row, _ in asked])
        keys = np.array([alias for _, alias in asked], object)
        stored = _stored(home, facts, features, keys, since_us[at], at_us[at])
        recent = _recent(home, facts, keys, since_us[at], at_us[at])
        for (row, _), of_alias, events in zip(asked, stored, recent, strict=True):
            found[row].append(_Alias(of_alias, events))
    return found


def _stored(
    home: Home, facts: Facts, features: FeatureSet, keys: NDArray[Any], since_us: NDArray[np.int64],
    at_us: NDArray[np.int64],
) -> list[StoredRow | None]:  # fmt: skip
    columns: list[Any] = [None] * len(keys)
    for at, table in _snapshot_rows(home, facts, features, "customer", keys, since_us):
        values = zip(*(_values(table[name].combine_chunks()) for name in table.column_names), strict=True)
        for row, of_row in zip(at.tolist(), values, strict=True):
            columns[row] = StoredRow(of_row, int(since_us[row]))
    return columns


def _values(column: Any) -> list[Any]:
    """As Python has them; what is listed comes from one array, each text once, however often it is listed."""
    if not pa.types.is_list(column.type):
        return list(column.to_pylist() if column.null_count else column.to_numpy().tolist())
    listed = column.flatten()
    if pa.types.is_string(listed.type):
        coded = listed.dictionary_encode()
        values = np.array([*coded.dictionary.to_pylist(), None], object)[coded.indices.to_numpy()].tolist()
    else:
        values = listed.to_numpy().tolist()
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy()).tolist()
    there = column.is_valid().to_pylist()
    return [values[start:end] if known else None for start, end, known in zip([0, *ends], ends, there, strict=False)]


def _snapshot_rows(
    home: Home, facts: Facts, features: FeatureSet, entity: Entity, keys: NDArray[Any], since_us: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.intp], pa.Table]]:
    """Per snapshot the positions of the keys that it has, and their stored columns in order."""
    check_applied(facts)
    files, columns = files_of(home, features), [column.name for column in features.stored(entity)]
    if not columns:
        return
    days = set(built(facts).days)
    for us in np.unique(since_us).tolist():
        day = from_us(us).date().isoformat()
        if day not in days:
            continue  # before anything had happened
        at = np.flatnonzero(since_us == us)
        table = pq.read_table(files.snapshot(entity, day), columns=[KEY[entity], *columns])
        found = pc.index_in(pa.array(keys[at], pa.string()), value_set=table[KEY[entity]].combine_chunks())
        known = found.is_valid().to_numpy(zero_copy_only=False)
        yield at[known], table.select(columns).take(found.drop_null())


def offer_features_at(home: Home, facts: Facts, rows: pd.DataFrame) -> pd.DataFrame:
    """One column per offer feature, in the order and with the index of `rows`: offer_id, event_timestamp (UTC)."""
    features = current_features(facts)
    at_us = _instants(rows, "offer_id")
    snapshot_us = _snapshots_of(facts, features, at_us)
    keys = rows["offer_id"].to_numpy(object)
    found = _snapshot_rows(home, facts, features, "offer", keys, snapshot_us)
    return pd.DataFrame(stored_table(features, "offer", found, snapshot_us, at_us), index=rows.index)


def _instants(rows: pd.DataFrame, key: str) -> NDArray[np.int64]:
    """Microseconds since 1970 UTC, shape (n,)."""
    for column in (key, "event_timestamp"):
        if column not in rows.columns:
            raise BadInput(f"the rows need a column {column}", column)
        if rows[column].isna().any():
            raise BadInput(f"{int(rows[column].isna().sum())} rows have no {column}", column)
    times = pd.to_datetime(rows["event_timestamp"], utc=True)
    found: NDArray[np.int64] = times.to_numpy("datetime64[us]").astype(np.int64)
    return found


def _snapshots_of(facts: Facts, features: FeatureSet, at_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The start of the snapshot that serves each instant: its own UTC day, or the last built day while it lives."""
    state = built(facts)
    first, last = (to_us(datetime.fromisoformat(day).replace(tzinfo=UTC)) for day in (state.days[0], state.days[-1]))
    of_day = at_us // US_PER_DAY * US_PER_DAY
    ttl_us = max(feature.ttl_days for feature in features.features) * US_PER_DAY
    late = at_us > last + max(ttl_us, US_PER_DAY)
    early = np.zeros(len(at_us), bool) if state.complete else of_day < first
    outside = late | early
    if outside.any():
        asked = from_us(int(at_us[outside][0])).isoformat()
        raise BadInput(
            f"{int(outside.sum())} rows, among them {asked}, lie outside of the snapshots {state.days[0]} to "
            f"{state.days[-1]}: run `nbo features build`, or raise snapshot_days",
            "event_timestamp",
        )
    return np.minimum(of_day, last)


def _joined(
    home: Home, facts: Facts, features: FeatureSet, view: View, keys: NDArray[Any], at_us: NDArray[np.int64]
) -> list[tuple[Any, ...] | None]:
    """Per row the stored columns of a view as of its instant, by Feast; None where the view has no row."""
    check_applied(facts)
    columns = [column.name for column in features.stored(view)]
    if not columns or not len(keys):
        return [None] * len(keys)
    entities = pd.DataFrame(
        {
            "offer_id" if view == "offer" else "customer_id": keys,
            "event_timestamp": pd.Series(at_us.astype("datetime64[us]")).dt.tz_localize("UTC"),
            ROW: np.arange(len(keys)),
        }
    )
    store = open_feast(home, facts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Ibis with DuckDB 2: fetch_arrow_table
        job = store.get_historical_features(entities, features=[f"{VIEWS[view]}:{name}" for name in columns])
        table = job.to_arrow().sort_by(ROW)
    known = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return [None if all(value is None for value in row) else row for row in known]


def _recent(
    home: Home, facts: Facts, customers: NDArray[Any], since_us: NDArray[np.int64], until_us: NDArray[np.int64]
) -> Iterator[Sequence[LogEvent]]:
    """Per row the customer's events in the lake, from `since_us` until strictly before `until_us`, in time order."""
    asked = pd.DataFrame({"customer_id": customers, "since_us": since_us, "until_us": until_us})
    spans = asked.groupby(["customer_id", "since_us"], sort=True).until_us.max().reset_index()
    span_of = asked.merge(spans.assign(span=np.arange(len(spans))), on=["customer_id", "since_us"], how="left")["span"]
    table = _events_of(home, facts, spans)
    events = _log_events(table)
    times = table["occurred_us"].to_numpy()
    starts = np.searchsorted(table["span"].to_numpy(), np.arange(len(spans) + 1))
    for span, until in zip(span_of.tolist(), until_us.tolist(), strict=True):
        low, high = int(starts[span]), int(starts[span + 1])
        yield events[low : low + int(np.searchsorted(times[low:high], until, side="left"))]


def _events_of(home: Home, facts: Facts, spans: pd.DataFrame) -> pa.Table:
    """The events of each span, ordered by span, time and id."""
    first = from_us(int(spans["since_us"].min())).date().isoformat()
    last = from_us(int(spans["until_us"].max())).date().isoformat()
    paths = [str(home.lake / file.path) for file in facts.lake_files("events") if first <= file.day <= last]
    if not paths:
        return pa.table({name: pa.array([], kind) for name, kind in NO_EVENTS.items()})
    with duckdb.connect() as db:
        hush(db)
        db.register("spans", pa.Table.from_pandas(spans.assign(span=np.arange(len(spans))), preserve_index=False))
        query = (
            f"SELECT span, epoch_us(occurred_at) AS occurred_us, {EVENT_COLUMNS} "
            "FROM read_parquet(?) JOIN spans USING (customer_id) "
            "WHERE occurred_us >= since_us AND occurred_us < until_us ORDER BY span, occurred_us, event_id"
        )
        return db.sql(query, params=[paths]).to_arrow_table()


NO_EVENTS = {
    "span": pa.int64(), "occurred_us": pa.int64(), "event_type": pa.string(), "customer_id": pa.string(),
    "offer_id": pa.string(), "placement_id": pa.string(), "channel": pa.string(), "category": pa.string(),
    "value": pa.decimal128(18, 4), "currency": pa.string(),
}  # fmt: skip


def _log_events(table: pa.Table) -> list[LogEvent]:
    columns = [table[name].to_pylist() for name in NO_EVENTS if name != "span"]
    return [
        LogEvent(0, "", kind, customer, at, None, offer, placement, None, channel, category, value, currency, "{}")
        for at, kind, customer, offer, placement, channel, category, value, currency in zip(*columns, strict=True)
    ]
