"""The expressions as SQL, and DuckDB connections that run them side by side.

A day of one shop is too small for DuckDB to share out between cores, so each core gets a connection of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Concatenate, ParamSpec, TypeVar

import duckdb
import ibis
import pyarrow as pa

from features.compute import expressions as x
from features.definitions.dsl import Entity, FeatureSet
from features.duck import hush

P = ParamSpec("P")
T = TypeVar("T")
ENTITIES: tuple[Entity, ...] = ("customer", "offer")


class Queries:
    """The expressions of a feature set as SQL; tables are bound by name when a query runs."""

    def __init__(self, features: FeatureSet) -> None:
        self.daily: dict[str, str] = {}  # name of a daily table -> query over `events`
        self.snapshot: dict[Entity, dict[str, str]] = {entity: {} for entity in ENTITIES}  # by name of what is before
        self.schemas: dict[str, pa.Schema] = {}
        backend = ibis.duckdb.connect()
        events = ibis.table(x.EVENTS, name="events")
        for entity in ENTITIES:
            weights = ibis.table(x.weights_schema(features, entity), name="weights")
            ids = ibis.table(x.ids_schema(entity), name="ids")
            days = self._add_daily(backend, entity, x.daily(features, entity, events))
            before = self._before(f"{entity}_wide", x.wide_schema(features, entity))
            made = x.rolled(features, entity, before, days, weights, ids)
            self.snapshot[entity][f"{entity}_wide"] = _sql(backend, made)
            by_days = {
                by: self._add_daily(backend, f"{entity}_by_{by}", x.daily_by(features, entity, by, events))
                for by in x.key_columns(features, entity)
            }
            for by, span in x.counted_windows(features, entity):
                name = f"{entity}_by_{by}_{span}"
                before = self._before(name, x.long_schema(features, entity, by, span))
                counted = x.counted(features, entity, by, span, before, by_days[by], weights, ids)
                self.snapshot[entity][name] = _sql(backend, counted)
        backend.disconnect()

    def _add_daily(self, backend: Any, name: str, expression: Any) -> Any:
        self.daily[name] = _sql(backend, expression)
        schema = {**expression.schema(), "day": "int64"}
        self.schemas[f"{name}_days"] = ibis.schema(schema).to_pyarrow()
        return ibis.table(schema, name=f"{name}_days")

    def _before(self, name: str, schema: ibis.Schema) -> Any:
        self.schemas[name] = schema.to_pyarrow()
        return ibis.table(schema, name=name)


@lru_cache(maxsize=4)
def queries_of(features: FeatureSet) -> Queries:
    """Compiling takes a second: once per process and feature set."""
    return Queries(features)


def _sql(backend: Any, expression: Any) -> str:
    return str(backend.compile(expression))


class Lane:
    """One connection on one core."""

    def __init__(self, schemas: Mapping[str, pa.Schema]) -> None:
        self._schemas = schemas
        self._db = duckdb.connect(config={"threads": 1})
        self._db.execute("SET TimeZone = 'UTC'")
        hush(self._db)

    def see(self, name: str, table: pa.Table) -> None:
        self._db.register(name, table)

    def see_or_empty(self, name: str, table: pa.Table | None) -> None:
        self.see(name, self._schemas[name].empty_table() if table is None else table)

    def see_events(self, paths: Sequence[str]) -> None:
        """The lake's files of one day, as the expressions know events."""
        columns = ", ".join(name for name in x.EVENTS if name != "occurred_us")
        self._db.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT {columns}, epoch_us(occurred_at) AS occurred_us "
            f"FROM read_parquet({_listed(paths)})"
        )

    def see_days(self, name: str, files: Sequence[tuple[int, str]]) -> None:
        """Daily aggregates, given as (day, path), with their day."""
        view = f"{name}_days"
        parts = [f"SELECT *, {day}::BIGINT AS day FROM read_parquet({_listed([path])})" for day, path in files]
        if not parts:
            self.see(f"{view}_empty", self._schemas[view].empty_table())
            parts = [f"SELECT * FROM {view}_empty"]
        self._db.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {' UNION ALL '.join(parts)}")

    def run(self, query: str) -> pa.Table:
        return self._db.sql(query).to_arrow_table()

    def close(self) -> None:
        self._db.close()


class Lanes:
    """As many lanes as there are cores. Use as a context manager."""

    def __init__(self, schemas: Mapping[str, pa.Schema]) -> None:
        self._schemas = schemas
        self._own = threading.local()
        self._open: list[Lane] = []
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "lane", self._begin)

    def submit(self, run: Callable[Concatenate[Lane, P], T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._pool.submit(lambda: run(self._own.lane, *args, **kwargs))

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for lane in self._open:
            lane.close()

    def _begin(self) -> None:
        self._own.lane = Lane(self._schemas)
        self._open.append(self._own.lane)


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"
