"""The fast read: byte for byte Feast's layout, and safe to import on the request path."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
import warnings
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.compute import build
from features.errors import StoreUnavailable
from features.events import from_us
from features.feast_repo import apply, materialize, open_feast
from features.feast_repo.loading import load_feast
from features.online import (
    PROJECT,
    VIEWS,
    SqliteOnlineStore,
    decode_value,
    entity_key,
    key_value,
    open_online,
    read_snapshot,
)
from features.packed import PACKED, pack, unpack
from tests.features.histories import FIRST, at, event, open_home, write_lake

CUSTOMERS = ["a", "ä'\"", "\x1fvisitor", "x" * 256, "nobody"]
DAYS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home, facts = open_home(tmp_path_factory.mktemp("nbo"), windows=(1, 3, 90))
    events = [
        event(customer, kind, at(day, n), offer=f"o{n}", category=c, channel="web", value=-300 * n, currency="EUR")
        for day in range(DAYS)
        for customer, n, kind, c in [
            ("a", 1, "impression", "x"), ("ä'\"", 2, "purchase", "ü,'"), ("\x1fvisitor", 3, "accept", None),
            ("x" * 256, 4, "click", "y" * 200), ("a", 5, "purchase", None),
        ]
    ]  # fmt: skip
    write_lake(home, facts, events)
    build(home, facts, until=FIRST + timedelta(days=DAYS))
    apply(home, facts)
    materialize(home, facts, from_us(at(DAYS, 12)))
    yield home, facts
    facts.close()


@pytest.mark.parametrize("view", ["customer", "offer"])
def test_our_read_equals_get_online_features(made, view):
    home, facts = made
    online = open_online(home, facts)
    keys = CUSTOMERS if view == "customer" else ["o1", "o5", "nothing"]
    columns = [column.name for column in online.feature_set.stored(view)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        feast = open_feast(home, facts).get_online_features(
            features=[f"{VIEWS[view]}:{name}" for name in columns],
            entity_rows=[{f"{view}_id": key} for key in keys],
        )
    theirs = feast.to_dict()
    offers = online.offers()
    for n, key in enumerate(keys):
        row = online.customer(key) if view == "customer" else offers.get(key)
        ours = dict(zip(columns, row.columns if row else [None] * len(columns), strict=True))
        assert ours == {name: theirs[name][n] for name in columns}, key
        if row is not None:
            assert row.as_of_us == at(DAYS)


def test_what_is_stored_uses_every_kind_of_value(made):
    home, facts = made
    row = open_online(home, facts).customer("a")
    assert {type(value) for value in row.columns} >= {int, list, type(None)}
    assert any(isinstance(value, int) and value < 0 for value in row.columns)


@given(st.text(min_size=1, max_size=300).filter(lambda text: text.isprintable() or "\x1f" in text))
def test_the_entity_key_is_feasts(text):
    load_feast()
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    theirs = serialize_entity_key(
        EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=text)]), entity_key_serialization_version=3
    )
    assert entity_key("customer_id", text) == theirs
    assert key_value(theirs) == text


ODD_INTEGERS = st.sampled_from([0, 1, 127, 128, -1, 2**63 - 1, -(2**63)]) | st.integers(-(2**63), 2**63 - 1)


@given(
    st.one_of(
        st.tuples(st.just("int64_val"), ODD_INTEGERS),
        st.tuples(st.just("double_val"), st.floats(allow_nan=False)),
        st.tuples(st.just("string_val"), st.text(max_size=300)),
        st.tuples(st.just("int64_list_val"), st.lists(ODD_INTEGERS, max_size=20)),
        st.tuples(st.just("string_list_val"), st.lists(st.text(max_size=200), max_size=20)),
    )
)
def test_values_are_decoded_as_feasts_protobuf_does(case):
    load_feast()
    from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value

    kind, value = case
    wrap = {"int64_list_val": Int64List, "string_list_val": StringList}.get(kind)
    proto = Value(**{kind: wrap(val=value) if wrap else value})
    assert decode_value(proto.SerializeToString()) == value


def test_a_null_is_none():
    assert decode_value(b"") is None


def test_a_value_of_a_kind_that_nothing_stores_is_an_error():
    with pytest.raises(StoreUnavailable):
        decode_value(struct.pack("<BB", 0x38, 1))  # bool_val


def test_a_store_that_is_gone_is_unavailable(made, tmp_path):
    home, facts = made
    features = open_online(home, facts).feature_set
    with pytest.raises(StoreUnavailable):
        SqliteOnlineStore(tmp_path / "nothing.db", PROJECT, features).customer("a")


def test_many_threads_read_at_once(made):
    home, facts = made
    online = open_online(home, facts)
    expected, found = online.customer("a"), []
    threads = [threading.Thread(target=lambda: found.extend(online.customer("a") for _ in range(50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 400


def test_a_release_with_an_older_feature_set_reads_what_it_knows(made):
    from features.definitions import feature_set

    home, facts = made
    older = feature_set((1, 3))
    path = home.feast / read_snapshot(facts).online
    for snapshot in (read_snapshot(facts), None):
        row = SqliteOnlineStore(path, PROJECT, older, snapshot).customer("a")
        known = dict(zip([c.name for c in older.stored("customer")], row.columns, strict=True))
        assert known["purchases_ever"] == DAYS
        assert known["seen_prev2d"] == 2


def test_a_row_is_read_once_until_the_file_changes(made, tmp_path):
    home, facts = made
    snapshot = read_snapshot(facts)
    path = tmp_path / "copy.db"
    shutil.copy(home.feast / snapshot.online, path)
    online = SqliteOnlineStore(path, PROJECT, open_online(home, facts).feature_set, snapshot)
    assert online.customer("a") is online.customer("a")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"DELETE FROM {PACKED} WHERE entity_key = ?", (entity_key("customer_id", "a"),))
        other.commit()
    assert online.customer("a") is None
    assert online.customer("ä'\"") is not None


def test_a_file_without_packed_rows_says_what_to_run(made, tmp_path):
    home, facts = made
    snapshot = read_snapshot(facts)
    path = tmp_path / "copy.db"
    shutil.copy(home.feast / snapshot.online, path)
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"DROP TABLE {PACKED}")
        other.commit()
    online = SqliteOnlineStore(path, PROJECT, open_online(home, facts).feature_set, snapshot)
    with pytest.raises(StoreUnavailable, match="nbo features materialize"):
        online.customer("a")


def test_everybody_whom_feast_holds_is_packed_and_nobody_else(made):
    home, facts = made
    with closing(sqlite3.connect(home.feast / read_snapshot(facts).online)) as db:
        theirs = db.execute(f"SELECT DISTINCT entity_key FROM {PROJECT}_{VIEWS['customer']} ORDER BY 1").fetchall()
        ours = db.execute(f"SELECT entity_key FROM {PACKED} ORDER BY 1").fetchall()
    assert ours == theirs != []


@given(st.dictionaries(st.sampled_from("abc"), ODD_INTEGERS | st.lists(st.text()) | st.floats(allow_nan=False)))
def test_what_is_packed_is_unpacked_and_what_is_missing_is_none(values):
    assert unpack(pack(values, "abc")) == [values.get(name) for name in "abc"]


def test_the_request_path_loads_no_heavy_library():
    code = (
        "import sys, features.online, features.live, features.definitions; "
        "print([name for name in ('pandas', 'feast', 'ibis', 'duckdb', 'pyarrow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_that_is_cut_short_while_it_is_read_fails_the_read_and_nothing_else(made, tmp_path):
    home, facts = made[:2]
    online = open_online(home, facts)
    path = tmp_path / "online.db"
    path.write_bytes(online.path.read_bytes())
    store = SqliteOnlineStore(path, PROJECT, online.feature_set, online.snapshot)
    assert store.customer("a") is not None
    os.truncate(path, 4096)
    with pytest.raises(StoreUnavailable):
        [store.customer(name) for name in ("ä'\"", "x" * 256, "nobody")]
    store.close()
    online.close()
