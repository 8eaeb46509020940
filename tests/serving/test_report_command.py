"""`nbo report engagement`: from a log to a digest, with the exit codes that a cron job asks for."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from features.errors import BadInput
from features.home import Home
from serving.cli import app
from tests.conftest import NOW
from tests.serving.planted import plant, planted

LATER = (NOW + timedelta(days=7 - NOW.weekday())).replace(hour=1)  # an hour into the next Monday, in UTC
YEAR, NUMBER, _ = NOW.isocalendar()
WEEK = f"{YEAR}-W{NUMBER:02d}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", LATER.isoformat())
    return Home(tmp_path / "home")


def engagement(*words, code=0):
    done = CliRunner().invoke(app, ["report", "engagement", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output if code == 2 else done.stdout


def test_the_last_whole_week_of_the_log_becomes_a_digest_in_every_format(home, tmp_path):
    plant(home, planted(), n=120)
    told = json.loads(engagement("--out", str(tmp_path), "--json"))
    assert told["week"] == WEEK
    (state,) = told["experiments"]["states"]
    assert (state["experiment_id"], state["n_units"], told["alarms"]) == ("sampling", 120, [])
    assert told["holdout"]["why"].startswith("No holdout is set")
    assert (tmp_path / f"engagement-{WEEK}.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / f"engagement-{WEEK}.md").read_text().startswith(f"# Week {WEEK}\n")
    assert (tmp_path / f"engagement-{WEEK}.json").stat().st_size > 1_000


def test_an_experiment_not_to_be_trusted_ends_with_exit_code_3(home):
    plant(home, planted(), share=0.3)
    text = engagement("--week", WEEK, code=3)
    assert text.startswith(f"# Week {WEEK}")
    assert "**Somebody should look at this today**\n\n- experiment sampling: " in text


def test_the_week_is_of_the_deployments_time_zone(home, monkeypatch):
    """An hour into Monday in UTC it is Sunday still in New York: the last whole week there is the one before."""
    monkeypatch.setenv("NBO_TIME_ZONE", "America/New_York")
    year, number, _ = (NOW - timedelta(days=7)).isocalendar()
    refused = _flat(engagement("--week", WEEK, code=2))
    assert f"the last whole week is {year}-W{number:02d}" in refused


def test_wrong_words_are_wrong_usage_and_name_what_is_expected(home):
    plant(home, planted(), n=4)
    assert f"expected a week such as {WEEK}" in _flat(engagement("--week", "W9", code=2))
    assert "has not ended" in _flat(engagement("--week", "2999-W01", code=2))
    assert "nothing happened in 2020-W01" in _flat(engagement("--week", "2020-W01", code=2))
    assert "expected one of html, md, json" in _flat(engagement("--format", "pdf", code=2))
    assert "--json was given" in _flat(engagement("--format", "md", "--json", code=2))


def test_an_empty_home_has_nothing_to_tell(home):
    from serving.commands.report import engagement as run

    home.root.mkdir()
    with pytest.raises(BadInput, match="the data hold no event"):
        run()


def _flat(text):
    """Without the box that wrong usage is told in."""
    return " ".join(text.replace("│", " ").split())
