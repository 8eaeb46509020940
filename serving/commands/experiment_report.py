"""`nbo experiment report`: what an experiment has shown, from the log as it is now to a verdict, as a document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path

from experiments.report.document import Document
from experiments.report.experiment_report import ExperimentReport, document_of, report_of
from experiments.report.render import as_files
from features.facts import Facts
from features.home import Home
from serving.commands.documents import CROSSED, hand_over, wanted_format
from serving.report_aside import reportable
from serving.settings import Settings, load_settings


def run(
    experiment_id: str,
    *,
    out: Path | None = None,
    format: str | None = None,
    segments: Sequence[str] = (),
    as_json: bool = False,
    keep: bool = True,
) -> int:
    """Prints or writes the report. Exit code 3 with an alarm, of harm too, or if it is not to be trusted; else 0."""
    wanted = wanted_format(out, format, as_json=as_json)
    settings = load_settings()
    report = made(settings.home, experiment_id, settings.now(), segments)
    document = document_of(report)
    hand_over(document, out, f"experiment-{experiment_id}", wanted, as_json=as_json)
    if keep:
        _keep(settings, report, document)
    return CROSSED if report.alarmed else 0


def made(
    home: Home, experiment_id: str, at: datetime, segments: Sequence[str] = (), *, n_threads: int = 2
) -> ExperimentReport:
    """The report as of `at`, of all that the log has received until now, which goes to the lake first.

    `NotFound`; `ExperimentRefused` for a draft; `BadInput` for a segment that does not exist.
    """
    from experiments.analysis import analyse
    from experiments.tables import open_tables
    from features.log_export import export
    from features.sqlite_log import SqliteLog

    with closing(Facts(home.facts_db)) as facts:
        experiment = reportable(facts, experiment_id)
        if home.log_db.exists():
            with closing(SqliteLog(home.log_db)) as log:
                export(home, facts, log, at)
        with open_tables(home, facts, n_threads=n_threads) as tables:
            found = analyse(experiment, tables, at, segments=segments)
        return report_of(experiment, found, facts.data_settings().currency)


def _keep(settings: Settings, report: ExperimentReport, document: Document) -> None:
    """As a run of MLflow, in the experiment `experiments`, tagged with the releases that were compared."""
    from training.tracking import EXPERIMENTS, log_report, tracking

    releases = [one.release or "champion" for one in report.experiment.variants]
    tags = {
        "kind": "experiment",
        "experiment": report.experiment_id,
        "verdict": report.verdict.decision,
        "alarmed": str(report.alarmed).lower(),
        "releases": ", ".join(dict.fromkeys(releases)),
        "status": report.experiment.status,
    }
    figures: dict[str, float | None] = {"units": report.n_units, "sample_ratio_p": report.sample_ratio.p_sequential}
    for metric in report.metrics:
        for effect in metric.effects:
            key = re.sub(r"[^\w .-]", "_", f"{metric.metric}.{effect.variant}")  # what MLflow takes
            figures |= {f"{key}.change": effect.relative, f"{key}.difference": effect.absolute}
            figures |= {f"{key}.p": effect.p_value}
    known = {name: float(value) for name, value in figures.items() if value is not None}
    with tracking(settings.home) as client:
        name = f"{report.experiment_id} {report.at:%Y-%m-%d %H:%M}"
        log_report(client, name, tags, known, as_files(document, "report"), EXPERIMENTS)
