"""Thresholds are data that are checked; what was seen is kept whole, and says whether there is drift."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from features.errors import BadInput, BadSettings
from features.home import Home
from training.monitoring import drift_verdict
from training.monitoring.kept import Watched, keep, last_watched
from training.monitoring.line import Line, above, below, unknown
from training.monitoring.thresholds import Thresholds, read_thresholds
from training.monitoring.watch import window

NOW = datetime(2026, 3, 8, tzinfo=UTC)


def watched(*lines: Line) -> Watched:
    return Watched(at=NOW, since=NOW, until=NOW, release="2", n_decisions=1, n_outcomes=0, lines=lines)


def test_without_a_file_the_defaults_hold_and_a_file_changes_what_it_names(tmp_path):
    assert read_thresholds(Home(tmp_path)) == Thresholds()
    (tmp_path / "monitor.toml").write_text("psi = 0.1\nauc_loss = inf\nmin_customers = 50\n")
    assert read_thresholds(Home(tmp_path)) == Thresholds(psi=0.1, auc_loss=math.inf, min_customers=50)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("psy = 0.1", "psy is not a threshold, expected one of psi"),
        ('psi = "much"', "psi is 'much', expected `float`"),
        ("psi = nan", "psi is nan, expected a number"),
        ("psi = -0.1", "psi is -0.1, expected `float` >= 0.0"),
        ("min_customers = 1.5", "min_customers is 1.5, expected `int`"),
        ("psi = ", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_by_its_key(tmp_path, text, named):
    (tmp_path / "monitor.toml").write_text(text)
    with pytest.raises(BadSettings, match=named.replace("(", r"\(")):
        read_thresholds(Home(tmp_path))


def test_what_was_seen_last_is_read_back_and_rubbish_is_nothing(tmp_path):
    home = Home(tmp_path)
    assert last_watched(home) is None
    found = watched(above("psi", "age", 0.3, 0.2, "moved"))
    keep(home, found)
    assert last_watched(home) == found
    (tmp_path / "monitor.json").write_text("{")
    assert last_watched(home) is None
    assert list(tmp_path.glob("*.tmp")) == []


def test_drift_is_unknown_until_somebody_watched_and_could_tell(tmp_path):
    home = Home(tmp_path)
    assert drift_verdict(home) is None
    keep(home, watched(unknown("feature_drift", "", "too few"), above("degraded", "", 0.5, 0.01, "half")))
    assert drift_verdict(home) is None


def test_drift_names_what_moved_and_is_calm_where_only_the_service_ails(tmp_path):
    home = Home(tmp_path)
    keep(home, watched(above("psi", "age", 0.3, 0.2, "moved"), above("psi", "tier", 0.1, 0.2, "stays")))
    found = drift_verdict(home)
    assert found is not None
    assert (found.drifted, found.said, found.at) == (True, "psi of age crossed", NOW)
    keep(home, watched(above("psi", "age", 0.1, 0.2, "stays"), above("degraded", "", 0.5, 0.01, "half")))
    calm = drift_verdict(home)
    assert calm is not None
    assert (calm.drifted, calm.said) == (False, "none of 1 figures crossed")


def test_a_figure_with_an_interval_crosses_only_as_a_whole():
    assert above("auc_loss", "2", 0.08, 0.05, "", low=0.01, high=0.15).verdict == "ok"
    assert above("auc_loss", "2", 0.08, 0.05, "", low=0.06, high=0.10).verdict == "crossed"
    assert below("offers_shown", "", 0.1, 0.2, "").verdict == "crossed"
    assert above("psi", "x", math.nan, 0.2, "").verdict == "unknown"


def test_a_window_is_days_hours_or_an_instant():
    assert (NOW - window("7d", NOW)).days == 7
    assert (NOW - window("12h", NOW)).total_seconds() == 43_200
    assert window("2026-03-01T00:00:00Z", NOW) == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "d", "0d", "-3d", "nand", "soon", "2026-03-09T00:00:00Z", "7 weeks", "infd", "1e9d"]
)
def test_a_window_that_is_none_is_refused_by_name(text):
    with pytest.raises(BadInput, match="since is"):
        window(text, NOW)
