"""The how-to of experiments: its file is an experiment, and its commands lead from there to a decision."""

from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import timedelta

import pytest

from features.catalogue import Offer, Placement, Treatment
from features.experiment import Experiment
from features.facts import Facts
from features.home import Home
from serving import cli
from tests.conftest import NOW, ROOT

PAGE = (ROOT / "docs/how-to/run-an-experiment.md").read_text()
(FILE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line.split(" || ")[0].split(" > ")[0] for line in re.findall(r"^\$ nbo (.*)$", PAGE, re.MULTILINE)]


@pytest.fixture
def nbo(tmp_path, monkeypatch, capsys):
    """Runs a command of the page at a time after the one before; its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    (tmp_path / "hero-policy.yaml").write_text(FILE)
    facts = Facts(Home(tmp_path / "home").facts_db)
    facts.put(Placement(placement_id="hero", name="hero", channel="web"), NOW)
    facts.put(
        Offer(
            offer_id="o",
            name="o",
            value=1.0,
            currency="EUR",
            status="approved",
            treatments=(Treatment(treatment_id="o/a"),),
        ),
        NOW,
    )
    facts.close()
    hours = 0

    def run(command):
        nonlocal hours
        hours += 1
        monkeypatch.setenv("NBO_AS_OF", (NOW + timedelta(hours=hours)).isoformat())
        words = shlex.split(command, comments=True)
        monkeypatch.setattr(sys, "argv", ["nbo", *words, *(["--no-keep"] if "report" in words else [])])
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_the_commands_of_the_page_lead_from_a_file_to_a_decision(nbo, tmp_path):
    assert [command.split()[:2] for command in COMMANDS][:5] == [
        ["experiment", "plan"],
        ["experiment", "plan"],
        ["apply", "hero-policy.yaml"],
        ["experiment", "start"],
        ["experiment", "list"],
    ]
    for command in COMMANDS:
        if command == "experiment report holdout":
            code, _, said = nbo(command)
            assert (code, "nobody was ever held out" in said) == (1, True)
        else:
            code, out, said = nbo(command)
            # Nobody came: a running experiment waits, one that was stopped like this is not to be trusted.
            assert code == (3 if "final.html" in command else 0), (command, out, said)
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {
        "experiment-hero-policy.html",
        "experiment-hero-policy.md",
        "experiment-hero-policy.json",
    }
    assert "Do not trust" in (tmp_path / "final.html").read_text()
    facts = Facts(Home(tmp_path / "home").facts_db)
    stored = facts.get(Experiment, "hero-policy").body
    facts.close()
    assert (stored.status, stored.decided.variant) == ("decided", "sampling")


def test_more_traffic_is_the_change_that_the_page_says(nbo, tmp_path):
    nbo("apply hero-policy.yaml")
    nbo("experiment start hero-policy")
    before, after = re.search(r"change `(traffic: .*?)` to `(traffic: .*?)`", PAGE).groups()
    assert FILE.count(before) == 1
    (tmp_path / "hero-policy.yaml").write_text(FILE.replace(before, after))
    assert nbo("apply hero-policy.yaml")[0] == 0
    told = json.loads(nbo("experiment report hero-policy --json")[1])
    assert [phase["traffic"] for phase in told["experiment"]["phases"]] == [0.2, 1.0]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("experiment report nobody", 1),
        ("experiment report hero-policy", 1),  # a draft
        ("experiment report hero-policy --segment height", 2),
    ],
)
def test_exit_codes_are_those_of_the_page(nbo, command, code):
    nbo("apply hero-policy.yaml")
    if code == 2:
        nbo("experiment start hero-policy")
    assert nbo(command)[0] == code
    assert re.search(rf"^\| {code} \|", PAGE, re.MULTILINE)
