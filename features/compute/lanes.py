"""The expressions as SQL, and DuckDB connections that run them side by side.

A day of one shop is too small for DuckDB to share out between cores, so each core gets a connection of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
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
    """The expressions of a feature set as SQL over `events`, which is bound when a query runs."""

    def __init__(self, features: FeatureSet) -> None:
        self.daily: dict[str, str] = {}  # by name of the daily table
        backend = ibis.duckdb.connect()
        events = ibis.table(x.EVENTS, name="events")
        for entity in ENTITIES:
            self.daily[entity] = _sql(backend, x.daily(features, entity, events))
            for by in x.key_columns(features, entity):
                self.daily[f"{entity}_by_{by}"] = _sql(backend, x.daily_by(features, entity, by, events))
        backend.disconnect()


@lru_cache(maxsize=4)
def queries_of(features: FeatureSet) -> Queries:
    """Compiling takes a second: once per process and feature set."""
    return Queries(features)


def _sql(backend: Any, expression: Any) -> str:
    return str(backend.compile(expression))


class Lane:
    """One connection on one core."""

    def __init__(self) -> None:
        self._db = duckdb.connect(config={"threads": 1})
        self._db.execute("SET TimeZone = 'UTC'")
        hush(self._db)

    def see_events(self, paths: Sequence[str]) -> None:
        """The lake's files of one day, as the expressions know events."""
        columns = ", ".join(name for name in x.EVENTS if name != "occurred_us")
        self._db.execute(
            f"CREATE OR REPLACE TEMP VIEW events AS SELECT {columns}, epoch_us(occurred_at) AS occurred_us "
            f"FROM read_parquet({_listed(paths)})"
        )

    def run(self, query: str) -> pa.Table:
        return self._db.sql(query).to_arrow_table()

    def close(self) -> None:
        self._db.close()


class Lanes:
    """As many lanes as there are cores. Use as a context manager."""

    def __init__(self) -> None:
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
        self._own.lane = Lane()
        self._open.append(self._own.lane)


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"
