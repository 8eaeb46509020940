"""MLflow on files under NBO_HOME: one database, opened quietly, and one way to log a fitted model."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from features.home import Home

MODELS = ("recommender", "acceptance", "churn")
RELEASE = "release"
EXPERIMENTS = "experiments"  # MLflow's experiment that holds the reports of ours
DISTRIBUTION = "next-best-offer"


@dataclass(frozen=True)
class Logged:
    """What one run keeps. Frames become JSON tables, figures PNG files, `files` the registered artefact, and `texts`
    files of the run itself, by path.
    """

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # metric by step
    texts: Mapping[str, str] = field(default_factory=dict)
    example: pd.DataFrame | None = None
    output: Any = None  # what the model gives for the example


@contextmanager
def tracking(home: Home) -> Iterator[Any]:
    """An MlflowClient on this home. The first one makes the database, which takes some seconds."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    home.mlflow.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow  # before its loggers are hushed: importing sets their levels
    with warnings.catch_warnings(), _quiet("mlflow", "alembic", "py.warnings"):
        warnings.simplefilter("ignore")
        address = f"sqlite:///{(home.mlflow / 'mlflow.db').resolve()}"
        before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        try:
            with (home.mlflow / ".lock").open("w") as lock:  # two first starts at once would migrate over each other
                fcntl.flock(lock, fcntl.LOCK_EX)
                client = mlflow.MlflowClient()
                for name in (*MODELS, RELEASE, EXPERIMENTS):
                    if client.get_experiment_by_name(name) is None:
                        client.create_experiment(
                            name, artifact_location=(home.mlflow / "artifacts" / name).resolve().as_uri()
                        )
            yield client
        finally:
            mlflow.set_tracking_uri(before[0])
            mlflow.set_registry_uri(before[1])


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Only errors of these loggers pass."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def log_model(client: Any, name: str, what: Logged) -> str:
    """One run of experiment `name` and one version of the registered model `name`; the version's number."""
    import mlflow

    ensure_registered(client, name)
    experiment = client.get_experiment_by_name(name)
    with tempfile.TemporaryDirectory() as scratch, mlflow.start_run(experiment_id=experiment.experiment_id) as run:
        folder = Path(scratch) / "scorer"
        for path, body in what.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        mlflow.set_tags({**what.tags, "code_version": code_version()})
        mlflow.log_params({key: str(value) for key, value in what.params.items()})
        mlflow.log_metrics({key: float(value) for key, value in what.metrics.items()})
        for metric, values in what.curves.items():
            for step, value in enumerate(values):
                mlflow.log_metric(metric, float(value), step=step)
        for title, frame in what.tables.items():
            mlflow.log_text(frame.to_json(orient="records", indent=1), f"tables/{title}.json")
        for title, figure in what.figures.items():
            mlflow.log_figure(figure, f"pictures/{title}.png")
        for path, text in what.texts.items():
            mlflow.log_text(text, path)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"scorer": str(folder)},
            signature=mlflow.models.infer_signature(what.example, what.output),
            input_example=what.example,
            pip_requirements=[f"{DISTRIBUTION}=={version(DISTRIBUTION)}"],
        )
        made = client.create_model_version(name, info.model_uri, run.info.run_id, tags=dict(what.tags))
    return str(made.version)


def log_report(
    client: Any,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Mapping[str, bytes],
    among: str = RELEASE,
) -> str:
    """A report as a run, its files as artefacts; the run's id. `among` is MLflow's experiment: beside the releases."""
    import mlflow

    experiment = client.get_experiment_by_name(among)
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow.start_run(experiment_id=experiment.experiment_id, run_name=name) as run,
    ):
        mlflow.set_tags({**tags, "code_version": code_version()})
        mlflow.log_metrics(dict(metrics))
        for path, body in files.items():
            (Path(scratch) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(scratch) / path).write_bytes(body)
        mlflow.log_artifacts(scratch)
    return str(run.info.run_id)


def ensure_registered(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)


def files_of(client: Any, name: str, number: str) -> dict[str, bytes]:
    """The registered artefact of a version, as `log_model` was given it."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(download_artifacts(f"models:/{name}/{number}", dst_path=scratch)) / "artifacts" / "scorer"
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def code_version() -> str:
    """The commit of this checkout, with `+changes` if it has any, or the version of the installed package."""
    here = Path(__file__).resolve().parent.parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"


def _git(folder: Path, *arguments: str) -> str:
    if not (folder / ".git").exists():
        raise FileNotFoundError(folder / ".git")
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
