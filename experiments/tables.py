"""What happened, as tables to ask: events, exposures, decisions and customers, with visitors joined to who they are.

One DuckDB connection over the lake's listed files, or over tables that somebody made. Whoever computes from it sees
the same columns either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import msgspec

from features.attribution import watched_us, windows_us
from features.catalogue import Offer
from features.data_settings import DataSettings
from features.duck import hush
from features.errors import BadInput
from features.facts import Facts
from features.home import Home

if TYPE_CHECKING:
    import duckdb

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "events": {
        "event_id": "VARCHAR", "event_type": "VARCHAR", "customer_id": "VARCHAR", "occurred_at": "TIMESTAMPTZ",
        "decision_id": "VARCHAR", "offer_id": "VARCHAR", "placement_id": "VARCHAR", "session_id": "VARCHAR",
        "channel": "VARCHAR", "category": "VARCHAR", "value": "DECIMAL(18, 4)", "currency": "VARCHAR",
        "properties": "VARCHAR",
    },
    "exposures": {
        "experiment_id": "VARCHAR", "phase": "INTEGER", "unit_id": "VARCHAR", "customer_id": "VARCHAR",
        "variant": "VARCHAR", "exposed_at": "TIMESTAMPTZ", "decision_id": "VARCHAR",
    },
    "decisions": {
        "decision_id": "VARCHAR", "customer_id": "VARCHAR", "decided_at": "TIMESTAMPTZ", "payload": "VARCHAR",
    },
    "customers": {"customer_id": "VARCHAR", "known_from": "TIMESTAMPTZ"},
}  # fmt: skip
OPTIONAL = {"phase": "1", "properties": "'{}'"}  # what stands where a table lacks the column; else NULL
NEEDED = {
    "events": ("event_type", "customer_id", "occurred_at"),
    "exposures": ("experiment_id", "unit_id", "variant", "exposed_at"),
    "decisions": ("decision_id", "customer_id", "decided_at", "payload"),
    "customers": ("customer_id",),
}
MEMORY = "2500MB"  # of DuckDB; what does not fit goes to disk


@dataclass(frozen=True, slots=True)
class Tables:
    """An open connection with views `events`, `exposures`, `decisions`, `customers` and tables `identities`, `offers`.

    Each view has its columns of `COLUMNS`, times as microseconds (`us`) since 1970 UTC; `exposures` and `customers` may
    have more, by which units can be grouped. `customers` has one row for each time that something about a customer
    became known, so that nobody is grouped by what was learned after the exposure. Close it after use.
    """

    db: duckdb.DuckDBPyConnection
    settings: DataSettings
    has_aliases: bool  # whether any visitor turned out to be somebody
    own_windows: bool  # whether offers have attribution windows of their own
    segments: Mapping[str, str]  # name of a column to group by -> the view that has it
    late: dict[str, Callable[[], None]] = field(default_factory=dict)  # what makes a view that few questions need

    def need(self, view: str) -> None:
        """From now on the view is there."""
        make = self.late.pop(view, None)
        if make is not None:
            make()

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tables(home: Home, facts: Facts, *, n_threads: int = 2) -> Tables:
    """The lake as it is listed now. What is not there yet is an empty table, not an error.

    Customers' attributes are read from `facts` when a question groups by them.
    """
    db = _connect(n_threads, home.root)
    for name in ("events", "exposures", "decisions"):
        paths = [str(home.lake / file.path) for file in facts.lake_files(name)]
        if paths:
            db.read_parquet(paths, hive_partitioning=False).create_view(f"raw_{name}")
            _view(db, name)
        else:
            _empty(db, name)
    attributes = sorted(name for name in facts.attribute_kinds() if name not in (*COLUMNS["customers"], "us"))
    joined = [
        (alias, customer, joined_us) for customer, held in facts.identities().items() for alias, joined_us in held
    ]
    segments = dict.fromkeys(attributes, "customers")
    late = {"customers": lambda: _profiles(db, facts, attributes)}
    return _with_facts(db, facts.catalogue().offers, joined, facts.data_settings(), segments, late)


def tables_of(
    *,
    events: Any = None,
    exposures: Any = None,
    decisions: Any = None,
    customers: Any = None,
    offers: Sequence[Offer] = (),
    identities: Iterable[tuple[str, str, int]] = (),
    settings: DataSettings | None = None,
    n_threads: int = 2,
    folder: Path | None = None,
) -> Tables:
    """The same over tables in memory (Arrow, or pandas), or relations of DuckDB given as SQL text.

    Columns as in the lake; those of `NEEDED` must be there, `BadInput` names one that is not. Identities are (alias,
    customer, joined_us). `folder` is where DuckDB puts what does not fit into memory.
    """
    db = _connect(n_threads, folder)
    extra: dict[str, str] = {}
    for name, table in (("events", events), ("exposures", exposures), ("decisions", decisions)):
        _take(db, name, table)
        if name == "exposures":
            extra |= dict.fromkeys(_more(db, name), name)
    _take(db, "customers", customers)
    extra |= dict.fromkeys(_more(db, "customers"), "customers")
    return _with_facts(db, offers, list(identities), settings or DataSettings(), extra, {})


def _connect(n_threads: int, folder: Path | None) -> duckdb.DuckDBPyConnection:
    import duckdb

    db = duckdb.connect(config={"threads": n_threads, "memory_limit": MEMORY})
    db.execute("SET TimeZone = 'UTC'")
    hush(db)
    db.execute("SET preserve_insertion_order = false")  # no question depends on it, and it costs memory
    db.execute(f"SET temp_directory = '{folder / '.spill' if folder is not None else gettempdir()}'")
    return db


def _take(db: duckdb.DuckDBPyConnection, name: str, table: Any) -> None:
    if table is None:
        _empty(db, name)
        return
    if isinstance(table, str):
        db.execute(f"CREATE VIEW raw_{name} AS {table}")
    else:
        db.register(f"raw_{name}", table)
    _view(db, name)


def _raw_columns(db: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    return [str(row[0]) for row in db.execute(f"DESCRIBE raw_{name}").fetchall()]


def _more(db: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    return [str(row[0]) for row in db.execute(f"DESCRIBE {name}").fetchall() if row[0] not in (*COLUMNS[name], "us")]


def _view(db: duckdb.DuckDBPyConnection, name: str) -> None:
    """Types checked once here, absent columns filled, times as microseconds."""
    raw = _raw_columns(db, name)
    for column in NEEDED[name]:
        if column not in raw:
            raise BadInput(f"the table of {name} needs a column {column}", column)
    selected = [
        f'CAST("{column}" AS {kind}) AS {column}'
        if column in raw
        else f"CAST({OPTIONAL.get(column, 'NULL')} AS {kind}) AS {column}"
        for column, kind in COLUMNS[name].items()
        if kind != "TIMESTAMPTZ"
    ]
    time = next(column for column, kind in COLUMNS[name].items() if kind == "TIMESTAMPTZ")
    always = "CAST(0 AS BIGINT)"  # what is known without a date was known from the beginning
    us = f'coalesce(epoch_us(CAST("{time}" AS TIMESTAMPTZ)), {always})' if time in raw else always
    extra = [f'CAST("{one}" AS VARCHAR) AS "{one}"' for one in raw if one not in (*COLUMNS[name], "received_at")]
    more = extra if name in ("exposures", "customers") else []
    db.execute(f"CREATE VIEW {name} AS SELECT {', '.join([*selected, f'{us} AS us', *more])} FROM raw_{name}")


def _empty(db: duckdb.DuckDBPyConnection, name: str) -> None:
    columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS[name].items())
    db.execute(f"CREATE TABLE raw_{name} ({columns})")
    _view(db, name)


def _profiles(db: duckdb.DuckDBPyConnection, facts: Facts, names: Sequence[str]) -> None:
    """View `customers`: these attributes of everybody, with their history."""
    import pyarrow as pa

    keys: list[str] = []
    since: list[int] = []
    values: dict[str, list[str | None]] = {name: [] for name in names}
    for customer_id, valid_from_us, body in facts.profile_history():
        keys.append(customer_id)
        since.append(valid_from_us)
        known = msgspec.json.decode(body)
        for name in names:
            values[name].append(None if known.get(name) is None else str(known[name]))
    columns = {"customer_id": pa.array(keys, pa.string()), "us": pa.array(since, pa.int64())}
    db.register("customers", pa.table(columns | {name: pa.array(values[name], pa.string()) for name in names}))


def _with_facts(
    db: duckdb.DuckDBPyConnection,
    offers: Sequence[Offer],
    joined: Sequence[tuple[str, str, int]],
    settings: DataSettings,
    segments: Mapping[str, str],
    late: dict[str, Callable[[], None]],
) -> Tables:
    import pyarrow as pa

    windows = windows_us(list(offers), settings.attribution)
    kept = {
        "offer_id": pa.array([offer.offer_id for offer in offers], pa.string()),
        "offer_value": pa.array([offer.value for offer in offers], pa.float64()),
        "window_us": pa.array(windows, pa.int64()),
        "watched_us": pa.array(watched_us(windows, settings.attribution), pa.int64()),
    }
    _table(db, "offers", pa.table(kept))
    columns = list(zip(*joined, strict=True)) or [(), (), ()]
    kinds = {"alias": pa.string(), "known": pa.string(), "joined_us": pa.int64()}
    _table(
        db,
        "identities",
        pa.table({name: pa.array(values, kinds[name]) for name, values in zip(kinds, columns, strict=True)}),
    )
    own = settings.attribution.window_attribute is not None
    return Tables(db, settings, bool(joined), own, dict(segments), late)


def _table(db: duckdb.DuckDBPyConnection, name: str, table: Any) -> None:
    db.register(f"raw_{name}", table)
    db.execute(f"CREATE TABLE {name} AS SELECT * FROM raw_{name}")
    db.unregister(f"raw_{name}")
