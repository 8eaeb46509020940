"""`nbo train --if-needed`: trains when it is due, says why or why not, and never twice at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from socket import gethostname

import pytest

from features.errors import BadSettings, NotTrainable
from features.home import Home
from serving.commands import train_if_needed as command
from serving.settings import Settings, load_settings
from tests.conftest import NOW
from training.lease import Lease, take
from training.needed import Known


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", NOW.isoformat())
    return Home(tmp_path / "home")


@pytest.fixture
def trained(monkeypatch):
    """Trainings that were made; `newest` is what the registry has."""
    made = []
    newest = {"known": Known(None, None)}
    monkeypatch.setattr(command, "what_is_known", lambda home, facts, now: newest["known"])

    def train():
        made.append(True)
        newest["known"] = Known("1", NOW)

    return made, train, newest


def test_it_trains_once_and_the_next_time_finds_the_release(home, trained, capsys):
    made, train, _ = trained
    assert command.run_if_needed(train, as_json=False) == 0
    assert "training, because nothing was ever trained" in capsys.readouterr().out
    assert command.run_if_needed(train, as_json=False) == 0
    assert capsys.readouterr().out == "not training: release 1 is 0 h old, younger than 12 h\n"
    assert len(made) == 1


def test_while_another_trains_nothing_is_done_and_it_is_no_failure(home, trained, capsys):
    made, train, _ = trained
    other = take(home.root / "train.lease")
    assert isinstance(other, Lease)
    assert command.run_if_needed(train, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert not said["trained"]
    assert said["why"] == [f"{other.holder.host}, process {other.holder.pid}, is training since {other.holder.since}"]
    assert made == []
    other.release()


def test_a_training_that_fails_lets_go(home, trained):
    def fails():
        raise NotTrainable("recommender", "too little")

    with pytest.raises(NotTrainable):
        command.run_if_needed(fails, as_json=False)
    lease = take(home.root / "train.lease")
    assert isinstance(lease, Lease)
    lease.release()


def test_events_that_a_build_has_yet_to_bring_are_told(home, trained, capsys):
    made, train, newest = trained
    newest["known"] = Known("1", NOW - timedelta(days=8), n_new_events=12, n_not_in_lake=12)
    command.run_if_needed(train, as_json=False)
    assert "12 of the new events are not in the lake yet: run `nbo features build` first" in capsys.readouterr().out
    assert made


def test_the_rules_are_settings_and_are_checked(home, monkeypatch):
    monkeypatch.setenv("NBO_TRAIN_MAX_AGE_DAYS", "2")
    monkeypatch.setenv("NBO_TRAIN_ON_DRIFT", "false")
    rules = command.rules_of(load_settings())
    assert (rules.max_age_days, rules.new_events, rules.on_drift, rules.min_age_hours) == (2.0, 100_000, False, 12.0)
    for name, value in (
        ("train_max_age_days", 0.0), ("train_max_age_days", float("nan")), ("train_new_events", -1),
        ("train_min_age_hours", float("nan")),
    ):  # fmt: skip
        with pytest.raises(BadSettings, match=name):
            replace(Settings(home=home), **{name: value})


CRON = """
import sys, time
from serving.commands.train_if_needed import run_if_needed
def train():
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))
sys.exit(run_if_needed(train, as_json=False))
"""


def cron(home, seconds):
    """`nbo train --if-needed` in a process of its own, with a training that takes so long."""
    return subprocess.Popen(
        [sys.executable, "-c", CRON, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "NBO_HOME": str(home.root)},
    )  # fmt: skip


def test_two_processes_at_once_make_one_training_and_a_killed_one_is_replaced(home):
    first = cron(home, 60)
    assert first.stdout.readline() == "training, because nothing was ever trained\n"
    assert first.stdout.readline() == "begun\n"
    second = cron(home, 0)
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert out.startswith(f"not training: {gethostname()}, process {first.pid}, is training since ")
    first.kill()
    first.communicate()
    third = cron(home, 0)
    out, err = third.communicate(timeout=60)
    assert (third.returncode, out) == (0, "training, because nothing was ever trained\nbegun\n")
    assert f"process {first.pid}, which was training since" in err
    assert not (home.root / "train.lease").exists()
