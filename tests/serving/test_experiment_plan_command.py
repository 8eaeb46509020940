"""`nbo experiment plan`: units and days of a file's or the catalogue's experiment, from a log with visitors."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from features.errors import NotFound
from features.home import Home
from serving.cli import app
from tests.conftest import NOW
from tests.serving.planted import DAYS, plant, planted

FILE = """
experiments:
  - experiment_id: dearer
    hypothesis: dearer
    traffic: 0.5
    variants: [{name: control, weight: 0.5, is_control: true}, {name: "on", weight: 0.5}]
    primary_metric: revenue_per_customer
    guardrails: [{metric: opt_out_rate, max_relative: 0.5}]
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """900 customers, a hundred new ones on each day of the last nine, each of whom buys once."""
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", NOW.isoformat())
    found = Home(tmp_path / "home")
    plant(found, planted(status="draft", started_at=None, phases=()), n=100 * DAYS)
    return found


def plan(*words, code=0):
    done = CliRunner().invoke(app, ["experiment", "plan", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_a_draft_and_a_file_are_planned_from_the_same_visitors(home, tmp_path):
    path = tmp_path / "dearer.yaml"
    path.write_text(FILE)
    (drafted,) = json.loads(plan("sampling", "--json"))["experiments"]
    (filed,) = json.loads(plan(str(path), "--json"))["experiments"]
    assert [(one["metric"], one["relative"]) for one in drafted["plans"][:2]] == [
        ("revenue_per_customer", 0.01),
        ("revenue_per_customer", 0.02),
    ]
    units = [one["n_units"] for one in drafted["plans"] if one["metric"] == "revenue_per_customer"]
    assert units == sorted(units, reverse=True)
    assert [one["n_units"] for one in filed["plans"]][:5] == units
    days, slower = (one["plans"][0]["days"] for one in (drafted, filed))
    assert slower == pytest.approx(2 * days, rel=0.15)  # half the traffic; the first weeks had no visitors


def test_it_says_in_words_what_each_metric_takes_and_what_is_not_known(home):
    told = plan("sampling", "--change", "0.1").splitlines()
    assert told[1] == "revenue_per_customer (decides: planned_units is of this one)"
    assert " units  " in told[2]
    assert told[2].split()[0] == "+10%"
    assert told[3:] == [
        "opt_out_rate",
        "      +10%  not known: the metric's mean is not above 0: a relative change means nothing",
    ]


def test_more_power_takes_more_units(home):
    less, more = (
        json.loads(plan("sampling", "--change", "0.1", "--power", power, "--json"))["experiments"][0]["plans"][0]
        for power in ("0.8", "0.95")
    )
    assert more["n_units"] > 1.4 * less["n_units"]  # (1.96 + 1.64)^2 / (1.96 + 0.84)^2 is 1.65


@pytest.mark.parametrize(
    "words", [("--change", "0"), ("--change", "-1"), ("--change", "nan"), ("--change", "inf"), ("--power", "1")]
)
def test_changes_and_powers_that_cannot_be_planned_are_wrong_usage(home, words):
    plan("sampling", *words, code=2)


def test_a_name_of_nothing_and_a_file_without_experiments_are_refused(home, tmp_path):
    with pytest.raises(NotFound):
        plan("other")
    plan("other.yaml", code=2)
    (tmp_path / "offers.yaml").write_text("offers: []\n")
    plan(str(tmp_path / "offers.yaml"), code=2)
