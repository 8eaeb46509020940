"""Feast's side: what is registered, point-in-time tables, materialization, and what is said when steps are missing."""

from __future__ import annotations

import io
import math
import warnings
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features import history
from features.check import check
from features.compute import build, built, current_features
from features.errors import BadInput, NboError
from features.events import US_PER_DAY, from_us, to_us
from features.facts import Facts
from features.feast_repo import apply, materialize, open_feast
from features.feast_repo.apply import open_feast_on
from features.history import _stored, customer_features_at, offer_features_at
from features.home import Home
from features.identities import join
from features.online import open_online, read_snapshot
from features.sqlite_log import SqliteLog
from tests.features.histories import FIRST, Recomputation, at, day_name, different, event, open_home, write_lake

WINDOWS = (1, 3, 5)
NOW = from_us(at(6, 15.5))
HISTORY = [
    event(customer, kind, at(day, hour), offer=offer, category=category, channel=channel, value=value, currency="EUR")
    for day in range(7)
    for customer, kind, hour, offer, category, channel, value in [
        ("a", "visit", 0.0, None, None, "web", None), ("a", "impression", 9.5, "o1", "x", "web", None),
        ("a", "accept", 9.6 + day, "o1", "x", "web", None), ("b", "purchase", 13.0 + day, None, "y", None, 10.25 + day),
        ("b", "dismiss", 15.5, "o2", "ü", "email", None), (f"c{day}", "view", 23.999, None, "y", "app", None),
        ("\x1fv", "click", 12.0, "o2", "x", "app", None),
    ]
]  # fmt: skip
TOLD = [
    ("a", {"age": 30, "tier": "gold", "vip": True, "joined": "2020-02-03T04:05:06Z", "odd": [1]}, None),
    ("b", {"age": "n/a", "tier": None, "vip": False}, at(3, 12)),
    ("known-only-by-profile", {"age": 40, "tier": ""}, None),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home that went all the way: built, applied, materialized."""
    home, facts = open_home(tmp_path_factory.mktemp("nbo"), windows=WINDOWS)
    write_lake(home, facts, HISTORY)
    facts.merge_profiles(TOLD, NOW)
    build(home, facts, until=NOW.date())
    apply(home, facts)
    materialize(home, facts, NOW)
    yield home, facts
    facts.close()


def attributes(now_us: int) -> dict[str, dict[str, object]]:
    """What is told of each customer strictly before an instant; most ages are numbers, so that a text is none."""
    joined = to_us(datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC))
    told: dict[str, dict[str, object]] = {
        "a": {"age": 30.0, "tier": "gold", "vip": 1.0, "joined": joined},
        "known-only-by-profile": {"age": 40.0, "tier": ""},
    }
    if at(3, 12) < now_us:
        told["b"] = {"age": "n/a", "vip": 0.0}
    return told


def recomputed(facts: Facts, customer: str, now_us: int) -> dict[str, object]:
    return Recomputation(current_features(facts), HISTORY, attributes(now_us)).customer(customer, now_us)


def test_point_in_time_features_equal_the_recomputation(made):
    home, facts = made
    moments = [at(0), at(0, 9.5), at(3, 12), at(3, 12) + 1, at(5), at(6, 9.55), at(6, 15.5)]
    asked = [
        (customer, moment) for customer in ("b", "a", "\x1fv", "nobody", "known-only-by-profile") for moment in moments
    ]
    asked = asked[::-1] + asked[:3]  # neither sorted nor unique
    rows = pd.DataFrame(
        {"customer_id": [c for c, _ in asked], "event_timestamp": [from_us(m) for _, m in asked]},
        index=range(100, 100 + len(asked)),
    )
    found = customer_features_at(home, facts, rows)
    assert list(found.index) == list(rows.index)
    assert list(found.columns) == [f.name for f in current_features(facts).customer]
    for (customer, moment), row in zip(asked, found.to_dict("records"), strict=True):
        assert not different(row, recomputed(facts, customer, moment)), (customer, moment)


def test_the_snapshot_that_is_read_of_an_instant_is_the_one_that_feast_joins(made):
    home, facts = made
    features = current_features(facts)
    moments = [from_us(at(day, hour)) for day in range(7) for hour in (0, 9.5, 23)]
    rows = pd.DataFrame(
        [(key, moment) for key in ("a", "nobody", "\x1fv", "c3") for moment in moments],
        columns=["customer_id", "event_timestamp"],
    )
    names = [column.name for column in features.stored("customer")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Ibis with DuckDB 2
        job = open_feast(home, facts).get_historical_features(
            rows.assign(row=range(len(rows))), features=[f"customer_days:{name}" for name in names]
        )
        joined = job.to_arrow().sort_by("row")
    theirs = [
        None if all(value is None for value in row) else row
        for row in zip(*(joined[name].to_pylist() for name in names), strict=True)
    ]
    us = np.array([to_us(moment) for moment in rows["event_timestamp"]])
    ours = _stored(home, facts, features, rows["customer_id"].to_numpy(object), us // US_PER_DAY * US_PER_DAY, us)
    assert [None if row is None else row.columns for row in ours] == theirs
    assert 0 < sum(row is None for row in theirs) < len(theirs)


@pytest.mark.parametrize("together", [1, 4])
def test_how_many_rows_are_in_memory_together_changes_none(made, monkeypatch, together):
    home, facts = made
    moments = [from_us(at(day, 12)) for day in (5, 1, 3, 6, 0)] * 2
    rows = pd.DataFrame({"customer_id": ["a", "b", "nobody", "\x1fv", "c3"] * 2, "event_timestamp": moments})
    whole = customer_features_at(home, facts, rows)
    monkeypatch.setattr(history, "ROWS_PER_READ", together)
    pd.testing.assert_frame_equal(customer_features_at(home, facts, rows), whole)


def test_a_joined_visitor_counts_from_the_join_on_and_never_before(made):
    home, facts = made
    keys = ("a", "\x1fv", "b")
    moments = [at(3, 12), at(5), at(6, 13)]
    rows = pd.DataFrame(
        [(key, from_us(moment)) for key in keys for moment in moments], columns=["customer_id", "event_timestamp"]
    )
    before = customer_features_at(home, facts, rows)
    with suppress(KeyboardInterrupt), facts.transaction():  # undone: the home is everybody's
        join(facts, "\x1fv", "a", from_us(at(5)))
        found = customer_features_at(home, facts, rows)
        raise KeyboardInterrupt
    together = [e._replace(customer_id="a") if e.customer_id == "\x1fv" else e for e in HISTORY]
    features = current_features(facts)
    for row, (key, moment) in enumerate((key, moment) for key in keys for moment in moments):
        expected = before.to_dict("records")[row]
        if key == "a" and moment >= at(5):
            expected = Recomputation(features, together, attributes(moment)).customer("a", moment)
        assert not different(found.to_dict("records")[row], expected), (key, moment)


def test_offers_are_told_of_whole_days_only(made):
    home, facts = made
    rows = pd.DataFrame({"offer_id": ["o1", "o2", "new"], "event_timestamp": [NOW, from_us(at(2)), NOW]})
    recomputation = Recomputation(current_features(facts), HISTORY, {})
    for row, found in zip(rows.itertuples(), offer_features_at(home, facts, rows).to_dict("records"), strict=True):
        expected = recomputation.offer(row.offer_id, to_us(row.event_timestamp.to_pydatetime()))
        assert not different(found, expected), row.offer_id


def test_what_happened_at_the_very_instant_is_not_known(made):
    home, facts = made
    rows = pd.DataFrame({"customer_id": ["a"], "event_timestamp": [from_us(at(3, 9.5))]})
    before = customer_features_at(home, facts, rows)["seen_1d"][0]
    after = customer_features_at(home, facts, rows.assign(event_timestamp=from_us(at(3, 9.5) + 1)))["seen_1d"][0]
    assert (before, after) == (0.0, 1.0)


def test_no_rows_give_an_empty_table(made):
    home, facts = made
    rows = pd.DataFrame({"customer_id": [], "event_timestamp": pd.to_datetime([], utc=True)})
    assert customer_features_at(home, facts, rows).shape == (0, len(current_features(facts).customer))


def test_an_instant_outside_of_the_snapshots_is_refused(made):
    home, facts = made
    rows = pd.DataFrame({"customer_id": ["a"], "event_timestamp": [NOW + timedelta(days=30)]})
    with pytest.raises(BadInput, match="nbo features build"):
        customer_features_at(home, facts, rows)


def test_rows_without_an_instant_are_refused(made):
    home, facts = made
    with pytest.raises(BadInput, match="event_timestamp"):
        customer_features_at(home, facts, pd.DataFrame({"customer_id": ["a"], "event_timestamp": [pd.NaT]}))


def test_before_anything_happened_everything_is_at_its_default(made):
    home, facts = made
    rows = pd.DataFrame({"customer_id": ["a"], "event_timestamp": [from_us(at(-9))]})
    found = customer_features_at(home, facts, rows).to_dict("records")[0]
    assert found["seen_ever"] == 0.0
    assert math.isnan(found["days_since_activity"])


def test_feast_knows_entities_views_and_services(made):
    home, facts = made
    store = open_feast(home, facts)
    features = current_features(facts)
    assert {e.name for e in store.list_entities()} >= {"customer", "offer"}
    views = {v.name: v for v in store.list_feature_views()}
    assert set(views) == {"customer_days", "customer_profile", "offer_days"}
    assert [f.name for f in views["customer_days"].features] == [c.name for c in features.stored("customer")]
    assert views["customer_days"].ttl == timedelta(days=2)
    assert {s.name for s in store.list_feature_services()} == {"customer_features", "offer_features"}


def test_online_equals_offline_for_every_feature_of_every_customer(made):
    home, facts = made
    report = check(home, facts, now_us=to_us(NOW))
    assert report.mismatches == ()
    assert report.ok
    assert report.n_customers == 10  # a, b, the visitor, one view on each of 6 days, and one known only by profile
    assert report.age_days == pytest.approx(15.5 / 24)


def test_a_tampered_online_store_is_found(made, tmp_path):
    home, facts = made
    import sqlite3

    snapshot = read_snapshot(facts)
    path = home.feast / snapshot.online
    kept = path.read_bytes()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE nbo_customer_days SET value = x'2063' WHERE feature_name = 'seen_ever'")
    db.close()
    try:
        report = check(home, facts, now_us=to_us(NOW))
    finally:
        path.write_bytes(kept)
    assert not report.ok
    assert {one.feature for one in report.mismatches} == {"seen_ever"}


def test_what_is_online_is_what_feast_itself_would_have_written(made, tmp_path):
    import sqlite3

    home, facts = made
    snapshot = read_snapshot(facts)
    store = open_feast_on(home, facts, tmp_path / "feasts_own.db")
    store.config.online_store.path = str(tmp_path / "feasts_own.db")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Ibis with DuckDB 2
        store.apply(store.list_feature_views())
        for view in ("customer_days", "offer_days", "customer_profile"):
            since = datetime(1970, 1, 1, tzinfo=UTC) if view == "customer_profile" else from_us(snapshot.as_of_us)
            store.materialize(since, NOW if view == "customer_profile" else since, feature_views=[view])

    def rows(path):
        with closing(sqlite3.connect(path)) as db:
            return {
                view: db.execute(f"SELECT * FROM nbo_{view} ORDER BY entity_key, feature_name").fetchall()
                for view in ("customer_days", "offer_days", "customer_profile")
            }

    ours, theirs = rows(home.feast / snapshot.online), rows(tmp_path / "feasts_own.db")
    assert ours == theirs
    assert min(map(len, ours.values())) > 10


def test_stale_features_are_reported(made):
    home, facts = made
    report = check(home, facts, now_us=at(9))
    assert not report.ok
    assert "spent_3d" in report.expired


def test_materialize_puts_today_so_far_into_the_tail(made):
    home, facts = made
    log = SqliteLog(home.log_db)
    recent = log.recent("a", at(6), 0)
    log.close()
    assert [e.event_type for e in recent] == [
        e.event_type for e in HISTORY if e.customer_id == "a" and at(6) <= e.occurred_us <= to_us(NOW)
    ]
    assert read_snapshot(facts).day == day_name(6)


def test_materializing_again_replaces_the_file_and_keeps_the_one_before_for_its_readers(tmp_path):
    home, facts = open_home(tmp_path, windows=WINDOWS)
    write_lake(home, facts, HISTORY)
    build(home, facts, until=FIRST + timedelta(days=6))
    apply(home, facts)
    materialize(home, facts, from_us(at(5, 12)))
    old = open_online(home, facts)
    before = old.customer("a")
    materialize(home, facts, NOW)
    new = open_online(home, facts)
    assert old.customer("a") == before
    assert new.customer("a").as_of_us == at(6)
    materialize(home, facts, NOW)
    assert len(list(home.feast.glob("online-*.db"))) == 2


def test_a_changed_definition_must_be_applied_and_is_then_served(tmp_path):
    home, facts = open_home(tmp_path, windows=WINDOWS)
    write_lake(home, facts, HISTORY)
    build(home, facts, until=NOW.date())
    apply(home, facts)
    facts.merge_profiles([("a", {"age": 30}, None)], NOW)
    build(home, facts, until=NOW.date())
    with pytest.raises(NboError, match="nbo features apply"):
        materialize(home, facts, NOW)
    assert apply(home, facts).views["customer_profile"] == 1
    materialize(home, facts, NOW)
    assert check(home, facts, now_us=to_us(NOW)).ok


def empty(folder) -> tuple[Home, Facts]:
    return open_home(folder, windows=WINDOWS)


def test_each_step_too_early_says_which_to_run_first(tmp_path):
    home, facts = empty(tmp_path)
    rows = pd.DataFrame({"customer_id": ["a"], "event_timestamp": [NOW]})
    for step in (
        lambda: apply(home, facts), lambda: materialize(home, facts, NOW), lambda: built(facts),
        lambda: customer_features_at(home, facts, rows),
    ):  # fmt: skip
        with pytest.raises(NboError, match="nbo features build"):
            step()
    with pytest.raises(NboError, match="nbo features materialize"):
        check(home, facts)
    write_lake(home, facts, HISTORY)
    build(home, facts, until=NOW.date())
    for step in (lambda: materialize(home, facts, NOW), lambda: customer_features_at(home, facts, rows)):
        with pytest.raises(NboError, match="nbo features apply"):
            step()
    assert open_online(home, facts) is None


def test_materializing_as_of_a_day_before_the_snapshots_says_so(tmp_path):
    home, facts = empty(tmp_path)
    write_lake(home, facts, HISTORY)
    build(home, facts, until=NOW.date())
    apply(home, facts)
    with pytest.raises(NboError, match="no snapshot"):
        materialize(home, facts, from_us(at(-2)))
