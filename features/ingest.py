"""Raw tables in, checked: the good rows become lake and facts in one commit, the others a file with reasons.

An event is kept under the checks of `features.events.check_event`, written as SQL in `ingest_events.py`. Of several
rows with one event_id the earliest is kept; rows whose event_id the lake has are duplicates, so running an ingest again
adds nothing. Memory is bounded by DuckDB, which spills into the staging folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import Offer, Placement
from features.data_settings import DataSettings
from features.duck import hush
from features.errors import BadEvent, BadInput, BadRecipe, TooManyRefused
from features.events import MAX_AHEAD, to_us
from features.facts import Facts
from features.home import Home
from features.ingest_catalogue import (
    CUSTOMER_FIELDS,
    OFFER_FIELDS,
    Customer,
    check_customer,
    check_offer,
    rows_of,
)
from features.ingest_events import checked, id_hashes
from features.ingest_recipe import SETTINGS_FILE, Needs, load_needs, load_recipe
from features.ingest_sources import Table, quoted, tables_of
from features.lake import EVENT_SCHEMA, DayWriter, Staging, flush_folder, place, staging, sweep, writer_lock

REFUSED_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "row", "code", "detail")])
DEFAULT_PLACEMENT = Placement(placement_id="default", name="default placement", channel="web")
ROWS_PER_BATCH = 131_072
AUTHOR = "nbo ingest"  # of what it changes in the catalogue
Progress = Callable[[str], None]
R = TypeVar("R")


@dataclass(slots=True)
class TableReport:
    """What became of one table's rows."""

    table: str
    source: str
    n_rows: int = 0
    kept: int = 0
    duplicates: int = 0
    erased: int = 0  # of customers who were erased: skipped, and kept nowhere
    refused: dict[str, int] = field(default_factory=dict)  # by reason

    @property
    def n_refused(self) -> int:
        return sum(self.refused.values())

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest brought. Rows that changed nothing, because they were known, count as kept except for events."""

    ingest_id: str
    tables: tuple[TableReport, ...]
    first_day: str | None  # of the events that were added
    last_day: str | None
    n_offers_changed: int
    n_customers_changed: int
    refused_file: str | None


def ingest(
    home: Home,
    facts: Facts,
    source: Path,
    recipe: str | None = None,
    *,
    now: datetime,
    max_refused: float = 0.01,
    memory: str = "1GB",
    progress: Progress = lambda step: None,
) -> IngestReport:
    """Take in the tables of `source`, through a recipe or as they are; all or nothing.

    `now` is the deployment's clock: later events are refused. `max_refused` is the share of a table's rows that may be
    refused; above it `TooManyRefused` is raised and nothing is committed but the file of refused rows. `memory` bounds
    DuckDB, the process needs some 300 MB more.
    """
    loaded = load_recipe(recipe) if recipe is not None else None
    if not source.is_dir():
        raise BadInput(f"the source {source} is not a folder", "source")
    needs = loaded.needs if loaded is not None else load_needs(source / SETTINGS_FILE)
    settings = _settings(facts, needs)
    ingest_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    with writer_lock(home):
        sweep(home, facts)
        with staging(home, ingest_id) as staged, _engine(staged, source.resolve(), settings, memory) as con:
            progress("reading")
            tables = {table.name: table for table in tables_of(con, source, loaded)}
            batch = _Batch(con, home, facts, staged, settings, needs.time_zone if needs else None, now, progress)
            with _Refusals(staged.folder / "refused.parquet") as refusals:
                customers = batch.customers(tables["customers"], refusals) if "customers" in tables else {}
                offers = batch.offers(tables["offers"], refusals) if "offers" in tables else {}
                if "events" in tables:
                    batch.events(tables["events"], offers, refusals)
            report = refusals.publish(home, ingest_id)
            _check_share(batch.reports, max_refused, report)
            progress("committing")
            return _commit(home, facts, staged, needs, batch.reports, customers, offers, report, now)


def _settings(facts: Facts, needs: Needs | None) -> DataSettings:
    stored = facts.data_settings()
    if needs is None:
        return stored
    if needs.settings.currency != stored.currency and facts.lake_files("events"):
        detail = f"the recipe's currency is {needs.settings.currency}, the history's is {stored.currency}"
        raise BadRecipe(f"{detail}; another currency needs another NBO_HOME", "currency")
    return needs.settings


@contextmanager
def _engine(staged: Staging, source: Path, settings: DataSettings, memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, bounded, with the variables that a recipe's queries may read."""
    with duckdb.connect() as con:
        con.execute(f"SET memory_limit = {quoted(memory)}")
        con.execute(f"SET temp_directory = {quoted(str(staged.folder / 'spill'))}")
        con.execute("SET preserve_insertion_order = false")
        con.execute("SET TimeZone = 'UTC'")
        hush(con)
        variables = {
            "source": str(source),
            "epoch": settings.epoch,
            "time_zone": settings.time_zone,
            "currency": settings.currency,
        }
        for name, value in variables.items():
            con.execute(f"SET VARIABLE {name} = {'NULL' if value is None else quoted(value)}")
        yield con


class _Refusals:
    """The file of refused rows, made with the first of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[tuple[str, str, str, str]] = []

    def __enter__(self) -> _Refusals:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, source: str, row: str, code: str, detail: str) -> None:
        self._rows.append((source, row, code, detail))
        if len(self._rows) >= ROWS_PER_BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer = self._writer or pq.ParquetWriter(self._path, REFUSED_SCHEMA, compression="zstd")
            columns = [pa.array(column, pa.string()) for column in zip(*self._rows, strict=True)]
            self._writer.write_table(pa.table(columns, schema=REFUSED_SCHEMA))
            self._rows = []

    def publish(self, home: Home, ingest_id: str) -> Path | None:
        """Move the file to `lake/refused/`; None if no row was refused."""
        if self._writer is None:
            return None
        target = home.lake / "refused" / f"{ingest_id}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        self._path.replace(target)
        flush_folder(target.parent)
        return target


@dataclass(slots=True)
class _Batch:
    """One ingest on its way: where to write, what holds, and what became of the rows so far."""

    con: duckdb.DuckDBPyConnection
    home: Home
    facts: Facts
    staged: Staging
    settings: DataSettings
    time_zone: str | None
    now: datetime
    progress: Progress
    reports: list[TableReport] = field(default_factory=list)

    def _report(self, table: Table, refusals: _Refusals) -> TableReport:
        """A fresh report; lines of a CSV that cannot be split into columns are refused at once."""
        self.progress(f"checking {table.name}")
        report = TableReport(table.name, table.shown)
        self.reports.append(report)
        if table.is_text:
            bad = self.con.execute(  # a line may be rejected for several reasons
                f"SELECT coalesce(any_value(csv_line), ''), min(error_message) FROM bad_{table.name} GROUP BY line "
                "ORDER BY line"
            )
            for line, message in bad.fetchall():
                report.n_rows += 1
                report.refuse("malformed_row")
                refusals.add(table.shown, msgspec.json.encode(line).decode(), "malformed_row", message)
        return report

    def customers(self, table: Table, refusals: _Refusals) -> dict[str, Customer]:
        found: dict[str, Customer] = {}
        report = self._report(table, refusals)
        for line in rows_of(self.con, table, CUSTOMER_FIELDS, self.time_zone):
            if self.facts.any_erased and self._is_erased(line):
                report.n_rows += 1
                report.erased += 1
                continue
            with _judged(report, refusals, line):
                customer = check_customer(_object(line), self.now)
                _keep(report, found, customer.customer_id, customer)
        return found

    def _is_erased(self, line: str) -> bool:
        try:
            customer_id = _object(line).get("customer_id")
        except BadEvent:
            return False
        return customer_id is not None and self.facts.is_erased(str(customer_id))

    def offers(self, table: Table, refusals: _Refusals) -> dict[str, Offer]:
        found: dict[str, Offer] = {}
        stored = {offer.offer_id: offer for offer in self.facts.catalogue().offers}
        report = self._report(table, refusals)
        for line in rows_of(self.con, table, OFFER_FIELDS, self.time_zone):
            with _judged(report, refusals, line):
                raw = _object(line)
                offer = check_offer(raw, self.settings.currency, stored.get(str(raw.get("offer_id"))))
                _keep(report, found, offer.offer_id, offer)
        return found

    def events(self, table: Table, offers: Mapping[str, Offer], refusals: _Refusals) -> None:
        report = self._report(table, refusals)
        known = {offer.offer_id: offer.category for offer in self.facts.catalogue().offers}
        known |= {offer.offer_id: offer.category for offer in offers.values()}
        self._remember_offers(known)
        query, n_rows = self._resolved(table, offers_known=bool(known))
        if self.facts.any_erased:
            query, report.erased = self._without_erased(query)
        self.progress("sorting events")
        rows = self.con.sql(f"SELECT * FROM ({query}) ORDER BY occurred_at NULLS LAST, event_id")
        n_good = n_refused = 0
        with DayWriter(self.staged, "events", EVENT_SCHEMA) as days:
            for batch in rows.to_arrow_reader(ROWS_PER_BATCH):
                good = batch.num_rows - len(batch) + batch["fault"].null_count
                n_good += good
                if good:
                    days.write(batch.slice(0, good).select(EVENT_SCHEMA.names).cast(EVENT_SCHEMA))
                n_refused += _refuse(batch.slice(good), report, refusals)
                self.progress(f"writing events: {n_good:,}")
        report.kept = n_good
        report.duplicates = n_rows - n_good - n_refused - report.erased
        report.n_rows += n_rows

    def _without_erased(self, query: str) -> tuple[str, int]:
        """The query without events of customers who were erased, and how many those are."""
        self.progress("looking for erased customers")
        customers = self.con.sql(f"SELECT DISTINCT customer_id FROM ({query}) WHERE customer_id IS NOT NULL")
        chunks = customers.to_arrow_table()["customer_id"].chunks
        erased = {key for chunk in chunks for key in self.facts.erased_among(chunk.to_pylist())}
        self.con.register("erased_now", pa.table({"customer_id": pa.array(sorted(erased), pa.string())}))
        self.con.execute("CREATE TEMP TABLE erased AS FROM erased_now")
        counted = self.con.execute(f"SELECT count(*) FROM ({query}) SEMI JOIN erased USING (customer_id)").fetchall()
        return f"SELECT * FROM ({query}) ANTI JOIN erased USING (customer_id)", counted[0][0]

    def _remember_offers(self, known: Mapping[str, str | None]) -> None:
        columns = {"offer_id": pa.array(known, pa.string()), "category": pa.array(known.values(), pa.string())}
        self.con.register("known_now", pa.table(columns))
        self.con.execute("CREATE TEMP TABLE known_offers AS FROM known_now")

    def _resolved(self, table: Table, offers_known: bool) -> tuple[str, int]:
        """A query that gives each event once, with its fault, and the number of raw rows.

        Only rows whose event_id hashes like another's, in the table or the lake, are compared; they are few as a rule.
        """
        self.progress("looking for duplicates")
        files = [quoted(str(self.home.lake / file.path)) for file in self.facts.lake_files("events")]
        lake = f"read_parquet([{', '.join(files)}])" if files else "(SELECT NULL::VARCHAR AS event_id WHERE false)"
        self.con.execute(
            f"CREATE TEMP TABLE hashes AS SELECT id_hash, count(*) AS n FROM ({id_hashes(table)}) GROUP BY id_hash"
        )
        counted = self.con.execute("SELECT coalesce(sum(n), 0)::BIGINT FROM hashes").fetchone()
        self.con.execute(
            f"""CREATE TEMP TABLE suspects AS
            SELECT id_hash FROM hashes WHERE n > 1
            UNION SELECT id_hash FROM hashes SEMI JOIN (SELECT hash(event_id) AS id_hash FROM {lake}) USING (id_hash)"""
        )

        def part(where: str) -> str:
            latest_us = to_us(self.now + MAX_AHEAD)
            return checked(table, self.time_zone, where=where, latest_us=latest_us, offers_known=offers_known)

        self.con.execute(
            f"CREATE TEMP TABLE taken AS SELECT event_id FROM {lake} WHERE hash(event_id) IN (FROM suspects)"
        )
        everything = ", ".join(EVENT_SCHEMA.names[1:])
        self.con.execute(
            f"""CREATE TEMP TABLE settled AS
            SELECT * EXCLUDE (nth) FROM (
                SELECT *, row_number() OVER (
                    PARTITION BY fault IS NULL, event_id ORDER BY occurred_at, {everything}) AS nth
                FROM ({part("id_hash IN (FROM suspects)")})
                WHERE fault IS NOT NULL OR event_id NOT IN (FROM taken))
            WHERE fault IS NOT NULL OR nth = 1"""
        )
        return f"FROM ({part('id_hash NOT IN (FROM suspects)')}) UNION ALL FROM settled", counted[0] if counted else 0


@contextmanager
def _judged(report: TableReport, refusals: _Refusals, line: str) -> Iterator[None]:
    """Counts a row and refuses it if its check says so."""
    report.n_rows += 1
    try:
        yield
    except BadEvent as fault:
        report.refuse(fault.code)
        refusals.add(report.source, line, fault.code, fault.detail)


def _object(line: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise BadEvent("invalid_row", f"not a JSON object: {error}") from error


def _keep(report: TableReport, found: dict[str, R], key: str, row: R) -> None:
    """The first row of a key is kept, equal ones are duplicates, others contradict it."""
    if key not in found:
        found[key] = row
        report.kept += 1
    elif found[key] == row:
        report.duplicates += 1
    else:
        raise BadEvent("contradiction", f"an earlier row says otherwise about {key}")


def _refuse(batch: pa.RecordBatch, report: TableReport, refusals: _Refusals) -> int:
    for fault, row in zip(batch["fault"].to_pylist(), batch["row"].to_pylist(), strict=True):
        code, _, detail = fault.partition(": ")
        report.refuse(code)
        refusals.add(report.source, row, code, detail)
    return int(batch.num_rows)


def _check_share(reports: list[TableReport], max_refused: float, refused_file: Path | None) -> None:
    for report in reports:
        if report.n_refused > max_refused * report.n_rows:
            raise TooManyRefused(
                report.table, report.n_refused, report.n_rows, max_refused, str(refused_file), tuple(reports)
            )


def _commit(
    home: Home,
    facts: Facts,
    staged: Staging,
    needs: Needs | None,
    reports: list[TableReport],
    customers: Mapping[str, Customer],
    offers: Mapping[str, Offer],
    refused_file: Path | None,
    now: datetime,
) -> IngestReport:
    files = place(home, staged)
    with facts.transaction():
        if needs is not None:
            facts.set_data_settings(needs.settings)
        n_offers = sum(facts.put(offer, now, by=AUTHOR).changed for offer in offers.values())
        placements = needs.placements if needs is not None else ()
        if not placements and not facts.objects(Placement, 1):
            placements = (DEFAULT_PLACEMENT,)
        for placement in placements:
            facts.put(placement, now, by=AUTHOR)
        known = ((row.customer_id, row.attributes, row.known_since_us) for row in customers.values())
        n_customers = facts.merge_profiles(known, now)
        for row in customers.values():
            if row.consent or row.time_zone:
                facts.merge_profile(row.customer_id, now, consent=row.consent, time_zone=row.time_zone)
        facts.add_lake_files(files)
    return IngestReport(
        ingest_id=staged.batch,
        tables=tuple(reports),
        first_day=files[0].day if files else None,
        last_day=files[-1].day if files else None,
        n_offers_changed=n_offers,
        n_customers_changed=n_customers,
        refused_file=str(refused_file) if refused_file is not None else None,
    )
