"""`nbo train --search` on the command line: what is wrong usage, and what it asks of training."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from serving import cli
from serving.commands import train
from training.pipeline import ModelReport, TrainReport


def nbo(*words: str):
    return CliRunner().invoke(cli.app, ["train", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "10m"), "--search"),
        (("--jobs", "2"), "--search"),
        (("--resume",), "--search"),
        (("recommender", "--search", "--budget", "ten"), "no time"),
        (("recommender", "--search", "--budget", "-5m"), "no time"),
        (("recommender", "--search", "--budget", "0s"), "expected from"),
        (("recommender", "--search", "--jobs", "0"), "0 jobs"),
        (("churn", "--search"), "nothing to search"),
        (("acceptance", "--search"), "nothing to search"),
    ],
)
def test_wrong_usage_of_a_search_is_exit_code_2_with_what_was_expected(monkeypatch, words, said):
    monkeypatch.setattr(train, "run", lambda *_, **__: pytest.fail("it was begun"))
    done = nbo(*words)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("--search",), (600.0, 2, False)),
        (("recommender", "--search", "--budget", "90s", "--jobs", "3", "--resume"), (90.0, 3, True)),
    ],
)
def test_a_search_is_asked_for_as_the_options_say(monkeypatch, words, asked):
    given = []
    monkeypatch.setattr(train, "run", lambda which, **options: given.append(options["search"]))
    assert nbo(*words).exit_code == 0
    assert [(search.budget_s, search.jobs, search.resume) for search in given] == [asked]


def test_without_search_nothing_is_searched(monkeypatch):
    given = []
    monkeypatch.setattr(train, "run", lambda which, **options: given.append(options["search"]))
    assert nbo("recommender").exit_code == 0
    assert given == [None]


def test_a_model_trained_before_there_is_a_recommender_makes_no_release_and_says_what_does(monkeypatch, tmp_path):
    report = TrainReport((ModelReport("churn", None, "no purchases"),), None, False, "digest", "2026-03-01", 1.0)
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    monkeypatch.setattr("training.pipeline.train", lambda *asked, **options: report)
    said = nbo("churn").output
    assert "no release was made: one needs a recommender, and none was ever trained." in said
    assert "`nbo train recommender` makes one" in said
    assert json.loads(nbo("churn", "--json").output)["release"] is None
