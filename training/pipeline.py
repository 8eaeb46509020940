"""Training from lake and features to registered versions: read, split, fit, judge, log, pin as a release."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

from features.errors import BadInput, NotTrainable
from features.events import from_us
from features.facts import Facts
from features.home import Home
from training.cards import card, description
from training.dataset import read_interactions
from training.interactions import Interactions
from training.models.classifier_fit import ClassifierFit
from training.models.recipes import Recipe
from training.models.recommender import RecommenderFit
from training.search import Found, Search, resumable
from training.steps import acceptance, churn, recommender, uplift
from training.steps.inputs import Inputs, Progress, read_inputs
from training.steps.kept import logged
from training.steps.release import pin_release
from training.tracking import MODELS, RUN_NAME, Data, Logged, TrainingRun, code_version, log_model, tracking

FIGURES = ("ndcg_at_10", "recall_at_10", "auc", "log_loss", "brier", "ece")  # of models, shown for a training

Which = Literal["recommender", "acceptance", "churn", "all"]


@dataclass(frozen=True)
class ModelReport:
    """What became of one model. `version` is None where it was not trained."""

    name: str
    version: str | None
    chosen: str | None = None
    verdict: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    not_trainable: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()  # what a reader must know, one sentence each


@dataclass(frozen=True)
class TrainReport:
    """What one training did; `release` is None when a single model was trained before there was a recommender."""

    models: tuple[ModelReport, ...]
    release: str | None
    calibrated: bool
    data_digest: str
    as_of: str
    seconds: float


def train(
    home: Home,
    facts: Facts,
    which: Which = "all",
    *,
    as_of: datetime,
    seed: int = 0,
    progress: Progress = lambda what: None,
    search: Search | None = None,
) -> TrainReport:
    """Fit, judge on a later part, log and register as challenger; a release pins them.

    Trained alone, a model is released with the newest versions of the others. `NotTrainable` if the recommender, or
    the one model asked for, cannot be trained; with `all` the others are left out of the release and the report says
    why. With `search` the recommender is searched for first; a search that goes on reads the log as of its beginning.
    """
    if which not in (*MODELS, "all"):
        raise BadInput(f"{which!r} is not a model; expected one of {', '.join(MODELS)} or all", "which")
    began = time.perf_counter()
    if search is not None and which not in ("recommender", "all"):
        raise BadInput(f"there is nothing to search for {which}; expected recommender or all", "search")
    if search is not None and search.resume:
        before = resumable(home)
        as_of, seed = from_us(before.as_of_us), before.seed
    progress("reading the log")
    inputs = read_inputs(home, facts, as_of, seed)
    reports: list[ModelReport] = []
    data, command = data_of(inputs), _command(which, seed, search is not None)
    with tracking(home) as client, _run(client, inputs, data, which) as within:

        def register(name: str, kept: Logged) -> str:
            progress(f"{name}: registering")
            page = card(name, kept, data, command, code_version())
            return log_model(client, name, replace(kept, data=data, card=page, description=description(page)), within)

        recipe: Recipe | None = None
        interactions = read_interactions(inputs.log, inputs.offers, inputs.settings)
        if which in ("recommender", "all"):
            started = time.perf_counter()
            found: Found | None = None
            if search is None:
                fit = recommender.learn_from_log(inputs, interactions, progress)
            else:
                fit, found = recommender.search_from_log(inputs, interactions, search, client, progress)
            recipe = fit.recipe
            number = register("recommender", recommender.logged(fit, inputs, found))
            reports.append(_report("recommender", number, fit, started, () if found is None else found.notes))
        if which in ("acceptance", "all"):
            known = recipe or recommender.registered_recipe(client)
            reports.append(
                _classifier(register, "acceptance", which, partial(_acceptance, inputs, interactions, known, progress))
            )
        if which in ("churn", "all"):
            reports.append(_classifier(register, "churn", which, partial(_churn, inputs, progress)))
        progress("registering the release")
        versions = {report.name: report.version for report in reports}
        missing = {report.name: report.not_trainable for report in reports if report.not_trainable is not None}
        within.summarise(*summary(reports))
        release, calibrated = pin_release(client, inputs, versions, missing, within.began)
        within.summarise(
            {}, {} if release is None else {"release": release, RUN_NAME: f"release {release} ({within.name})"}
        )
    return TrainReport(
        tuple(reports), release, calibrated, inputs.log.digest, as_of.isoformat(), time.perf_counter() - began
    )


def data_of(inputs: Inputs) -> Data:
    """The log as of its end."""
    found = inputs.log.frame("SELECT count(*) AS n, min(us) AS first_us, max(us) AS last_us FROM events").iloc[0]
    instants = (int(found["first_us"]), int(found["last_us"])) if found["n"] else (inputs.as_of_us, inputs.as_of_us)
    first, last = (from_us(us).isoformat(timespec="seconds") for us in instants)
    return Data("events", inputs.log.digest, str(inputs.home.lake.resolve()), int(found["n"]), (first, last))


def _command(which: Which, seed: int, searched: bool) -> str:
    return f"nbo train {which} --seed {seed}{' --search' if searched else ''}"


def _run(client: Any, inputs: Inputs, data: Data, which: Which) -> TrainingRun:
    """Named after the end of the data."""
    params = {"which": which, "n_events": data.n_rows, "data_from": data.period[0], "data_until": data.period[1]}
    return TrainingRun(client, data.period[1][:16].replace("T", " "), {**inputs.tags, "which": which}, params, data)


def summary(reports: Sequence[ModelReport]) -> tuple[dict[str, float], dict[str, str]]:
    """Of the run that holds them: figures under each model's name, and what was chosen or why there is none."""
    metrics = {
        f"{report.name}.{name}": report.metrics[name]
        for report in reports
        for figure in FIGURES
        for name in (figure, f"{figure}_low", f"{figure}_high")
        if name in report.metrics
    }
    tags = {report.name: report.chosen or f"not trained: {report.not_trainable}" for report in reports}
    return metrics, tags


def _acceptance(
    inputs: Inputs, interactions: Interactions, recipe: Recipe, progress: Progress
) -> tuple[ClassifierFit, Logged]:
    fit = acceptance.learn_from_log(inputs, interactions, recipe, progress)
    return fit, logged("acceptance", fit, inputs)


def _churn(inputs: Inputs, progress: Progress) -> tuple[ClassifierFit, Logged]:
    run = churn.learn_from_log(inputs, progress)
    known = uplift.learn_from_log(inputs, progress)
    return replace(run.fit, notes=(*run.fit.notes, known.note)), uplift.beside(run.logged(inputs), known)


def _classifier(
    register: Callable[[str, Logged], str],
    name: str,
    which: Which,
    learn: Callable[[], tuple[ClassifierFit, Logged]],
) -> ModelReport:
    started = time.perf_counter()
    try:
        fit, kept = learn()
    except NotTrainable as error:
        if which == name:
            raise
        return ModelReport(name, None, not_trainable=error.reason, seconds=time.perf_counter() - started)
    number = register(name, kept)
    return _report(name, number, fit, started)


def _report(
    name: str, number: str, fit: RecommenderFit | ClassifierFit, started: float, notes: tuple[str, ...] = ()
) -> ModelReport:
    seconds = time.perf_counter() - started
    return ModelReport(
        name, number, fit.chosen.name, fit.verdict, fit.metrics, seconds=seconds, notes=(*notes, *fit.notes)
    )
