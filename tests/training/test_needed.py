"""When a training is due: by age, by what happened, by drift; and why, in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from features.events import check_event
from features.facts import Facts
from features.home import Home
from features.log_export import export
from features.sqlite_log import SqliteLog
from tests.conftest import NOW
from training.needed import Drift, Known, Rules, drift_known, needed, new_events, what_is_known

RULES = Rules(max_age_days=7, new_events=1_000, on_drift=True, min_age_hours=12)


def known(hours, **more):
    return Known("3", NOW - timedelta(hours=hours), **more)


def drift(drifted, hours_ago=0):
    return Drift(drifted, "age has a PSI of 0.4", NOW - timedelta(hours=hours_ago))


def test_without_a_release_a_training_is_due():
    need = needed(Known(None, None), RULES, NOW)
    assert (need.train, need.why) == (True, ("nothing was ever trained",))


@pytest.mark.parametrize(
    ("given", "train", "said"),
    [
        (known(7 * 24), True, "release 3 is 7.0 days old, 7 days are the most"),
        (known(7 * 24 - 1), False, "release 3 is 7.0 days old"),
        (known(24, n_new_events=1_000), True, "1,000 events happened since, 1,000 are enough"),
        (known(24, n_new_events=999), False, "999 events happened since"),
        (known(24, drift=drift(True)), True, "drift: age has a PSI of 0.4"),
        (known(24, drift=drift(False)), False, "no drift: age has a PSI of 0.4"),
        (known(24), False, "whether there is drift is unknown"),
        (known(24, drift=drift(True, hours_ago=30)), False, "whether there is drift is unknown"),
        (known(11, n_new_events=5_000, drift=drift(True)), False, "release 3 is 11 h old, younger than 12 h"),
    ],
)
def test_each_reason_alone_is_enough_and_is_told(given, train, said):
    need = needed(given, RULES, NOW)
    assert need.train is train
    assert any(said in why for why in need.why), need.why


def test_reasons_that_are_switched_off_are_none():
    off = Rules(max_age_days=float("inf"), new_events=0, on_drift=False, min_age_hours=0)
    assert not needed(known(1e6, n_new_events=10**9, drift=drift(True)), off, NOW).train


def test_every_reason_is_told_where_several_hold():
    need = needed(known(8 * 24, n_new_events=2_000, drift=drift(True)), RULES, NOW)
    assert len(need.why) == 3


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_events_are_counted_once_in_the_lake_and_in_the_log(home):
    facts, log = Facts(home.facts_db), SqliteLog(home.log_db)

    def send(name, hours_ago):
        at = NOW - timedelta(hours=hours_ago)
        event = {"event_id": name, "event_type": "visit", "customer_id": "c", "occurred_at": at.isoformat()}
        log.append([check_event(event, NOW)], NOW)

    send("old", 100)
    send("in-lake", 20)
    export(home, facts, log, NOW)
    send("late", 60)
    send("in-log", 1)
    since = NOW - timedelta(hours=48)
    assert new_events(home, facts, since, NOW) == (1, 1)
    assert new_events(home, facts, NOW - timedelta(hours=200), NOW) == (2, 2)
    assert new_events(home, facts, since, NOW - timedelta(hours=10)) == (1, 0)
    log.close()
    facts.close()


def test_a_home_where_nothing_was_trained_is_left_as_it_is(home):
    facts = Facts(home.facts_db)
    assert what_is_known(home, facts, NOW) == Known(None, None)
    facts.close()
    assert not home.mlflow.exists()
    assert not home.log_db.exists()


def test_drift_is_unknown_where_nothing_was_watched(home):
    assert drift_known(home) is None
