"""Erasing: nothing is left of a customer in any file, others lose nothing, and nothing comes back."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import erasure
from features.compute import build
from features.copying import copying, erasing
from features.errors import Erased, StoreUnavailable
from features.events import Event, from_us
from features.feast_repo import apply, materialize
from features.history import customer_features_at
from features.identities import join
from features.ingest import REFUSED_SCHEMA
from features.lake import DATASETS, ROWS_PER_GROUP, writer_lock
from features.log import DecisionRow, Exposure
from features.log_export import export
from features.online import open_online, read_snapshot
from features.sqlite_log import SqliteLog
from tests.features.histories import at, event, open_home, write_lake

NOW = from_us(at(6, 15.5))
GONE, ALIAS, KEPT = "erika.mustermann@example.com", "\x1fe7a1b2c3", "max@example.com"
MARKS = (GONE.encode(), ALIAS[1:].encode())
LAKE = [
    event(customer, kind, at(day, hour), offer="o1", category="x", value=value, currency="EUR", event_id=f"{name}{day}")
    for day in range(7)
    for name, customer, kind, hour, value in [
        ("a", GONE, "impression", 9.0, None), ("b", ALIAS, "click", 10.0, None), ("c", KEPT, "purchase", 11.0, 5),
        ("d", KEPT, "impression", 12.0, None),
    ]
]  # fmt: skip


def live(customer: str, n: int) -> Event:
    moment = NOW - timedelta(minutes=n)
    return Event(event_id=f"live-{customer}-{n}", event_type="visit", customer_id=customer, occurred_at=moment)


def decision(customer: str) -> DecisionRow:
    payload = msgspec.json.encode({"customer_id": customer, "features": {"age": 30}})
    return DecisionRow(
        f"01J-{hash(customer)}", customer, at(6, 15), payload, exposures=[Exposure("e", 1, customer, "on")]
    )


@pytest.fixture(scope="module")
def erased(tmp_path_factory):
    """A home that went all the way, of which one customer was erased; and the receipt."""
    home, facts = open_home(tmp_path_factory.mktemp("nbo"), windows=(1, 3))
    log = SqliteLog(home.log_db)
    write_lake(home, facts, LAKE)
    facts.merge_profile(GONE, NOW, {"city": "Gotham"}, {"web": False})
    facts.merge_profile(GONE, NOW + timedelta(seconds=1), {"city": "Metropolis"})
    facts.merge_profile(KEPT, NOW, {"city": "Kyiv"})
    join(facts, ALIAS, GONE, NOW)
    log.append([live(GONE, 1), live(ALIAS, 2), live(KEPT, 3)], NOW)
    log.append_decisions([decision(GONE), decision(KEPT)])
    export(home, facts, log, NOW)
    log.append([live(GONE, 4), live(KEPT, 5)], NOW)
    refused = [f'{{"customer_id":"{GONE}"}}', f'"x,{GONE},y"', f'{{"customer_id":"{KEPT}"}}', f'"{GONE}2"']
    rows = [("events.csv", row, "invalid_time", "…") for row in refused]
    (home.lake / "refused").mkdir()
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, schema=REFUSED_SCHEMA), home.lake / "refused" / "1.parquet")
    build(home, facts, until=NOW.date())
    apply(home, facts)
    materialize(home, facts, NOW)
    before = read_snapshot(facts)
    keys = erasure.begin(facts, GONE, NOW)
    places = [*erasure.erase_stores(home, facts, log, keys), *erasure.finish(facts, keys)]
    erasure.flush_journals(home)
    yield home, facts, log, {place.place: place.erased for place in places}, before
    log.close()
    facts.close()


def test_the_receipt_names_each_place_with_what_it_held(erased):
    *_, receipt, _ = erased
    features = receipt.pop("features")
    assert receipt == {
        "events": 3, "decisions": 1, "tail": 4, "online_store": 2, "lake_events": 16, "lake_decisions": 1,
        "lake_exposures": 1, "exposures": 1, "lake_refused": 2, "profile": 1, "profile_history": 2, "identities": 1,
    }  # fmt: skip
    assert features > 0


def test_no_file_holds_a_trace(erased):
    home, *_ = erased
    for path in home.root.rglob("*"):
        if path.suffix == ".parquet":
            text = str(pq.read_table(path, partitioning=None).to_pylist()).replace(f"{GONE}2", "").encode()
        else:
            text = path.read_bytes() if path.is_file() else b""
        assert not any(mark in text for mark in MARKS), path


def test_everything_of_others_is_as_it_was(erased):
    home, facts, log, _, _ = erased
    files = [home.lake / file.path for file in facts.lake_files("events")]
    rows = [row for path in files for row in pq.read_table(path, partitioning=None).to_pylist()]
    assert sorted(row["event_id"] for row in rows) == sorted(
        [*(one.event_id for one in LAKE if one.customer_id == KEPT), f"live-{KEPT}-3"]
    )
    assert [one.event_id for one in log.recent(KEPT, 0, 0) if one.position] == [f"live-{KEPT}-5", f"live-{KEPT}-3"]
    assert log.decision(decision(KEPT).decision_id).payload == decision(KEPT).payload
    assert facts.profile(KEPT).attributes == {"city": "Kyiv"}
    listed = {file.path: file.n_rows for dataset in DATASETS for file in facts.lake_files(dataset)}
    assert {path: pq.read_metadata(home.lake / path).num_rows for path in listed} == listed
    assert all(0 < n <= ROWS_PER_GROUP for n in listed.values())


def test_the_online_store_knows_nobody_and_readers_open_it_anew(erased):
    home, facts, *_, before = erased
    online = open_online(home, facts)
    assert online.customer(GONE) is None
    assert online.customer(ALIAS) is None
    assert online.customer(KEPT) is not None
    assert (before.erasures, read_snapshot(facts).erasures) == (0, 1)
    online.close()


def test_the_next_build_and_training_know_nothing_of_them(erased):
    home, facts, *_ = erased
    build(home, facts, until=NOW.date())
    apply(home, facts)
    materialize(home, facts, NOW)
    later = NOW + timedelta(seconds=2)
    asked = pd.DataFrame({"customer_id": [GONE, ALIAS, KEPT], "event_timestamp": [later] * 3})
    found = customer_features_at(home, facts, asked)
    assert found["seen_ever"].tolist() == [0.0, 0.0, 7.0]
    assert found["city"].tolist() == [None, None, "Kyiv"]
    test_no_file_holds_a_trace(erased)


def test_nothing_is_taken_in_again(erased):
    _, facts, log, _, _ = erased
    assert log.append([live(GONE, 9), live(ALIAS, 9), live("new", 9)], NOW) == [False, False, True]
    log.append_decisions([decision(ALIAS)])
    assert log.decision(decision(ALIAS).decision_id) is None
    with pytest.raises(Erased):
        facts.merge_profile(GONE, NOW, {"age": 1})
    assert facts.erased_among([GONE, ALIAS, KEPT, GONE + "2"]) == {GONE, ALIAS}


def test_erasing_again_and_erasing_a_stranger_find_nothing(erased):
    home, facts, log, _, _ = erased
    keys = [*erasure.begin(facts, GONE, NOW), *erasure.begin(facts, "stranger", NOW)]
    places = [*erasure.erase_stores(home, facts, log, keys), *erasure.finish(facts, keys)]
    assert {place.erased for place in places} == {0}


def test_what_was_interrupted_is_finished_by_asking_again(tmp_path):
    home, facts = open_home(tmp_path)
    log = SqliteLog(home.log_db)
    log.append([live(ALIAS, 1)], NOW)
    join(facts, ALIAS, GONE, NOW)
    erasure.begin(facts, GONE, NOW)  # and then the machine went down
    assert erasure.begin(facts, GONE, NOW) == (GONE, ALIAS)
    assert log.erase((GONE, ALIAS)).events == 1
    assert erasure.finish(facts, (GONE, ALIAS))[-1] == erasure.Place("identities", 1)
    log.close()
    facts.close()


def test_who_copies_and_who_erases_wait_for_each_other(tmp_path):
    home, facts = open_home(tmp_path)
    with copying(home), copying(home), pytest.raises(StoreUnavailable, match="build"), erasing(home, wait_s=0.05):
        pass
    with erasing(home), pytest.raises(StoreUnavailable, match="erasure"), copying(home, wait_s=0.05):
        pass
    facts.close()


def test_a_lake_that_another_writer_holds_is_not_waited_for_for_ever(tmp_path):
    from features.erase_files import erase_files

    home, facts = open_home(tmp_path)
    with writer_lock(home), pytest.raises(StoreUnavailable, match="another writer"):
        erase_files(home, facts, [GONE], wait_s=0.05)
    facts.close()
