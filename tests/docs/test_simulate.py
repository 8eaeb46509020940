"""The how-to of simulations: its commands run, small, or are what the command line takes."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from serving import cli
from tests.conftest import ROOT

PAGE = (ROOT / "docs/how-to/simulate.md").read_text()
COMMANDS = [line.strip() for line in re.findall(r"^\$ nbo (simulate[^#\n]*)", PAGE, re.MULTILINE)]
SMALL = ["--visits", "40", "--customers", "40", "--offers", "8"]


def ended_with(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["nbo", *shlex.split(command), *SMALL])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("command", [one for one in COMMANDS if "--http" not in one and "--aa" not in one])
def test_policies_on_the_page_are_compared(command, monkeypatch, capsys, tmp_path):
    assert ended_with(command, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "Value per visitor" in said
    assert "of independent runs" in said
    assert "--out" not in command or (tmp_path / "policies.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [one for one in COMMANDS if "--http" in one or "--aa" in one])
def test_what_takes_longer_is_at_least_taken(command, monkeypatch):
    asked = []
    for name in ("run", "run_experiments"):
        monkeypatch.setattr(f"serving.commands.simulate.{name}", lambda *given, **named: asked.append(named) or 0)
    assert ended_with(command, monkeypatch) == 0
    assert asked[0]["http"] == ("--http" in command)
    assert asked[0].get("n_null", 0) == (20 if "--aa" in command else 0)
