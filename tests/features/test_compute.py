"""Snapshots: equal to a recomputation, blind to the future, incremental, and the same bytes every time."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.compute import build, built, current_features
from features.compute.files import files_of, one_build
from features.definitions import FeatureSet
from features.errors import NboError, StoreUnavailable
from features.events import US_PER_DAY
from features.facts import Facts
from features.home import Home
from features.lake import writer_lock
from features.live import Instant, StoredRow, feature_table
from features.log import LogEvent
from tests.features.histories import (
    FIRST,
    FIRST_US,
    Recomputation,
    at,
    day_name,
    different,
    event,
    open_home,
    write_lake,
)

WINDOWS = (1, 2, 4)
LAST_DAY = 6
NO_SHRINK = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second, and shrinking takes hundreds
building = importlib.import_module("features.compute.build")

# Odd values on purpose: midnight and the microsecond before it, the borders of parts of the day, ties.
TIMES = st.sampled_from([0, 1, US_PER_DAY - 1, US_PER_DAY // 4, US_PER_DAY // 4 - 1, US_PER_DAY // 2]) | st.integers(
    0, US_PER_DAY - 1
)
KINDS = st.sampled_from(["visit", "view", "impression", "click", "accept", "reject", "dismiss", "purchase", "feedback"])
VALUES = st.sampled_from([None, 0, -3.5, 0.0001, 12.3456, 999_999_999_999.9999])


@st.composite
def histories(draw: Any) -> list[LogEvent]:
    n = draw(st.integers(0, 40))
    return [
        event(
            draw(st.sampled_from(["a", "b", "ä'\"", "\x1fvisitor"])),
            draw(KINDS),
            FIRST_US + draw(st.integers(0, LAST_DAY)) * US_PER_DAY + draw(TIMES),
            offer=draw(st.sampled_from([None, "o1", "o2"])),
            category=draw(st.sampled_from([None, "x", "y", "ü,'"])),
            channel=draw(st.sampled_from([None, "web", "email"])),
            value=draw(VALUES),
            currency=draw(st.sampled_from([None, "EUR", "USD"])),
            event_id=f"e{number}",
        )
        for number in range(n)
    ]


def stored_rows(home: Home, features: FeatureSet, entity: Any, day: str) -> dict[str, StoredRow]:
    table = pq.read_table(files_of(home, features).snapshot(entity, day))
    key = f"{entity}_id"
    columns = [c.name for c in features.stored(entity)]
    moments = table["event_timestamp"].cast(pa.int64()).to_pylist()
    return {
        row[key]: StoredRow([row[name] for name in columns], moment)
        for row, moment in zip(table.to_pylist(), moments, strict=True)
    }


def answer(home: Home, features: FeatureSet, events: Sequence[LogEvent], customer: str, now_us: int) -> dict[str, Any]:
    """Snapshot of the day of `now_us`, plus what happened from its start until before `now_us`."""
    midnight = now_us // US_PER_DAY * US_PER_DAY
    day = (date(1970, 1, 1) + timedelta(days=now_us // US_PER_DAY)).isoformat()
    row = stored_rows(home, features, "customer", day).get(customer)
    since = [e for e in events if e.customer_id == customer and midnight <= e.occurred_us < now_us]
    table = feature_table(features, "customer", [Instant(row, since, (), now_us)])
    return {name: column[0] if column.dtype == object else float(column[0]) for name, column in table.items()}


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=NO_SHRINK)
@given(histories(), st.integers(0, LAST_DAY), st.lists(TIMES, min_size=1, max_size=3))
def test_snapshot_and_live_equal_a_full_recomputation(tmp_path_factory, history, day, times):
    home, facts = open_home(tmp_path_factory.mktemp("nbo"), windows=WINDOWS)
    write_lake(home, facts, history)
    build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
    features = current_features(facts)
    recomputed = Recomputation(features, history, {})
    known = sorted({e.customer_id for e in history} | {"nobody"})
    first = min((e.occurred_us // US_PER_DAY for e in history), default=FIRST_US // US_PER_DAY + LAST_DAY)
    moments = {FIRST_US + day * US_PER_DAY + time for time in times} | {e.occurred_us for e in history[:2]}
    for now_us in sorted(moments):
        if now_us // US_PER_DAY < first:
            continue  # nothing has happened, and so there is no snapshot
        for customer in known:
            found = answer(home, features, history, customer, now_us)
            assert not different(found, recomputed.customer(customer, now_us)), (customer, now_us)
    offers = stored_rows(home, features, "offer", day_name(LAST_DAY))
    for offer in ("o1", "o2", "o3"):
        instant = Instant(offers.get(offer), (), (), at(LAST_DAY, 5))
        table = feature_table(features, "offer", [instant])
        found = {name: float(column[0]) for name, column in table.items()}
        assert not different(found, recomputed.offer(offer, at(LAST_DAY, 5))), offer
    facts.close()


HISTORY = [
    event(customer, kind, at(day, hour), offer=offer, category=category, channel="web", value=value, currency="EUR")
    for day in range(LAST_DAY + 1)
    for customer, kind, hour, offer, category, value in [
        ("a", "visit", 0.0, None, None, None), ("a", "impression", 9.5, "o1", "x", None),
        ("a", "accept", 9.6, "o1", "x", None), ("b", "purchase", 13.0 + day, None, "y", 10.25 + day),
        (f"c{day}", "view", 23.999, None, "y", None),
    ]
]  # fmt: skip


def made(folder: Path, history: Sequence[LogEvent], until: int = LAST_DAY, **settings: Any) -> tuple[Home, Facts]:
    home, facts = open_home(folder, windows=WINDOWS, **settings)
    write_lake(home, facts, history)
    build(home, facts, until=FIRST + timedelta(days=until))
    return home, facts


@pytest.fixture(scope="module")
def built_once(tmp_path_factory) -> Path:
    """A home with all of HISTORY built."""
    folder = tmp_path_factory.mktemp("history") / "home"
    made(folder, HISTORY)[1].close()
    return folder


def copied(built_once: Path, folder: Path) -> tuple[Home, Facts]:
    """The same for a test of its own."""
    home = Home(Path(shutil.copytree(built_once, folder)))
    return home, Facts(home.facts_db)


def digests(home: Home, facts: Facts) -> dict[str, str]:
    folder = files_of(home, current_features(facts)).folder
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def the_future_changes_nothing(folder: Path, now_us: int) -> None:
    """The law: an answer is the same when everything from its instant on had not happened."""
    whole, whole_facts = made(folder / "whole", HISTORY)
    past, past_facts = made(folder / "past", [e for e in HISTORY if e.occurred_us < now_us])
    features = current_features(whole_facts)
    for customer in sorted({e.customer_id for e in HISTORY}):
        one = answer(whole, features, HISTORY, customer, now_us)
        other = answer(past, features, [e for e in HISTORY if e.occurred_us < now_us], customer, now_us)
        assert not different(one, other), f"the future changed {different(one, other)} of {customer}"
    whole_facts.close()
    past_facts.close()


def test_the_future_changes_no_feature(tmp_path):
    the_future_changes_nothing(tmp_path, at(4, 9.55))


def test_a_planted_feature_that_looks_into_the_future_is_caught(tmp_path, monkeypatch):
    honest = building._weights

    def leaky(base: Any, day: date, spans: Any, known: Any) -> Any:
        """As if the snapshot of a day held that day as well."""
        return honest(base and base + timedelta(days=1), day + timedelta(days=1), spans, known)

    monkeypatch.setattr(building, "_weights", leaky)
    with pytest.raises(AssertionError, match="the future changed"):
        the_future_changes_nothing(tmp_path, at(4, 9.55))


def test_a_rebuild_gives_the_same_bytes(built_once, tmp_path):
    one, one_facts = copied(built_once, tmp_path / "one")
    other, other_facts = made(tmp_path / "other", HISTORY)
    assert digests(one, one_facts) == digests(other, other_facts)
    assert len(digests(one, one_facts)) > 20


@pytest.mark.parametrize("together", [1, 3])
def test_how_many_days_are_in_memory_together_changes_no_byte(tmp_path, monkeypatch, together):
    whole, whole_facts = made(tmp_path / "whole", HISTORY, snapshot_days=2)  # the first rolls from nothing, over 5 days
    monkeypatch.setattr(building, "DAYS_TOGETHER", together)
    parts, parts_facts = made(tmp_path / "parts", HISTORY, snapshot_days=2)
    assert digests(parts, parts_facts) == digests(whole, whole_facts)


def test_day_by_day_gives_the_same_bytes_as_all_at_once(built_once, tmp_path):
    whole, whole_facts = copied(built_once, tmp_path / "whole")
    home, facts = made(tmp_path / "steps", HISTORY, until=2)
    for day in range(3, LAST_DAY + 1):
        report = build(home, facts, until=FIRST + timedelta(days=day))
        assert (report.n_daily, report.n_snapshots) == (1, 1)
    assert digests(home, facts) == digests(whole, whole_facts)


def test_a_build_without_news_computes_nothing(built_once, tmp_path):
    home, facts = copied(built_once, tmp_path / "home")
    report = build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
    assert (report.n_daily, report.n_snapshots) == (0, 0)


def test_late_history_rebuilds_the_days_behind_it_and_no_other(tmp_path):
    home, facts = made(tmp_path / "late", HISTORY[:-5])
    late = [event("z", "purchase", at(3, 8), value=5, currency="EUR")]
    write_lake(home, facts, late, batch="later")
    write_lake(home, facts, HISTORY[-5:], batch="last")
    report = build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
    assert report.n_daily == 1  # day 3; day 6 is today
    assert report.n_snapshots == 3  # of days 4, 5 and 6
    fresh, fresh_facts = made(tmp_path / "fresh", [*HISTORY, *late])
    ours, theirs = digests(home, facts), digests(fresh, fresh_facts)
    assert {k: v for k, v in ours.items() if "snapshots" in k} == {k: v for k, v in theirs.items() if "snapshots" in k}


def test_a_lost_or_half_built_folder_is_made_anew(built_once, tmp_path):
    home, facts = copied(built_once, tmp_path / "home")
    before = digests(home, facts)
    files = files_of(home, current_features(facts))
    manifest = files.manifest()
    manifest.snapshots.pop(day_name(4))
    files.write_manifest(manifest)
    files.snapshot("customer", day_name(4)).write_bytes(b"half")
    report = build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
    assert report.n_snapshots == 1
    assert digests(home, facts) == before


def test_only_the_wanted_days_have_snapshots_and_older_ones_still_count(tmp_path):
    home, facts = made(tmp_path, HISTORY, snapshot_days=2)
    state = built(facts)
    assert state.days == (day_name(LAST_DAY - 1), day_name(LAST_DAY))
    assert not state.complete
    features = current_features(facts)
    found = answer(home, features, HISTORY, "b", at(LAST_DAY, 22))
    assert not different(found, Recomputation(features, HISTORY, {}).customer("b", at(LAST_DAY, 22)))


def test_absurd_amounts_stop_at_a_limit_and_not_the_build(tmp_path):
    rich = [event("r", "purchase", at(1, n / 100), value=999_999_999_999, currency="EUR") for n in range(1000)]
    home, facts = made(tmp_path, rich)
    features = current_features(facts)
    row = stored_rows(home, features, "customer", day_name(2))["r"]
    spent = row.columns[[c.name for c in features.stored("customer")].index("spent_ever")]
    assert spent == 9_000_000_000_000_000_000


def test_a_second_build_at_the_same_time_is_refused_and_writers_of_the_lake_are_not(tmp_path):
    home, facts = open_home(tmp_path, windows=WINDOWS)
    write_lake(home, facts, HISTORY)
    with one_build(home):
        with pytest.raises(StoreUnavailable, match="another build"):
            build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
        with writer_lock(home, wait_s=0):
            pass
    assert build(home, facts, until=FIRST + timedelta(days=LAST_DAY)).n_snapshots == LAST_DAY + 1


def test_without_any_event_there_is_an_empty_snapshot(tmp_path):
    home, facts = made(tmp_path, [])
    assert built(facts).days == (day_name(LAST_DAY),)
    assert stored_rows(home, current_features(facts), "customer", day_name(LAST_DAY)) == {}


def test_asking_before_anything_was_built_says_what_to_run(tmp_path):
    _, facts = open_home(tmp_path)
    with pytest.raises(NboError, match="nbo features build"):
        current_features(facts)


def test_a_new_attribute_leaves_the_snapshots_as_they_are(built_once, tmp_path, now):
    home, facts = copied(built_once, tmp_path / "home")
    facts.merge_profiles([("a", {"age": 3}, None), ("p", {"tier": "gold"}, None)], now)
    report = build(home, facts, until=FIRST + timedelta(days=LAST_DAY))
    assert (report.n_daily, report.n_snapshots) == (0, 0)
    assert {f.name for f in current_features(facts).features} >= {"age", "tier"}
