"""An ingest: what is kept, what is refused and why, and that it is all or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.catalogue import Offer, Placement
from features.errors import BadInput, BadRecipe, StoreUnavailable, TooManyRefused
from features.facts import Facts
from features.home import Home
from features.ingest import IngestReport, ingest
from features.lake import EVENT_SCHEMA, sweep, writer_lock
from tests.conftest import NOW, ROOT

VISIT = {"event_id": "e-1", "event_type": "visit", "customer_id": "c-1", "occurred_at": "2026-03-01T10:00:00Z"}
OFFER = {"offer_id": "o-1", "name": "shoes", "value": 12.5, "category": "running"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def facts(home: Home):
    opened = Facts(home.facts_db)
    yield opened
    opened.close()


@pytest.fixture
def tables(tmp_path: Path):
    """Writes tables as JSON lines into a folder and returns it."""

    def write(name: str = "tables", **rows: list[dict[str, Any]]) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for table, content in rows.items():
            lines = (row if isinstance(row, str) else json.dumps(row) for row in content)
            (folder / f"{table}.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return write


@pytest.fixture
def take_in(home: Home, facts: Facts):
    def run(source: Path, recipe: str | None = None, **more: Any) -> IngestReport:
        return ingest(home, facts, source, recipe, **{"now": NOW, **more})

    return run


def visits(n: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**VISIT, "event_id": f"e-{i}", **changes} for i in range(n)]


def lake(home: Home, facts: Facts) -> pa.Table:
    files = facts.lake_files("events")
    return pa.concat_tables([pq.read_table(home.lake / f.path) for f in files]) if files else EVENT_SCHEMA.empty_table()


def counts(report: IngestReport, table: str) -> tuple[int, int, dict[str, int]]:
    (one,) = [t for t in report.tables if t.table == table]
    assert one.n_rows == one.kept + one.duplicates + one.n_refused
    return one.kept, one.duplicates, dict(one.refused)


# What is kept


def test_events_land_in_one_sorted_file_per_utc_day(home, facts, tables, take_in):
    late = {**VISIT, "event_id": "b", "occurred_at": "2026-03-02T00:30:00+01:00"}  # 23:30 UTC of the day before
    next_day = {**VISIT, "event_id": "a", "occurred_at": "2026-03-02T00:00:00Z"}
    report = take_in(tables(events=[next_day, late, VISIT]))
    files = facts.lake_files("events")
    assert [(f.day, f.n_rows) for f in files] == [("2026-03-01", 2), ("2026-03-02", 1)]
    first = pq.read_table(home.lake / files[0].path)
    assert first.schema.equals(EVENT_SCHEMA)
    assert first["event_id"].to_pylist() == ["e-1", "b"]
    assert (report.first_day, report.last_day) == ("2026-03-01", "2026-03-02")


def test_an_event_without_a_category_takes_its_offers(home, facts, tables, take_in):
    seen = {**VISIT, "event_type": "impression", "offer_id": "o-1"}
    own = {**seen, "event_id": "e-2", "category": "summer"}
    take_in(tables(offers=[OFFER], events=[seen, own]))
    assert lake(home, facts)["category"].to_pylist() == ["running", "summer"]


def test_money_is_exact_and_an_anonymous_visitor_cannot_be_a_customer(home, facts, tables, take_in):
    bought = {
        **VISIT,
        "event_type": "purchase",
        "value": 0.1,
        "currency": "EUR",
        "customer_id": None,
        "anonymous_id": "c-1",
    }
    take_in(tables(events=[bought]))
    (row,) = lake(home, facts).to_pylist()
    assert (row["value"], row["customer_id"], row["properties"]) == (Decimal("0.1000"), "\x1fc-1", "{}")


def test_offers_are_approved_and_their_further_columns_are_attributes(facts, tables, take_in):
    take_in(tables(offers=[{**OFFER, "size": 42, "colour": None, "channels": ["web"]}]))
    offer = facts.get(Offer, "o-1").body
    assert (offer.status, offer.attributes, offer.channels, offer.currency) == (
        "approved",
        {"size": 42},
        ("web",),
        "EUR",
    )
    assert offer.treatments[0].payload == {"title": "shoes"}


def test_an_offer_that_was_archived_since_stays_archived(facts, tables, take_in):
    source = tables(offers=[OFFER])
    take_in(source)
    stored = facts.get(Offer, "o-1").body
    facts.put(Offer(**{name: getattr(stored, name) for name in stored.__struct_fields__} | {"status": "archived"}), NOW)
    take_in(source)
    assert facts.get(Offer, "o-1").body.status == "archived"


def test_a_placement_is_made_only_where_there_is_none(facts, tables, take_in):
    source = tables(offers=[OFFER])
    take_in(source)
    assert [p.placement_id for p in facts.catalogue().placements] == ["default"]
    facts.remove(Placement, "default", NOW)
    facts.put(Placement(placement_id="hero", name="hero", channel="web"), NOW)
    take_in(source)
    assert [p.placement_id for p in facts.catalogue().placements] == ["hero"]


def test_customers_columns_are_attributes_known_since_always_or_their_date(facts, tables, take_in):
    dated = {"customer_id": "c-2", "age": 30, "updated_at": "2026-01-01T00:00:00Z", "consent": {"web": False}}
    take_in(tables(customers=[{"customer_id": 7, "age": 50, "vip": True, "city": None}, dated]))
    assert facts.profile("7").attributes == {"age": 50, "vip": True}
    assert facts.profile("c-2").consent == {"web": False}
    us = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert list(facts.profile_history()) == [("7", 0, '{"age":50,"vip":true}'), ("c-2", us, '{"age":30}')]


def test_what_changes_about_a_customer_is_not_known_before_it_was_told(facts, tables, take_in):
    take_in(tables("one", customers=[{"customer_id": "c", "age": 30}]))
    take_in(tables("two", customers=[{"customer_id": "c", "age": 31}]))
    us = int(NOW.timestamp()) * 1_000_000
    assert list(facts.profile_history()) == [("c", 0, '{"age":30}'), ("c", us, '{"age":31}')]


def test_a_csv_tells_numbers_booleans_days_and_text_apart_by_the_whole_column(tmp_path, facts, take_in):
    rows = "customer_id;age;zip;vip;since;note\n01;50;01234;true;2020-02-03;x\n02;;00999;FALSE;2021-01-01;7\n"
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "customers.csv").write_text(rows)
    take_in(tmp_path / "csv")
    expected = {"age": 50, "zip": "01234", "vip": True, "since": "2020-02-03T00:00:00Z", "note": "x"}
    assert facts.profile("01").attributes == expected
    assert "age" not in facts.profile("02").attributes


def test_times_without_an_offset_are_read_in_the_zone_that_is_stated(home, facts, tmp_path, take_in):
    source = tmp_path / "naive"
    source.mkdir()
    columns = {**{k: [v] for k, v in VISIT.items()}, "occurred_at": [datetime(2025, 7, 1, 12)]}
    pq.write_table(pa.table(columns), source / "events.parquet")
    with pytest.raises(TooManyRefused):
        take_in(source)
    (source / "recipe.toml").write_text('time_zone = "Europe/London"')
    take_in(source)
    assert lake(home, facts)["occurred_at"].to_pylist() == [datetime(2025, 7, 1, 11, tzinfo=UTC)]


# Duplicates


def test_the_earliest_row_of_an_event_id_is_kept_wherever_it_stands(home, facts, tables, take_in):
    later = {**VISIT, "occurred_at": "2026-03-01T11:00:00Z", "customer_id": "c-2"}
    report = take_in(tables(events=[later, VISIT, VISIT]))
    assert counts(report, "events") == (1, 2, {})
    assert lake(home, facts)["customer_id"].to_pylist() == ["c-1"]


def test_running_it_again_adds_nothing(home, facts, tables, take_in):
    source = tables(customers=[{"customer_id": "c-1", "age": 3}], offers=[OFFER], events=visits(50))
    take_in(source)
    before = (facts.lake_files("events"), facts.catalogue(), list(facts.profile_history()))
    report = take_in(source)
    assert counts(report, "events") == (0, 50, {})
    assert (report.n_offers_changed, report.n_customers_changed) == (0, 0)
    assert (facts.lake_files("events"), facts.catalogue(), list(facts.profile_history())) == before


def test_only_what_is_new_is_added(home, facts, tables, take_in):
    take_in(tables("one", events=visits(50)))
    assert counts(take_in(tables("two", events=visits(60))), "events") == (10, 50, {})
    assert sorted(lake(home, facts)["event_id"].to_pylist()) == sorted(f"e-{i}" for i in range(60))


# What is refused


def test_refused_rows_are_kept_apart_with_their_reasons(facts, tables, take_in):
    bad = [{**VISIT, "event_id": "x", "event_type": "wink"}, "not json", {**VISIT, "event_id": "y", "offer_id": "o-9"}]
    source = tables(offers=[OFFER, {"offer_id": "o-2", "name": "no value"}], events=[*visits(5), *bad])
    report = take_in(source, max_refused=0.5)
    reasons = {"unknown_event_type": 1, "invalid_event": 1, "unknown_offer": 1}
    assert counts(report, "events") == (5, 0, reasons)
    assert counts(report, "offers") == (1, 0, {"missing_field": 1})
    rows = pq.read_table(report.refused_file).to_pylist()
    assert {(row["source"], row["code"]) for row in rows} == {
        ("offers.jsonl", "missing_field"), *(("events.jsonl", code) for code in reasons)}  # fmt: skip
    (unknown,) = [row for row in rows if row["code"] == "unknown_offer"]
    assert json.loads(unknown["row"])["offer_id"] == "o-9"
    assert "o-9" in unknown["detail"]


def test_an_unknown_offer_is_no_fault_where_no_offers_are_known(facts, tables, take_in):
    assert counts(take_in(tables(events=[{**VISIT, "offer_id": "o-9"}])), "events") == (1, 0, {})


def test_too_many_refused_rows_leave_everything_as_it_was(home, facts, tables, take_in):
    source = tables(
        customers=[{"customer_id": "c-1"}], offers=[OFFER], events=[*visits(9), {**VISIT, "event_type": "?"}]
    )
    with pytest.raises(TooManyRefused) as caught:
        take_in(source, max_refused=0.05)
    assert (caught.value.n_refused, caught.value.n_rows) == (1, 10)
    assert len(pq.read_table(caught.value.report)) == 1
    assert facts.lake_files("events") == []
    assert facts.catalogue().offers == ()
    assert facts.profile("c-1") is None
    assert not list((home.lake / "events").glob("**/*.parquet"))


def test_a_malformed_line_of_a_csv_is_one_refused_row(tmp_path, facts, take_in):
    (tmp_path / "csv").mkdir()
    text = "event_id,event_type,customer_id,occurred_at\ne-1,visit,c-1,2026-03-01T10:00:00Z\ne-2,visit\n"
    (tmp_path / "csv" / "events.csv").write_text(text)
    assert counts(take_in(tmp_path / "csv", max_refused=0.5), "events") == (1, 0, {"malformed_row": 1})


def test_two_rows_that_disagree_about_one_customer_are_a_contradiction(tables, take_in):
    rows = [{"customer_id": "c", "age": 1}, {"customer_id": "c", "age": 1}, {"customer_id": "c", "age": 2}]
    report = take_in(tables(customers=rows), max_refused=0.5)
    assert counts(report, "customers") == (1, 1, {"contradiction": 1})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"offer_id": "a b"}, "invalid_field"),
        ({"name": None}, "missing_field"),
        ({"value": "much"}, "invalid_field"),
        ({"currency": "USD"}, "other_currency"),
        ({"status": "live"}, "invalid_field"),
        ({"starts_at": "2026-01-01"}, "invalid_time"),
        ({"channels": "web"}, "invalid_field"),
        ({"priority": 1.5}, "invalid_field"),
        ({"retention": "maybe"}, "invalid_field"),
        ({"treatments": []}, "invalid_field"),
        ({"bad name": 1}, "invalid_field"),
        ({"nested": {"a": 1}}, "invalid_field"),
    ],
)
def test_an_offer_is_refused_for(change, code, tables, take_in):
    report = take_in(tables(offers=[{**OFFER, **change}]), max_refused=1.0)
    assert counts(report, "offers") == (0, 0, {code: 1})


def test_a_folder_without_tables_or_with_strange_columns_is_refused_in_words(tmp_path, tables, take_in):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds none of customers, offers, events"):
        take_in(tmp_path / "empty")
    pq.write_table(pa.table({"event_id": ["e"], "evnt_type": ["visit"]}), tmp_path / "empty" / "events.parquet")
    with pytest.raises(BadInput, match="evnt_type"):
        take_in(tmp_path / "empty")


# All or nothing


def test_one_writer_at_a_time(home, facts):
    with writer_lock(home), pytest.raises(StoreUnavailable), writer_lock(home, wait_s=0.05):
        pass


def test_files_that_no_list_names_are_swept(home, facts, tables, take_in):
    take_in(tables(events=visits(3)))
    stray = home.lake / "events" / "day=2026-03-01" / "stray.parquet"
    stray.write_bytes(b"half")
    (home.lake / ".staging" / "old").mkdir(parents=True)
    assert sweep(home, facts) == 1
    assert not stray.exists()
    assert len(lake(home, facts)) == 3


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from features.facts import Facts
from features.home import Home
from features.ingest import ingest
home = Home(Path(sys.argv[1]))
print("ready", flush=True)
ingest(home, Facts(home.facts_db), Path(sys.argv[2]), now=datetime(2026, 3, 4, 12, tzinfo=UTC),
       progress=lambda step: print(step, flush=True))
print("done", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "moment"),
    [
        (signal.SIGKILL, "reading"),
        (signal.SIGKILL, "looking for duplicates"),
        (signal.SIGKILL, "sorting events"),
        (signal.SIGKILL, "writing events"),
        (signal.SIGKILL, "committing"),
        (signal.SIGINT, "sorting events"),
        (signal.SIGINT, "committing"),
    ],
)
def test_interrupted_at_any_step_it_leaves_the_old_or_the_new_state(
    how, moment, home, tmp_path, facts, tables, take_in
):
    take_in(tables("old", offers=[OFFER], customers=[{"customer_id": "c-0", "age": 1}], events=visits(5)))
    n_new = 40_000
    source = tables("new", customers=[{"customer_id": f"c-{i}", "age": 2} for i in range(500)])
    times = [f"2026-02-{1 + i % 28:02d}T10:00:00Z" for i in range(n_new)]
    columns = {
        "event_id": [f"n-{i}" for i in range(n_new)],
        "event_type": ["visit"] * n_new,
        "customer_id": ["c-1"] * n_new,
        "occurred_at": times,
    }
    pq.write_table(pa.table(columns), source / "events.parquet")
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(home.root), str(source)], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with child:
        for line in child.stdout:
            if line.startswith(moment):
                time.sleep(0.01)
                child.send_signal(how)
                break
        child.stdout.read()
    n_events, age = len(lake(home, facts)), facts.profile("c-0").attributes["age"]
    assert (n_events, age) in ((5, 1), (5 + n_new, 2))
    report = take_in(source)  # the next writer is not hindered, and brings what is missing
    assert counts(report, "events")[0] == 5 + n_new - n_events
    assert len(lake(home, facts)) == 5 + n_new
    listed = {home.lake / f.path for f in facts.lake_files("events")}
    assert set((home.lake / "events").glob("**/*.parquet")) == listed
    assert not list((home.lake / ".staging").glob("*"))


# Recipes


def write_recipe(folder: Path, **files: str) -> str:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return str(folder)


def test_a_recipe_reads_any_export_relative_to_its_source(home, facts, tmp_path, take_in):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "log.csv").write_text("who,when_h,what\nc-1,2,visit\nc-2,26,visit\n")
    recipe = write_recipe(
        tmp_path / "mine",
        recipe_toml='currency = "USD"\nepoch = "2026-01-01T00:00:00Z"\nwindows = [1, 7]\n[churn]\nhorizon_days = 7\n',
        events_sql="SELECT who || when_h AS event_id, what AS event_type, who AS customer_id, "
        "getvariable('epoch')::TIMESTAMPTZ + to_hours(when_h) AS occurred_at "
        "FROM read_csv(getvariable('source') || '/log.csv')",
    )
    take_in(raw, recipe)
    moments = [datetime(2026, 1, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, 2, tzinfo=UTC)]
    assert lake(home, facts)["occurred_at"].to_pylist() == moments
    assert (facts.data_settings().currency, facts.data_settings().windows) == ("USD", (1, 7))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"recipe_toml": ""}, "holds none of"),
        ({"events_sql": "SELECT 1; SELECT 2"}, "one SELECT"),
        ({"events_sql": "DROP TABLE x"}, "one SELECT"),
        ({"events_sql": "SELECT nothing"}, "nothing"),
        ({"events_sql": "SELECT 1 AS event_id", "recipe_toml": "currncy = 'EUR'"}, "currncy"),
        ({"events_sql": "SELECT 1 AS event_id", "recipe_toml": "[churn]\nactivity = ['wink']"}, "wink"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words(files, words, tmp_path, take_in):
    with pytest.raises(BadRecipe, match=words):
        take_in(tmp_path, write_recipe(tmp_path / "wrong", **files))


def test_an_unknown_recipe_names_the_shipped_ones(tmp_path, take_in):
    with pytest.raises(BadRecipe, match="online_retail, starbucks_offers"):
        take_in(tmp_path, "starbuck")


def test_history_in_one_currency_does_not_become_another(tmp_path, tables, take_in):
    take_in(tables(events=visits(1)))
    source = tables("usd", events=visits(2))
    (source / "recipe.toml").write_text('currency = "USD"')
    with pytest.raises(BadRecipe, match="another NBO_HOME"):
        take_in(source)


def test_rows_of_erased_customers_are_skipped_and_kept_nowhere(take_in, tables, home, facts):
    facts.bury(["c-1", "\x1fv", "42"], NOW)
    events = [
        VISIT, VISIT | {"event_id": "e-2", "customer_id": "c-2"}, {**VISIT, "event_id": "e-3", "occurred_at": "soon"},
        {"event_id": "e-4", "event_type": "visit", "anonymous_id": "v", "occurred_at": VISIT["occurred_at"]},
        {"event_id": "e-5", "event_type": "visit", "occurred_at": VISIT["occurred_at"]},
    ]  # fmt: skip
    customers = [{"customer_id": "c-1", "age": 30}, {"customer_id": "c-2", "age": 31}]
    report = take_in(tables(events=events, customers=customers), max_refused=1.0)
    by_table = {one.table: one for one in report.tables}
    counted = {name: (one.n_rows, one.kept, one.erased, one.n_refused) for name, one in by_table.items()}
    assert counted == {"events": (5, 1, 3, 1), "customers": (2, 1, 1, 0)}
    assert by_table["events"].duplicates == 0
    assert facts.profile("c-1") is None
    for path in home.lake.rglob("*.parquet"):
        assert not {"c-1", "\x1fv"} & {row.get("customer_id") for row in pq.read_table(path).to_pylist()}
        assert "c-1" not in str(pq.read_table(path).to_pylist())
