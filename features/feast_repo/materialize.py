"""Brings the newest snapshot into the online store, and today's events into the log's tail."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.compute import built, current_features
from features.compute.files import files_of
from features.copying import copying
from features.duck import hush
from features.errors import NboError
from features.events import from_us, to_us
from features.facts import Facts
from features.feast_repo.apply import check_applied, open_feast_on, write_yaml
from features.feast_repo.bulk import write_view
from features.home import Home
from features.log import LogEvent
from features.online import SERVED, SNAPSHOT, VIEWS, Snapshot, read_snapshot
from features.packed import make_packed
from features.sqlite_log import SqliteLog

Progress = Callable[[int, int, str], None]
START = datetime(1970, 1, 1, tzinfo=UTC)
TAIL_COLUMNS = (
    "0, event_id, event_type, customer_id, epoch_us(occurred_at), decision_id, offer_id, placement_id, session_id, "
    "channel, category, value, currency, properties, epoch_us(received_at)"
)


@dataclass(frozen=True, slots=True)
class Materialized:
    """What is online now."""

    snapshot: Snapshot
    n_tail: int  # events since the snapshot that were copied from the lake


def materialize(
    home: Home, facts: Facts, as_of: datetime, progress: Progress = lambda done, total, what: None
) -> Materialized:
    """The newest snapshot not after `as_of` goes online, and the lake's events from then until `as_of` into the tail.

    The new online store is a new file: readers of the one before keep a consistent state until they open the new.
    """
    with copying(home):
        return _materialize(home, facts, as_of, progress)


def _materialize(home: Home, facts: Facts, as_of: datetime, progress: Progress) -> Materialized:
    check_applied(facts)
    state, features = built(facts), current_features(facts)
    today = as_of.astimezone(UTC).date().isoformat()
    days = [day for day in state.days if day <= today]
    if not days:
        raise NboError(f"there is no snapshot as of {as_of.isoformat()}: run `nbo features build` as of then")
    at = datetime.fromisoformat(days[-1]).replace(tzinfo=UTC)
    before = read_snapshot(facts)
    online = _fresh_name(home, days[-1])
    views = [view for view in VIEWS if features.stored(view)]
    _load(home, facts, online, views, at, as_of, progress)
    progress(len(views), len(views) + 1, "events of today")
    since = min(at, from_us(before.as_of_us)) if before else at
    n_tail = _fill_tail(home, facts, since, as_of)
    snapshot = Snapshot(days[-1], to_us(at), state.log_position, to_us(as_of), online, features.digest)
    with facts.transaction():
        facts.set_meta(SERVED, features.to_json().decode())
        facts.set_meta(SNAPSHOT, msgspec.json.encode(snapshot).decode())
    write_yaml(home, home.feast / online)
    _remove_old(home, {online, before.online if before else ""})
    return Materialized(snapshot, n_tail)


def _load(
    home: Home, facts: Facts, online: str, views: list[Any], at: datetime, as_of: datetime, progress: Progress
) -> None:
    """The rows that Feast's own materialization would write into the new file, which Feast is told of."""
    from feast.infra.online_stores.helpers import compute_table_id

    from features.feast_repo.objects import ENTITY, feast_objects

    features = current_features(facts)
    files = files_of(home, features)
    store = open_feast_on(home, facts, home.feast / online)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        store.apply(feast_objects(features, files))  # makes the tables
    with closing(sqlite3.connect(home.feast / online)) as db:
        with db:
            make_packed(db, [column.name for column in features.stored("customer")])
        for n, view in enumerate(views):
            progress(n, len(views) + 1, VIEWS[view])
            known = store.get_feature_view(VIEWS[view])
            table = compute_table_id(store.project, known, store.config.registry.enable_online_feature_view_versioning)
            key, since, until = ENTITY[view].join_key, at, at
            if view == "profile":
                since, until = START, as_of
                rows = _newest(pq.read_table(files.profiles / "profiles.parquet"), key, to_us(as_of))
            else:
                rows = pq.read_table(files.snapshot(view, at.date().isoformat()))
            write_view(db, table, key, features.stored(view), rows, packed=view == "customer")
            store.registry.apply_materialization(known, store.project, since, until)


def _newest(rows: pa.Table, key: str, until_us: int) -> pa.Table:
    """Per key the last version not after an instant."""
    us = rows["event_timestamp"].cast(pa.int64())
    rows = (
        rows.append_column("us", us)
        .filter(pc.less_equal(us, until_us))
        .sort_by([(key, "ascending"), ("us", "ascending")])
    )
    keys = rows[key].combine_chunks()
    last = pc.not_equal(keys[:-1], keys[1:]).to_numpy(zero_copy_only=False)
    return rows.drop(["us"]).filter(pa.array(np.append(last, len(rows) > 0)[: len(rows)]))


def _fill_tail(home: Home, facts: Facts, since: datetime, as_of: datetime) -> int:
    """Copies the lake's events from `since` to `as_of`, both included, to the log's tail."""
    paths = [
        str(home.lake / file.path)
        for file in facts.lake_files("events")
        if since.date().isoformat() <= file.day <= as_of.astimezone(UTC).date().isoformat()
    ]
    log = SqliteLog(home.log_db)
    try:
        counted = _Counted(_events(paths, since, as_of))
        log.replace_tail(counted, to_us(since))
    finally:
        log.close()
    return counted.n


def _events(paths: list[str], since: datetime, as_of: datetime) -> Iterator[LogEvent]:
    if not paths:
        return
    with duckdb.connect() as db:
        hush(db)
        rows = db.execute(
            f"SELECT {TAIL_COLUMNS} FROM read_parquet(?) "
            "WHERE epoch_us(occurred_at) BETWEEN ? AND ? ORDER BY occurred_at, event_id",
            [paths, to_us(since), to_us(as_of)],
        )
        while some := rows.fetchmany(10_000):
            yield from (LogEvent._make(row) for row in some)


class _Counted:
    """Counts what passes."""

    def __init__(self, events: Iterator[LogEvent]) -> None:
        self._events, self.n = events, 0

    def __iter__(self) -> Iterator[LogEvent]:
        for event in self._events:
            self.n += 1
            yield event


def _fresh_name(home: Home, day: str) -> str:
    taken = {path.name for path in home.feast.glob("online-*")}
    return next(name for n in range(1, 1_000_000) if (name := f"online-{day}-{n}.db") not in taken)


def _remove_old(home: Home, kept: set[str]) -> None:
    """The store before stays, for readers that have not opened the new one yet."""
    for path in home.feast.glob("online*.db"):
        if path.name not in kept:
            path.unlink()
