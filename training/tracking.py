"""MLflow on files under NBO_HOME: one database, opened quietly, and one way to log a fitted model."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from features.home import Home

MODELS = ("recommender", "acceptance", "churn")
RELEASE = "release"
TRAINING = "training"  # MLflow's experiment of trainings, the models of each nested in it
EXPERIMENTS = "experiments"  # MLflow's experiment that holds the reports of ours
DISTRIBUTION = "next-best-offer"
CARD = "card.md"
RUN_NAME = "mlflow.runName"
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # so that the interface shows what is for it
DIGEST = 36  # characters of a digest that MLflow has room for
TOP = 10  # offers that a recommender names where a data frame does not say how many


@dataclass(frozen=True, slots=True)
class Data:
    """What a model was trained on, as MLflow lists it."""

    name: str
    digest: str
    source: str  # where it is
    n_rows: int
    period: tuple[str, str]  # first and last instant


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
    example: pd.DataFrame | None = None  # rows as the model reads them
    output: Any = None  # what the model gives for the example
    card: str = ""  # Markdown: what the model is, from what, how good, and where not to use it
    description: str = ""  # the same in fewer words
    optional: tuple[str, ...] = ()  # columns that the model reads where they are there
    data: Data | None = None


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
                for name in (*MODELS, TRAINING, RELEASE, EXPERIMENTS):
                    if client.get_experiment_by_name(name) is None:
                        client.create_experiment(
                            name,
                            artifact_location=(home.mlflow / "artifacts" / name).resolve().as_uri(),
                            tags=MODEL_TRAINING,
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


class TrainingRun:
    """One training as a run, the runs of its models nested in it.

    It is there from its first model on: a training that finds nothing to learn from leaves none.
    """

    def __init__(
        self, client: Any, name: str, tags: Mapping[str, str], params: Mapping[str, Any], data: Data | None = None
    ) -> None:
        self.name, self._data = name, data
        self._client, self._tags, self._params = client, tags, params
        self._began_ms = int(time.time() * 1000)
        self.experiment_id: str = client.get_experiment_by_name(TRAINING).experiment_id
        self.began: str | None = None  # the run's id, once there is one

    @property
    def run_id(self) -> str:
        """Makes the run where there is none yet."""
        if self.began is None:
            from mlflow.entities import Param

            tags = {**self._tags, RUN_NAME: self.name, "kind": "training", "code_version": code_version()}
            run = self._client.create_run(self.experiment_id, start_time=self._began_ms, tags=tags)
            self.began = str(run.info.run_id)
            params = [Param(key, str(value)) for key, value in self._params.items()]
            self._client.log_batch(self.began, params=params)
            if self._data is not None:
                _log_data(self._client, self.began, self._data)
        return self.began

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.began is not None:
            self._client.set_terminated(self.began, "FINISHED" if kind is None else "FAILED")

    def summarise(self, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """What came of it, once its models are registered; nothing where there is no run."""
        if self.began is None:
            return
        from mlflow.entities import Metric, RunTag

        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self.began,
            metrics=[Metric(key, float(value), now_ms, 0) for key, value in metrics.items()],
            tags=[RunTag(key, text) for key, text in tags.items()],
        )


def log_model(client: Any, name: str, what: Logged, within: TrainingRun | None = None) -> str:
    """One run, nested in that of the training, and one version of the registered model `name`; the version's number."""
    import mlflow

    ensure_registered(client, name)
    if within is None:
        experiment, parent = client.get_experiment_by_name(name).experiment_id, None
    else:
        experiment, parent = within.experiment_id, within.run_id
    title = f"{name}: {what.params['chosen']}" if "chosen" in what.params else name
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow.start_run(
            experiment_id=experiment, run_name=title, parent_run_id=parent, nested=parent is not None
        ) as run,
    ):
        folder = Path(scratch) / "scorer"
        for path, body in what.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(body)
        mlflow.set_tags({**what.tags, "model": name, "kind": "model", "code_version": code_version()})
        mlflow.log_params({key: str(value) for key, value in what.params.items()})
        mlflow.log_metrics({key: float(value) for key, value in what.metrics.items()})
        log_curves(client, run.info.run_id, what.curves)
        for table, frame in what.tables.items():
            mlflow.log_text(frame.to_json(orient="records", indent=1), f"tables/{table}.json")
        for picture, figure in what.figures.items():
            mlflow.log_figure(figure, f"pictures/{picture}.png")
        for path, text in {**what.texts, **({CARD: what.card} if what.card else {})}.items():
            mlflow.log_text(text, path)
        if what.description:
            mlflow.set_tag("mlflow.note.content", what.description)
        if what.data is not None:
            _log_data(client, run.info.run_id, what.data)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"scorer": str(folder)},
            signature=signature_of(name, what),
            input_example=what.example,
            pip_requirements=[f"{DISTRIBUTION}=={version(DISTRIBUTION)}"],
        )
        tags = {**what.tags, "training_run": parent} if parent is not None else dict(what.tags)
        made = client.create_model_version(
            name, info.model_uri, run.info.run_id, tags=tags, description=what.description or None
        )
    return str(made.version)


def signature_of(name: str, what: Logged) -> Any:
    """Of the example, None without one: its columns are required, beside them is what may be there."""
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    if what.example is None:
        return None
    params = {"k": TOP} if name == "recommender" else None
    found = infer_signature(what.example, what.output, params)
    required = [one for one in found.inputs.inputs if one.name not in what.optional]
    required = [ColSpec(_type_of(what.example[one.name]), one.name) for one in required]
    beside = [ColSpec(AnyType(), one, required=False) for one in what.optional]
    return ModelSignature(Schema([*required, *beside]), found.outputs, found.params)


def _type_of(values: pd.Series[Any]) -> str:
    """A column may be missing in the example's rows and yet be of its kind."""
    return "double" if values.dtype.kind in "fiub" else "string"


def log_curves(client: Any, run_id: str, curves: Mapping[str, Sequence[float]]) -> None:
    """All at once: a transaction for each of some hundred points took longer than a small model's fit."""
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    points = [
        Metric(name, float(value), now_ms, step) for name, values in curves.items() for step, value in enumerate(values)
    ]
    if points:
        client.log_batch(run_id, metrics=points)


def _log_data(client: Any, run_id: str, data: Data) -> None:
    """As a dataset of the run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = {"num_rows": data.n_rows, "first": data.period[0], "last": data.period[1], "digest": data.digest}
    dataset = Dataset(
        data.name, data.digest[:DIGEST], "local", json.dumps({"uri": data.source}), profile=json.dumps(profile)
    )
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


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
