"""The report, the metrics and the command around what watching found."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from typer.testing import CliRunner

from experiments.report.render import render
from features.home import Home
from serving.admin import answer
from serving.cli import app
from serving.monitoring.document import document_of
from serving.monitoring.pictures import pictures
from serving.monitoring.prometheus import write_textfile
from tests.training.monitoring.planted import customers, seen
from training.monitoring.kept import Watched, keep
from training.monitoring.line import above, shown, unknown
from training.monitoring.thresholds import Thresholds
from training.monitoring.watch import judged, watched

NOW = datetime(2026, 3, 8, tzinfo=UTC)
LINES = (
    above("psi", "age", 0.3, 0.2, "PSI between training and now"),
    above("psi", "tier", 0.1, 0.2, "PSI between training and now"),
    shown("acceptance", 'greedy "fast"', 0.05, "1,000 first offers seen", low=0.04, high=0.06),
    unknown("calibration", "2", "no impression of the champion has a known outcome yet"),
)


def looked(*lines) -> Watched:
    return Watched(at=NOW, since=NOW, until=NOW, release="2", n_decisions=1_000, n_outcomes=0, lines=lines or LINES)


def test_the_report_says_what_crossed_what_is_unknown_and_every_figure():
    text = render(document_of(looked(), None), "md").decode()
    assert "**1 of 3 figures crossed their threshold**" in text
    assert "psi of age: 0.3 against 0.2" in text
    assert "calibration of 2: no impression of the champion has a known outcome yet" in text
    assert "0.04 … 0.06" in text
    calm = render(document_of(looked(*LINES[1:]), None), "md").decode()
    assert "**No threshold was crossed**" in calm


def test_the_figures_for_machines_are_what_was_seen():
    body = render(document_of(looked(), None), "json")
    assert msgspec.json.decode(body, type=Watched) == looked()


def test_what_moved_is_drawn_and_so_are_promises_and_acceptance():
    what = seen(features=customers(1_000, age=55.0))
    found = watched(what, judged(what, Thresholds()), NOW)
    drawn = pictures(what, found.lines)
    assert list(drawn) == ["Drift of features", "Drift of predictions", "Matured outcomes", "Acceptance by policy"]
    assert drawn["Drift of features"][0].alt.startswith("Stability index by feature: age ")
    page = render(document_of(found, what), "html").decode()
    assert page.count("<svg") == 4


def test_prometheus_reads_figures_thresholds_and_what_crossed(tmp_path):
    home = Home(tmp_path)
    keep(home, looked())
    text = answer("/metrics", "", [], 1, home).body.decode()
    assert 'nbo_monitor_figure{check="psi",of="age"} 0.3' in text
    assert 'nbo_monitor_threshold{check="psi",of="tier"} 0.2' in text
    assert 'nbo_monitor_crossed{check="psi",of="age"} 1.0' in text
    assert 'nbo_monitor_crossed{check="psi",of="tier"} 0.0' in text
    assert 'of="greedy \\"fast\\""' in text
    assert "nbo_monitor_unknown 1.0" in text
    assert "nbo_workers" in text


def test_where_nobody_watched_prometheus_has_nothing_of_it(tmp_path):
    assert "nbo_monitor" not in answer("/metrics", "", [], 1, Home(tmp_path)).body.decode()


def test_the_node_exporters_file_is_whole(tmp_path):
    write_textfile(tmp_path / "nbo.prom", looked(), NOW.timestamp() + 60)
    text = (tmp_path / "nbo.prom").read_text()
    assert "nbo_monitor_age_seconds 60.0" in text
    assert list(tmp_path.iterdir()) == [tmp_path / "nbo.prom"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the lake holds no events"),
        (("--since", "soon"), "since is 'soon', expected such as 7d"),
        (("--prometheus", "nowhere/nbo.prom"), "whose folder does not exist"),
        (("--format", "pdf"), "expected one of html, md, json"),
    ],
)
def test_what_cannot_be_watched_is_said_by_its_name(tmp_path, monkeypatch, arguments, said):
    monkeypatch.setenv("NBO_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["monitor", *arguments])
    assert done.exit_code != 0
    assert said in f"{done.exception} {done.output}".replace("\n", " ")
    assert not (tmp_path / "monitor.json").exists()
