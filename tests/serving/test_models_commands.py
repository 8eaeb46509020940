"""`nbo models gates | rollback | history`: what they print, as text and as JSON, and how they end."""

from __future__ import annotations

import json
import sys
import tomllib
from datetime import timedelta

import pytest

from features.home import Home
from serving import cli
from tests.conftest import NOW
from tests.training.test_releases import promoted
from training import releases
from training.gates import GATES
from training.scorers import load_champion


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", (NOW + timedelta(days=1)).isoformat())
    return Home(tmp_path / "home")


@pytest.fixture
def followed(monkeypatch):
    """MLflow's part, which has tests of its own."""
    asked = []
    monkeypatch.setattr("training.registry.follow_champion", asked.append)
    return asked


@pytest.fixture
def nbo(monkeypatch, capsys):
    """Runs a command line; its exit code, and the last line of what it said on stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["nbo", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_rollback_says_which_release_serves_and_lets_mlflow_follow(home, followed, nbo):
    promoted(home, "1", "2")
    code, out, _ = nbo("models", "rollback", "--reason", "a test")
    assert (code, out.split(" (")[0]) == (0, "release 1 is the champion again, after 2")
    assert load_champion(home.releases).number == "1"
    assert followed == [home]
    assert nbo("models", "rollback", "--to", "1")[1] == "release 1 is the champion already\n"
    said = json.loads(nbo("models", "rollback", "--to", "2", "--json")[1])
    assert (said["release"], said["before"]) == ("2", "1")


def test_a_registry_that_cannot_be_written_does_not_keep_a_release_serving(home, nbo, monkeypatch):
    def broken(home):
        raise OSError("the disk is full")

    monkeypatch.setattr("training.registry.follow_champion", broken)
    promoted(home, "1", "2")
    code, out, err = nbo("models", "rollback")
    assert (code, out.split(" (")[0]) == (0, "release 1 is the champion again, after 2")
    assert "MLflow's aliases have not followed; the next promotion moves them: the disk is full" in err


@pytest.mark.parametrize(("before", "words", "said"), [
    ((), (), "there is no champion to go back from: nothing was ever promoted"),
    (("1",), (), "release 1 is the first champion: there is none before it"),
    (("1",), ("--to", "7"), "release 7 was never champion, so there is no way back to it: `nbo models promote 7`"),
])  # fmt: skip
def test_where_there_is_no_way_back_it_says_so_and_fails(home, nbo, followed, before, words, said):
    promoted(home, *before)
    assert nbo("models", "rollback", *words) == (1, "", f"nbo: {said}\n")
    assert followed == []


def test_the_history_says_who_was_champion_when(home, followed, nbo):
    promoted(home, "1", "2")
    nbo("models", "rollback", "--reason", "it was late")
    lines = nbo("models", "history")[1].splitlines()
    assert [line.split("champion")[1].split(" by ")[0].split() for line in lines] == [
        ["none", "→", "1", "promotion"], ["1", "→", "2", "promotion"], ["2", "→", "1", "rollback"],
    ]  # fmt: skip
    assert lines[2].endswith(": it was late")
    assert nbo("models", "history", "--at", (NOW + timedelta(hours=2)).isoformat())[1].startswith("release 2: ")
    assert json.loads(nbo("models", "history", "--at", NOW.isoformat(), "--json")[1])["to"] == "1"
    before = nbo("models", "history", "--at", "2020-01-01T00:00:00Z")
    assert before[1] == "nothing was promoted yet at that moment\n"
    assert [line["kind"] for line in json.loads(nbo("models", "history", "--json")[1])] == [
        "promotion", "promotion", "rollback",
    ]  # fmt: skip


def test_a_time_that_is_none_is_wrong_usage(home, nbo):
    code, _, err = nbo("models", "history", "--at", "yesterday")
    assert code == 2
    assert "yesterday" in err


def test_without_promotions_the_history_says_so(home, nbo):
    assert nbo("models", "history") == (0, "no release was promoted yet\n", "")


def test_a_shadow_that_has_scored_nothing_yet_is_named_with_its_moment(home, nbo):
    before = "no decision was scored by a shadow yet: run `nbo models shadow RELEASE` and let customers come\n"
    assert nbo("models", "shadow") == (0, before, "")
    home.releases.mkdir(parents=True)
    with releases.pointer_lock(home):
        releases.point(home, "shadow", "3", "00")
        releases.remember(home, None, "3", "ada", None, NOW, alias="shadow", kind="shadow", sha256="00")
    said = f"release 3 is the shadow since {NOW.isoformat()}, no decision was scored yet\n"
    assert nbo("models", "shadow") == (0, said, "")
    (home.releases / "history.jsonl").unlink()
    assert nbo("models", "shadow") == (0, "release 3 is the shadow, no decision was scored yet\n", "")


def test_the_gates_are_printed_as_a_file_and_a_wrong_bound_is_named(home, nbo):
    assert set(tomllib.loads(nbo("models", "gates")[1])) == set(GATES)
    home.root.mkdir(exist_ok=True)
    (home.root / "gates.toml").write_text("[latency]\nmax_p99_ms = 3.0\n")
    assert tomllib.loads(nbo("models", "gates")[1])["latency"]["max_p99_ms"] == 3.0
    assert json.loads(nbo("models", "gates", "--json")[1])["latency"]["max_p99_ms"] == 3.0
    (home.root / "gates.toml").write_text("[latency]\nmax_p99_ms = 0.0\n")
    code, _, err = nbo("models", "gates")
    assert code == 1
    assert "latency.max_p99_ms is 0.0, expected `float` > 0.0" in err


def test_who_did_it_is_the_user_of_the_machine(monkeypatch):
    monkeypatch.setattr(releases.getpass, "getuser", lambda: "ada")
    assert releases.user() == "ada"

    def nobody():
        raise KeyError("no such uid")

    monkeypatch.setattr(releases.getpass, "getuser", nobody)
    assert releases.user() == "unknown"


@pytest.mark.parametrize("words", [("models", "gates"), ("monitor",)])
@pytest.mark.parametrize(("text", "said"), [
    ("nothing = 1", "{file}: nothing is not a {kind}, expected one of {first}"),
    ("{some} = \"much\"", "{file}: {place} is 'much', expected `float`"),
    ("{some} = -1", "{file}: {place} is -1, expected `float` >"),
    ("{some} = nan", "{file}: {place} is nan, expected a number"),
    ("{some} = ", "{file} is not valid TOML, expected lines of key = value: "),
])  # fmt: skip
def test_a_malformed_file_of_bounds_or_thresholds_is_one_line_with_file_key_and_what_was_expected(
    home, nbo, words, text, said
):
    if words == ("monitor",):
        file, head, of = "monitor.toml", "", {"some": "psi", "place": "psi", "kind": "threshold", "first": "psi"}
    else:
        file, head = "gates.toml", "" if text.startswith("nothing") else "[latency]\n"
        of = {"some": "max_p99_ms", "place": "latency.max_p99_ms", "kind": "gate", "first": "baseline"}
    home.root.mkdir()
    (home.root / file).write_text(head + text.format(**of))
    code, out, err = nbo(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    where = str(home.root / file) if "TOML" in said else file
    assert err.startswith(f"nbo: {said.format(file=where, **of)}")
