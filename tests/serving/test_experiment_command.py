"""`nbo experiment` and what `nbo apply` may do with experiments."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from features.catalogue import Lever
from features.errors import BadInput, ExperimentRefused
from features.experiment import Experiment
from features.facts import Facts
from serving.cli import app
from serving.commands.apply import run
from serving.problems import Invalid
from tests.conftest import NOW
from tests.serving.catalogue_files import EVERYTHING

FILE = """
experiments:
  - experiment_id: sampling
    hypothesis: sampling pays
    traffic: 0.2
    variants:
      - {name: control, weight: 0.5, is_control: true}
      - {name: on, weight: 0.5, policy: thompson}
    primary_metric: acceptance_rate
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def apply(tmp_path, capsys):
    def make(text=FILE, *more):
        paths = []
        for n, each in enumerate((text, *more)):
            paths.append(tmp_path / f"{n}.yaml")
            paths[-1].write_text(each)
        run(paths, dry_run=False, as_json=True)
        return [(one["id"], one["change"]) for one in json.loads(capsys.readouterr().out)["objects"]]

    return make


def nbo(*words, ok=True):
    done = CliRunner().invoke(app, ["experiment", *words])
    if ok and done.exception is not None:
        raise done.exception
    return done


def stored(home):
    facts = Facts(home / "facts.db")
    found = facts.get(Experiment, "sampling"), facts.changes(Experiment, "sampling")
    facts.close()
    return found


def test_an_experiment_goes_its_way_from_the_command_line(apply, home):
    assert apply() == [("sampling", "created")]
    assert nbo("list").output == "sampling  draft     of layer default by customer  control* 0.5, on 0.5\n"
    assert nbo("start", "sampling").output.startswith("sampling  running   0.2 of layer default by customer  phase 1")
    assert "stopped" in nbo("stop", "sampling", "--reason", "planned").output
    assert nbo("decide", "sampling", "on", "--reason", "it won").output.endswith("on 0.5  for on: it won\n")
    (one,) = json.loads(nbo("list", "--json").output)["experiments"]
    assert (one["status"], one["stop_reason"], one["decided"]["variant"]) == ("decided", "planned", "on")
    by = [change.by for change in stored(home)[1]]
    assert by == ["nbo experiment"] * 3 + ["nbo apply"]


def test_a_move_out_of_turn_is_refused(apply):
    apply()
    with pytest.raises(ExperimentRefused, match="sampling is draft; stop expects one that is running"):
        nbo("stop", "sampling", "--reason", "r")
    nbo("start", "sampling")
    nbo("stop", "sampling", "--reason", "r")
    with pytest.raises(BadInput, match="variant is 'off', expected one of control, on"):
        nbo("decide", "sampling", "off", "--reason", "r")


def test_a_reason_is_needed(apply):
    apply()
    nbo("start", "sampling")
    assert nbo("stop", "sampling", ok=False).exit_code == 2
    assert nbo("stop", "sampling", "--reason", " ", ok=False).exit_code == 2


def test_a_start_tells_what_is_no_longer_there(apply, home):
    named = FILE.replace("policy: thompson", "levers: [push], treatments: {tea: tea/a}")
    apply(EVERYTHING.partition("experiments:")[0] + named)
    facts = Facts(home / "facts.db")
    facts.remove(Lever, "push", NOW)
    facts.close()
    with pytest.raises(Invalid, match=r"/variants/1/levers/0: .*there is no lever 'push'"):
        nbo("start", "sampling")


def test_what_an_experiment_names_may_stand_in_a_later_file(apply):
    names = FILE.replace("policy: thompson", "levers: [push], treatments: {tea: tea/a}")
    assert ("sampling", "created") in apply(names, EVERYTHING.partition("experiments:")[0])


def test_a_name_that_no_file_has_is_told_with_its_line(apply):
    with pytest.raises(BadInput, match=r"0\.yaml:8: experiments\[0\] \(sampling\): variants\.1\.levers\.0: "):
        apply(FILE.replace("policy: thompson", "levers: [push]"))


def test_a_file_changes_weights_and_traffic_of_a_running_experiment_but_not_its_state(apply, home):
    apply()
    nbo("start", "sampling")
    assert apply() == [("sampling", "none")]
    assert apply(FILE.replace("traffic: 0.2", "traffic: 0.3")) == [("sampling", "replaced")]
    assert [phase.traffic for phase in stored(home)[0].body.phases] == [0.2, 0.3]
    with pytest.raises(BadInput, match=r"0\.yaml:3: experiments\[0\] \(sampling\): .*hypothesis cannot change"):
        apply(FILE.replace("sampling pays", "otherwise"))
    assert apply(FILE.replace("traffic: 0.2", "traffic: 0.3\n    status: decided")) == [("sampling", "none")]
    assert stored(home)[0].body.status == "running"


def test_what_was_started_while_a_file_was_read_is_not_written_over(apply, monkeypatch, home):
    import serving.commands.apply as command

    apply()
    read = command.read

    def slow(files, known):
        wanted = read(files, known)
        nbo("start", "sampling")
        return wanted

    monkeypatch.setattr(command, "read", slow)
    with pytest.raises(ExperimentRefused, match="sampling was changed meanwhile; it is running"):
        apply(FILE.replace("traffic: 0.2", "traffic: 0.3"))
    assert stored(home)[0].body.traffic == 0.2
