"""`nbo experiment report`: from a log to a verdict, with the exit codes that a cron job asks for."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from features.errors import ExperimentRefused, NotFound
from features.facts import Facts
from features.holdout import note_share
from features.home import Home
from serving.cli import app
from tests.conftest import NOW
from tests.serving.planted import START, plant, planted


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NBO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBO_AS_OF", NOW.isoformat())
    return Home(tmp_path / "home")


def report(*words, code=0, keep=False):
    done = CliRunner().invoke(app, ["experiment", "report", *words, *([] if keep else ["--no-keep"])])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_what_the_log_holds_becomes_a_report_in_every_format_and_a_run_of_mlflow(home, tmp_path):
    from training.tracking import EXPERIMENTS, tracking

    plant(home, planted())
    told = json.loads(report("sampling", "--segment", "known", "--out", str(tmp_path), "--json", keep=True))
    assert (told["verdict"]["decision"], told["n_units"], told["alarmed"]) == ("ship", 400, False)
    text = (tmp_path / "experiment-sampling.md").read_text()
    assert text.startswith("# Experiment sampling\n\nSampling sells more.\n\n**Ship on**\n")
    assert "Units: **400** (of 400 planned)" in text
    assert "### known" in text
    assert (tmp_path / "experiment-sampling.html").read_text().startswith("<!doctype html>")
    with tracking(home) as client:
        (run,) = client.search_runs([client.get_experiment_by_name(EXPERIMENTS).experiment_id])
        files = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert run.data.tags["releases"] == "champion, 2"
    assert run.data.tags["verdict"] == "ship"
    assert run.data.metrics["revenue_per_customer.on.change"] > 0.5
    assert files == {"report.html", "report.md", "report.json", "pictures"}


def test_a_lost_part_of_a_variant_ends_with_exit_code_3(home):
    plant(home, planted(started_at=NOW - timedelta(days=2)), share=0.3)
    assert "**Do not trust**" in report("sampling", code=3)


def test_harm_of_the_primary_metric_ends_with_exit_code_3(home):
    plant(home, planted(guardrails=()), lift=-0.6)
    assert "**Stop on**" in report("sampling", code=3)


def test_a_draft_an_unknown_id_and_an_unknown_segment_are_refused(home):
    plant(home, planted(status="draft", started_at=None, phases=()), n=3)
    with pytest.raises(ExperimentRefused, match="sampling is a draft"):
        report("sampling")
    with pytest.raises(NotFound):
        report("other")
    with pytest.raises(ExperimentRefused, match=r"nobody was ever held out; the setting experiments\.holdout"):
        report("holdout")
    report("sampling", "--json", "--format", "html", code=2)


def test_the_holdout_is_reported_like_an_experiment(home):
    plant(home, planted(), n=3)
    facts = Facts(home.facts_db)
    note_share(facts, 0.1, START)
    facts.close()
    assert report("holdout").startswith("# The global holdout\n")
