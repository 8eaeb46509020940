"""Builds what is missing: daily aggregates from the lake, and a snapshot per day from the one before."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import ibis
import msgspec
import pyarrow as pa

from features.compute import expressions as x
from features.compute.files import Files, Manifest, chained, digest_of, files_of, write_parquet
from features.compute.profiles import profile_table
from features.definitions import FeatureSet, feature_set, kinds_of
from features.definitions.dsl import Entity
from features.errors import NboError
from features.events import US_PER_DAY
from features.facts import Facts, LakeFile
from features.home import Home
from features.lake import writer_lock

ENTITIES: tuple[Entity, ...] = ("customer", "offer")
FEATURE_SET = "feature_set"  # key in facts.db: the declaration that was built last
BUILT = "features_built"  # key in facts.db: a `Built`
EPOCH = date(1970, 1, 1)
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
    home.features.mkdir(parents=True, exist_ok=True)
    with writer_lock(home, wait_s=600.0):
        features = wanted_features(facts)
        files = files_of(home, features)
        log_position = _exported_position(facts)
        lake = _by_day(facts.lake_files("events"))
        work = _Work(home, facts, features, files, lake, until, progress)
        report = work.run(began)
        with facts.transaction():
            facts.set_meta(FEATURE_SET, features.to_json().decode())
            complete = min(lake, default=report.days[0]) >= report.days[0]
            facts.set_meta(BUILT, msgspec.json.encode(Built(report.days, log_position, complete)).decode())
        for other in home.features.iterdir():
            if other != files.folder and other.is_dir():
                shutil.rmtree(other)
    return report


class _Work:
    """One build: a DuckDB connection, and the compiled queries that each day runs."""

    def __init__(
        self, home: Home, facts: Facts, features: FeatureSet, files: Files, lake: Mapping[str, list[LakeFile]],
        until: date, progress: Progress,
    ) -> None:  # fmt: skip
        self.home, self.facts, self.features, self.files, self.progress = home, facts, features, files, progress
        self.until = until
        self.lake = {day: some for day, some in lake.items() if date.fromisoformat(day) < until}
        self.days = self._wanted_days()
        self.ibis = ibis.duckdb.connect(threads=_threads())
        self.duckdb = self.ibis.con
        self.duckdb.execute("SET TimeZone = 'UTC'")
        self.queries = _Queries(self.ibis, features)

    def run(self, began: float) -> BuildReport:
        manifest = self.files.manifest()
        writer = _Writer()
        try:
            n_daily = self._daily(manifest, writer)
            n_snapshots, sizes = self._snapshots(manifest, writer)
            self._profiles(manifest)
        finally:
            writer.close()
            self.ibis.disconnect()
        days = tuple(day.isoformat() for day in self.days)
        self._forget(manifest, days)
        self.files.write_manifest(manifest)
        return BuildReport(
            self.features, days, n_daily, n_snapshots, sizes["customer"], sizes["offer"], time.perf_counter() - began
        )

    def _wanted_days(self) -> list[date]:
        """The days that get a snapshot: from the first event's, at most `snapshot_days` of them."""
        first = min((date.fromisoformat(day) for day in self.lake), default=self.until)
        oldest = self.until - timedelta(days=self.facts.data_settings().snapshot_days - 1)
        return list(_days(max(first, oldest), self.until))

    def _daily(self, manifest: Manifest, writer: _Writer) -> int:
        n_made = 0
        stale = [day for day, some in self.lake.items() if manifest.daily.get(day) != digest_of(some)]
        for n, day in enumerate(stale):
            self.progress(n, len(stale), f"aggregates of {day}")
            manifest.daily.pop(day, None)
            self._read_events(day)
            for name, query in self.queries.daily.items():
                writer.write(self._arrow(query), self.files.daily(name, day))
            writer.wait()
            manifest.daily[day] = digest_of(self.lake[day])
            n_made += 1
            if n % 20 == 19:
                self.files.write_manifest(manifest)
        self.files.write_manifest(manifest)
        return n_made

    def _read_events(self, day: str) -> None:
        paths = [str(self.home.lake / file.path) for file in self.lake[day]]
        columns = ", ".join(name for name in x.EVENTS if name != "occurred_us")
        self.duckdb.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT {columns}, epoch_us(occurred_at) AS occurred_us "
            f"FROM read_parquet({_listed(paths)})"
        )

    def _snapshots(self, manifest: Manifest, writer: _Writer) -> tuple[int, dict[Entity, int]]:
        chain = self._chain()
        stale = [day for day in self.days if manifest.snapshots.get(day.isoformat()) != chain[day]]
        held: dict[Entity, tuple[date, pa.Table]] = {}
        for n, day in enumerate(stale):
            self.progress(n, len(stale), f"snapshot of {day}")
            manifest.snapshots.pop(day.isoformat(), None)
            for entity in ENTITIES:
                base = held.get(entity)
                if base is None or base[0] != day - timedelta(days=1):
                    base = self._base(manifest, chain, entity, day)
                table = self._snapshot(entity, day, base)
                held[entity] = day, table
                writer.write(_stamped(table, day), self.files.snapshot(entity, day.isoformat()))
            writer.wait(keep=len(ENTITIES))
            manifest.snapshots[day.isoformat()] = chain[day]
            if n % 10 == 9:
                writer.wait()
                self.files.write_manifest(manifest)
        writer.wait()
        sizes: dict[Entity, int] = {entity: self._n_rows(entity, self.days[-1]) for entity in ENTITIES}
        self.files.write_manifest(manifest)
        return len(stale), sizes

    def _chain(self) -> dict[date, str]:
        """Per snapshot day the digest of all days before it."""
        chain: dict[date, str] = {}
        before = ""
        known = sorted(self.lake)
        at = 0
        for day in self.days:
            while at < len(known) and known[at] < day.isoformat():
                before = chained(before, known[at], digest_of(self.lake[known[at]]))
                at += 1
            chain[day] = before or "empty"
        return chain

    def _base(
        self, manifest: Manifest, chain: Mapping[date, str], entity: Entity, day: date
    ) -> tuple[date, pa.Table] | None:
        """The snapshot of the day before, if it is there and up to date."""
        before = day - timedelta(days=1)
        path = self.files.snapshot(entity, before.isoformat())
        if chain.get(before) is None or manifest.snapshots.get(before.isoformat()) != chain[before]:
            return None
        query = f"SELECT * EXCLUDE (event_timestamp) FROM read_parquet({_listed([str(path)])})"
        return before, self._arrow(query)

    def _snapshot(self, entity: Entity, day: date, base: tuple[date, pa.Table] | None) -> pa.Table:
        spans = x.spans(self.features, entity)
        if base is None:
            previous = x.stored_schema(self.features, entity).to_pyarrow().empty_table()
            weights = _weights(None, day, spans, sorted(self.lake))
        else:
            previous = base[1]
            weights = _weights(base[0], day, spans, sorted(self.lake))
        self.duckdb.register("previous", previous)
        self.duckdb.register("weights", weights)
        self.duckdb.execute(f"CREATE OR REPLACE TEMP VIEW snapshot_at AS SELECT {_number(day)}::BIGINT AS at_day")
        needed = [_day(n).isoformat() for n in weights["day"].to_pylist()]
        for name in self.queries.names[entity]:
            self._read_daily(name, needed)
        return self._arrow(self.queries.snapshot[entity])

    def _read_daily(self, name: str, days: Sequence[str]) -> None:
        parts = [
            f"SELECT *, {_number(date.fromisoformat(day))}::BIGINT AS day "
            f"FROM read_parquet({_listed([str(self.files.daily(name, day))])})"
            for day in days
        ]
        if not parts:
            empty = self.queries.daily_schema[name].to_pyarrow().append(pa.field("day", pa.int64())).empty_table()
            self.duckdb.register(f"{name}_empty", empty)
            parts = [f"SELECT * FROM {name}_empty"]
        self.duckdb.execute(f"CREATE OR REPLACE TEMP VIEW {name}_days AS {' UNION ALL '.join(parts)}")

    def _profiles(self, manifest: Manifest) -> None:
        table = profile_table(self.features, self.facts.profile_history())
        path = self.files.profiles / "profiles.parquet"
        write_parquet(table, path)

    def _forget(self, manifest: Manifest, days: Sequence[str]) -> None:
        """Snapshots outside the wanted days go: Feast reads whatever lies in the folder."""
        for entity in ENTITIES:
            for path in self.files.snapshots(entity).glob("*.parquet"):
                if path.stem not in days:
                    path.unlink()
        manifest.snapshots = {day: digest for day, digest in manifest.snapshots.items() if day in days}
        manifest.daily = {day: digest for day, digest in manifest.daily.items() if day in self.lake}

    def _n_rows(self, entity: Entity, day: date) -> int:
        path = self.files.snapshot(entity, day.isoformat())
        rows = self.duckdb.execute(f"SELECT count(*) FROM read_parquet({_listed([str(path)])})").fetchall()
        return int(rows[0][0])

    def _arrow(self, query: str) -> pa.Table:
        return self.duckdb.sql(query).to_arrow_table()


class _Queries:
    """The expressions as SQL, compiled once per build."""

    def __init__(self, connection: Any, features: FeatureSet) -> None:
        events = ibis.table(x.EVENTS, name="events")
        self.daily: dict[str, str] = {}
        self.daily_schema: dict[str, ibis.Schema] = {}
        self.names: dict[str, list[str]] = {}
        self.snapshot: dict[str, str] = {}
        for entity in ENTITIES:
            made: dict[str, x.Expr] = {entity: x.daily(features, entity, events)}
            by = {key: x.daily_by(features, entity, key, events) for key in x.key_columns(features, entity)}
            made |= {f"{entity}_by_{key}": expression for key, expression in by.items()}
            for name, expression in made.items():
                self.daily[name] = str(connection.compile(expression))
                self.daily_schema[name] = expression.schema()
            self.names[entity] = list(made)
            days = {name: ibis.table({**expression.schema(), "day": "int64"}, name=f"{name}_days")
                    for name, expression in made.items()}  # fmt: skip
            self.snapshot[entity] = str(
                connection.compile(
                    x.snapshot(
                        features,
                        entity,
                        ibis.table(x.stored_schema(features, entity), name="previous"),
                        days[entity],
                        {key: days[f"{entity}_by_{key}"] for key in by},
                        ibis.table(x.weights_schema(features, entity), name="weights"),
                        ibis.table({"at_day": "int64"}, name="snapshot_at"),
                    )
                )
            )


class _Writer:
    """Writes Parquet beside the next query."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._running: list[Future[None]] = []

    def write(self, table: pa.Table, path: Any) -> None:
        self._running.append(self._pool.submit(write_parquet, table, path))

    def wait(self, keep: int = 0) -> None:
        while len(self._running) > keep:
            self._running.pop(0).result()

    def close(self) -> None:
        self._pool.shutdown(wait=True)


def _weights(base: date | None, day: date, spans: Sequence[int], known: Sequence[str]) -> pa.Table:
    """As `weights_schema`: how often each day counts in each window when rolling from `base` to `day`, if it does."""
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


def _stamped(table: pa.Table, day: date) -> pa.Table:
    """With the time from which the snapshot holds, which Feast joins on."""
    at = pa.array([_number(day) * US_PER_DAY] * len(table), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    return table.append_column("event_timestamp", at)


def _exported_position(facts: Facts) -> int:
    from features.log_export import exported

    return exported(facts).position


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


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def _threads() -> int:
    import os

    return max(1, len(os.sched_getaffinity(0)))
