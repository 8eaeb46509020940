"""Builds what is missing: daily aggregates from the lake, and a snapshot per day from the one before."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.compute import expressions as x
from features.compute.files import Files, Manifest, chained, digest_of, files_of, one_build, write_parquet
from features.compute.lanes import Lane, Lanes, queries_of
from features.compute.pack import pack, unpack
from features.compute.profiles import profile_table
from features.compute.roll import Part, Rolling, keys_of, nothing_known, rolled, rows_of
from features.copying import copying
from features.definitions import FeatureSet, feature_set, kinds_of
from features.definitions.dsl import Entity
from features.errors import NboError
from features.events import US_PER_DAY
from features.facts import Facts, LakeFile
from features.home import Home
from features.lake import writer_lock
from features.log_export import exported

ENTITIES: tuple[Entity, ...] = ("customer", "offer")
FEATURE_SET = "feature_set"  # key in facts.db: the declaration that was built last
BUILT = "features_built"  # key in facts.db: a `Built`
EPOCH = date(1970, 1, 1)
DAYS_PER_SAVE = 10  # a build that is interrupted does at most these again
DAYS_TOGETHER = 8  # daily aggregates in memory at once; a snapshot that rolls from the day before asks for fewer
Progress = Callable[[int, int, str], None]


class Built(msgspec.Struct, frozen=True):
    """The last build: which days have snapshots, and how much of the log they hold."""

    days: tuple[str, ...]  # YYYY-MM-DD, ascending
    log_position: int
    complete: bool  # nothing happened before the first of these days


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What one build did."""

    features: FeatureSet
    days: tuple[str, ...]  # that have a snapshot now
    n_daily: int  # days whose aggregates were computed
    n_snapshots: int  # days whose snapshot was computed
    n_customers: int  # in the newest snapshot
    n_offers: int
    seconds: float


def wanted_features(facts: Facts) -> FeatureSet:
    """The feature set that the data ask for: windows and currency of its settings, attributes of its profiles."""
    settings = facts.data_settings()
    attributes = kinds_of(msgspec.json.decode(body) for _, _, body in facts.profile_history())
    return feature_set(settings.windows, attributes, settings.currency)


def current_features(facts: Facts) -> FeatureSet:
    """The feature set that was built last."""
    text = facts.meta(FEATURE_SET)
    if text is None:
        raise NboError("no features have been built yet: run `nbo features build`")
    return FeatureSet.from_json(text)


def built(facts: Facts) -> Built:
    """What the last build left."""
    text = facts.meta(BUILT)
    if text is None:
        raise NboError("no features have been built yet: run `nbo features build`")
    return msgspec.json.decode(text, type=Built)


def build(home: Home, facts: Facts, *, until: date, progress: Progress = lambda done, total, what: None) -> BuildReport:
    """Snapshots for every day from the first event, at most the settings' `snapshot_days`, up to `until`.

    A day is computed only if it is missing or its input has changed; the same input gives the same bytes.
    """
    began = time.perf_counter()
    with copying(home), one_build(home):
        with writer_lock(home):  # an export between the two reads would be counted twice, or not at all
            log_position, lake = exported(facts).position, _by_day(facts.lake_files("events"))
        features = wanted_features(facts)
        files = files_of(home, features)
        report = _Work(home, facts, features, files, lake, until, progress).run(facts, began)
        with facts.transaction():
            facts.set_meta(FEATURE_SET, features.to_json().decode())
            complete = min(lake, default=report.days[0]) >= report.days[0]
            facts.set_meta(BUILT, msgspec.json.encode(Built(report.days, log_position, complete)).decode())
        for other in home.features.iterdir():
            if other != files.folder and other.is_dir():
                shutil.rmtree(other)
    return report


class _Work:
    """One build: what is there, what is missing, and the queries that each day runs."""

    def __init__(
        self, home: Home, facts: Facts, features: FeatureSet, files: Files, lake: Mapping[str, list[LakeFile]],
        until: date, progress: Progress,
    ) -> None:  # fmt: skip
        self.home, self.features, self.files, self.progress, self.until = home, features, files, progress, until
        self.lake = {day: some for day, some in sorted(lake.items()) if date.fromisoformat(day) < until}
        self.days = self._wanted_days(facts.data_settings().snapshot_days)
        self.queries = queries_of(features)
        self.spans = {entity: x.spans(features, entity) for entity in ENTITIES}

    def run(self, facts: Facts, began: float) -> BuildReport:
        manifest = self.files.manifest()
        with Lanes() as lanes:
            n_daily = self._daily(manifest, lanes)
            n_snapshots = self._snapshots(manifest, lanes)
        write_parquet(profile_table(self.features, facts.profile_history()), self.files.profiles / "profiles.parquet")
        days = tuple(day.isoformat() for day in self.days)
        self._forget(manifest, days)
        self.files.write_manifest(manifest)
        n_customers, n_offers = (
            pq.read_metadata(self.files.snapshot(entity, days[-1])).num_rows for entity in ENTITIES
        )
        seconds = time.perf_counter() - began
        return BuildReport(self.features, days, n_daily, n_snapshots, n_customers, n_offers, seconds)

    def _wanted_days(self, at_most: int) -> list[date]:
        """The days that get a snapshot: from the first event's on, but the last `at_most`."""
        first = min((date.fromisoformat(day) for day in self.lake), default=self.until)
        oldest = self.until - timedelta(days=at_most - 1)
        return list(_days(max(first, oldest), self.until))

    def _daily(self, manifest: Manifest, lanes: Lanes) -> int:
        stale = [day for day, some in self.lake.items() if manifest.daily.get(day) != digest_of(some)]
        for day in stale:
            manifest.daily.pop(day, None)
        self.files.write_manifest(manifest)
        running = [(day, lanes.submit(self._aggregate_day, day)) for day in stale]
        for n, (day, answer) in enumerate(running):
            self.progress(n, len(stale), f"aggregates of {day}")
            answer.result()
            manifest.daily[day] = digest_of(self.lake[day])
            if n % DAYS_PER_SAVE == 0:
                self.files.write_manifest(manifest)
        return len(stale)

    def _aggregate_day(self, lane: Lane, day: str) -> None:
        lane.see_events([str(self.home.lake / file.path) for file in self.lake[day]])
        for name, query in self.queries.daily.items():
            write_parquet(lane.run(query), self.files.daily(name, day))

    def _snapshots(self, manifest: Manifest, lanes: Lanes) -> int:
        chain = self._chain()
        stale = [day for day in self.days if manifest.snapshots.get(day.isoformat()) != chain[day]]
        held: dict[Entity, tuple[date, Rolling]] = {}
        writing: deque[tuple[date, list[Future[None]]]] = deque()
        for n, day in enumerate(stale):
            self.progress(n, len(stale), f"snapshot of {day}")
            manifest.snapshots.pop(day.isoformat(), None)
            before = day - timedelta(days=1)
            for entity in ENTITIES:
                if held.get(entity, (None,))[0] != before:
                    self._hold(held, manifest, chain, entity, before)
            written = []
            for entity in ENTITIES:
                held[entity] = day, self._rolled(lanes, entity, day, held.get(entity))
                path = self.files.snapshot(entity, day.isoformat())
                written.append(lanes.submit(_write_snapshot, self.features, entity, held[entity][1], day, path))
            writing.append((day, written))
            if len(writing) > 1:
                self._finish(manifest, chain, *writing.popleft(), save=n % DAYS_PER_SAVE == 0)
        while writing:
            self._finish(manifest, chain, *writing.popleft(), save=not writing)
        return len(stale)

    def _rolled(self, lanes: Lanes, entity: Entity, day: date, base: tuple[date, Rolling] | None) -> Rolling:
        """The snapshot of a day, from the one before or from nothing, some daily aggregates at a time."""
        found = nothing_known(self.features, entity) if base is None else base[1]
        weights = _weights(base[0] if base else None, day, self.spans[entity], list(self.lake)).to_pylist()
        tables = [name for name in self.queries.daily if name == entity or name.startswith(f"{entity}_by_")]
        for start in range(0, len(weights), DAYS_TOGETHER):
            some = weights[start : start + DAYS_TOGETHER]
            read = {name: [lanes.submit(self._read, name, one["day"]) for one in some] for name in tables}
            of_day = {name: [one.result() for one in futures] for name, futures in read.items()}
            new = [table for table, one in zip(of_day[entity], some, strict=True) if one["new"]]
            keys = keys_of(found.keys, [chunk for table in new for chunk in table[x.KEY[entity]].chunks])
            rows = {name: lanes.submit(_rows_of, keys.keys, of_day[name], entity) for name in tables}
            found = found.moved(keys, self.features, entity)
            parts = {
                name: [
                    Part(one["day"], one, row, table)
                    for one, row, table in zip(some, rows[name].result(), of_day[name], strict=True)
                ]
                for name in tables
            }
            found = rolled(self.features, entity, found, parts, _number(day))
        return found

    def _read(self, lane: Lane, name: str, day: int) -> pa.Table:
        return pq.read_table(self.files.daily(name, _day(day).isoformat()))

    def _hold(
        self, held: dict[Entity, tuple[date, Rolling]], manifest: Manifest, chain: Mapping[date, str], entity: Entity,
        before: date,
    ) -> None:  # fmt: skip
        """Reads the snapshot to roll from, if it is there and up to date."""
        held.pop(entity, None)
        if before in chain and manifest.snapshots.get(before.isoformat()) == chain[before]:
            path = self.files.snapshot(entity, before.isoformat())
            held[entity] = before, unpack(self.features, entity, pq.read_table(path))

    def _finish(
        self, manifest: Manifest, chain: Mapping[date, str], day: date, written: Sequence[Future[None]], save: bool
    ) -> None:
        for one in written:
            one.result()
        manifest.snapshots[day.isoformat()] = chain[day]
        if save:
            self.files.write_manifest(manifest)

    def _chain(self) -> dict[date, str]:
        """Per snapshot day the digest of all days before it."""
        chain: dict[date, str] = {}
        before = "empty"
        known = list(self.lake)
        at = 0
        for day in self.days:
            while at < len(known) and known[at] < day.isoformat():
                before = chained(before, known[at], digest_of(self.lake[known[at]]))
                at += 1
            chain[day] = before
        return chain

    def _forget(self, manifest: Manifest, days: Sequence[str]) -> None:
        """Snapshots outside the wanted days go: Feast reads whatever lies in the folder."""
        for entity in ENTITIES:
            for path in self.files.snapshots(entity).glob("*.parquet"):
                if path.stem not in days:
                    path.unlink()
        manifest.snapshots = {day: digest for day, digest in manifest.snapshots.items() if day in days}
        manifest.daily = {day: digest for day, digest in manifest.daily.items() if day in self.lake}


def _write_snapshot(lane: Lane, features: FeatureSet, entity: Entity, of: Rolling, day: date, path: Path) -> None:
    """With the time from which the snapshot holds, which Feast joins on."""
    table = pack(features, entity, of)
    at = pa.array([_number(day) * US_PER_DAY] * len(table), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    write_parquet(table.append_column("event_timestamp", at), path)


def _rows_of(lane: Lane, keys: Any, tables: Sequence[pa.Table], entity: Entity) -> list[NDArray[np.int64]]:
    return rows_of(keys, tables, entity)


def _weights(base: date | None, day: date, spans: Sequence[int], known: Sequence[str]) -> pa.Table:
    """How often each day counts in each window when rolling from `base` to `day`, if it does: `day`, `new` (whether it
    lies between the two) and per window of n whole days `wn` (1 enters, -1 leaves)."""
    rows = []
    for text in known:
        d = date.fromisoformat(text)
        if d >= day:
            break
        new = int(base is None or d >= base)
        weights = []
        for span in spans:
            now_in = d >= day - timedelta(days=span)
            was_in = base is not None and base - timedelta(days=span) <= d < base
            weights.append(int(now_in) - int(was_in))
        if new or any(weights):
            rows.append((_number(d), new, *weights))
    names = ["day", "new", *(f"w{span}" for span in spans)]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table({name: pa.array(values, pa.int64()) for name, values in zip(names, columns, strict=True)})


def _by_day(files: Sequence[LakeFile]) -> dict[str, list[LakeFile]]:
    by_day: dict[str, list[LakeFile]] = {}
    for file in files:
        by_day.setdefault(file.day, []).append(file)
    return by_day


def _days(first: date, last: date) -> Iterator[date]:
    for n in range((last - first).days + 1):
        yield first + timedelta(days=n)


def _number(day: date) -> int:
    return (day - EPOCH).days


def _day(number: int) -> date:
    return EPOCH + timedelta(days=number)
