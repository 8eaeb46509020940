"""The how-to of off-policy evaluation: its recipe reads a log with the columns it names, and its commands run."""

from __future__ import annotations

import re
import shlex
import sys

import numpy as np
import pandas as pd
import pytest

from serving import cli
from tests.conftest import ROOT

PAGE = (ROOT / "docs/how-to/evaluate-a-policy.md").read_text()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with the page's recipe and a log that fits it."""
    (recipe,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    rng, n = np.random.default_rng(0), 1_200
    banner = rng.choice(["a", "b"], n)
    log = pd.DataFrame({
        "banner": banner, "propensity": 0.5, "clicked": (rng.random(n) < np.where(banner == "a", 0.2, 0.6)).astype(int),
        "age": rng.integers(20, 70, n), "device_kind": rng.choice(["tv", "web"], n), "visitor": rng.integers(0, 400, n),
        "shown_at": pd.date_range("2026-06-01", periods=n, freq="min"), "chance_a": 0.1, "chance_b": 0.9,
    })  # fmt: skip
    log.to_csv(tmp_path / "banners.csv", index=False)
    (tmp_path / "banners.toml").write_text(recipe)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize("command", re.findall(r"^\$ nbo (evaluate .*--log.*)$", PAGE, re.MULTILINE))
def test_commands_on_another_systems_log_run(shop, command, monkeypatch, capsys):
    if "given" in command:
        with (shop / "banners.toml").open("a") as recipe:
            (line,) = re.findall(r"`(chances = .*?)`", PAGE)
            recipe.write(line + "\n")
    monkeypatch.setattr(sys, "argv", ["nbo", *shlex.split(command)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    assert "**Higher**" in said.out  # b is clicked three times as often, and both show it more


def test_rows_of_nobody_are_counted_in_the_report(shop, monkeypatch, capsys):
    log = pd.read_csv("banners.csv").astype({"visitor": "Int64"})
    log.loc[[3, 5], "visitor"] = pd.NA
    log.to_csv("banners.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["nbo", "evaluate", "greedy", "--log", "banners.csv", "--recipe", "banners.toml"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert "2 rows have no visitor: each counts as a customer of its own" in capsys.readouterr().out


@pytest.mark.parametrize("command", re.findall(r"^\$ nbo (evaluate [^#\n]*?) *(?:#.*)?$", PAGE, re.MULTILINE))
def test_options_on_the_page_exist(shop, command, monkeypatch, capsys):
    """On a home that served nothing, all of them end in that sentence, and not in wrong usage."""
    if "--log" in command:
        return
    monkeypatch.setattr(sys, "argv", ["nbo", *shlex.split(command)])
    if "--release" in command:
        monkeypatch.setattr("serving.commands.evaluate._make_present", lambda *given: None)
        monkeypatch.setattr("serving.commands.evaluate._data_end_us", lambda *given: None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "nothing was served yet" in capsys.readouterr().err
