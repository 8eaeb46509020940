"""A search from beginning to end: processes that try, one that watches the clock, and what was found."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.errors import NotTrainable
from features.home import Home
from training.evaluation.validation import Validation
from training.models import RECOMMENDERS
from training.models.recipes import BASELINES, Recipe, Size, estimated_s, recipe_of
from training.search.budget import Search
from training.search.study import (
    About,
    about_of,
    check_same,
    data_digest,
    fail,
    loaded,
    new_study,
    newest,
    only_search,
    storage_of,
    take_up,
)
from training.search.tracked import Tracked
from training.search.trial import ERROR, INTERVAL, recipe_from
from training.search.worker import Task, n_asked, work

SHARE_OF_BUDGET = 0.25  # a model of which one trial is estimated to take more than this is not searched
JUDGED_AGAIN = 3  # of the best models, beside the baselines
POLL_S = 0.5
OUT_OF_TIME = "the budget was spent before it ended"
MOST_DEATHS = 3  # of processes in a row without a trial that ended

Say = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    study: str
    recipes: tuple[Recipe, ...]  # popularity, the baselines and the best models, each at the best that was tried
    best: Recipe
    figure: float  # NDCG@10 of the best over the windows
    low: float
    high: float
    n_complete: int
    n_pruned: int
    n_failed: int
    left_out: Mapping[str, str]  # model -> why it was not searched
    mlflow_run: str
    seconds: float

    @property
    def n_trials(self) -> int:
        return self.n_complete + self.n_pruned + self.n_failed

    @property
    def sentence(self) -> str:
        return (
            f"{self.study}: {self.n_trials} trials ({self.n_pruned} pruned, {self.n_failed} failed) in "
            f"{self.seconds:,.0f} s; the best on the validation windows is {self.best.model}, NDCG@10 "
            f"{self.figure:.4f} [{self.low:.4f}, {self.high:.4f}], which is flattered by having been chosen."
        )


def search_recipes(
    home: Home,
    client: Any,
    validation: Validation,
    search: Search,
    *,
    as_of_us: int,
    repeats: bool,
    seed: int,
    say: Say = lambda what: None,
) -> Found:
    """Try until the budget is spent; every trial is in the study, and a run under one parent in MLflow.

    `BadInput` for a --resume without a study or of other data, `Conflict` while another search runs, `NotTrainable`
    when no trial came to an end.
    """
    started = time.time()
    models, left_out = searched(validation, search, repeats=repeats)
    about = About(data_digest(validation), as_of_us, seed, repeats, models)
    with only_search(home), storage_of(home.search) as storage:
        name = _begun(storage, about, resume=search.resume)
        study = loaded(storage, name)
        models = about_of(study).models
        tracked = Tracked(client, study, validation)
        task = Task(
            home.search, name, validation, models, repeats, seed, started + search.budget_s,
            max((os.cpu_count() or 1) // search.jobs, 1), os.getpid(), search.at_most,
        )  # fmt: skip
        try:
            _run(study, task, search, tracked, say)
        except BaseException:
            tracked.close("KILLED")
            raise
        return _found(study, tracked, left_out, seed, repeats, started)


def searched(validation: Validation, search: Search, *, repeats: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    """The models that are searched, the cheap ones first, and why others are not."""
    size = Size.of(validation.judged[0].past)
    at_most = search.budget_s * SHARE_OF_BUDGET / len(validation.windows)
    wanted = [name for name, model in RECOMMENDERS.items() if model.needs != "repeats" or repeats]
    left_out = {
        name: f"a fit would take an estimated {estimated_s(name, size):,.0f} s, too much of {search.budget_s:,.0f} s"
        for name in wanted
        if estimated_s(name, size) > at_most and name not in BASELINES
    }
    kept = [name for name in wanted if name not in left_out]
    return tuple(sorted(kept, key=lambda name: estimated_s(name, size))), left_out


def _begun(storage: Any, about: About, *, resume: bool) -> str:
    """The study's name: a new one, or the newest with what a crash left taken up."""
    name = newest(storage) if resume else None
    if name is None:
        return new_study(storage, about)
    study = loaded(storage, name)
    check_same(name, about_of(study), about)
    take_up(study)
    return name


def _run(study: Any, task: Task, search: Search, tracked: Tracked, say: Say) -> None:
    """Processes until the time is up; one that dies is replaced, and its trial has failed."""
    context = multiprocessing.get_context("spawn")
    workers: dict[int, Any] = {}
    number, deaths = 0, 0
    try:
        while time.time() < task.until and deaths <= MOST_DEATHS and not _enough(study, task, workers):
            for which in [which for which, worker in workers.items() if not worker.is_alive()]:
                deaths = deaths + 1 if workers.pop(which).exitcode else 0
            while len(workers) < search.jobs:
                number += 1
                workers[number] = context.Process(target=work, args=(task, number), daemon=True)
                workers[number].start()
            say(_progress(study, task))
            tracked.follow()
            time.sleep(POLL_S)
        patience = time.time() + min(max(0.1 * search.budget_s, 2.0), 60.0)
        for worker in workers.values():
            worker.join(max(patience - time.time(), 0.0))
    finally:
        for worker in workers.values():
            if worker.is_alive():
                worker.kill()
            worker.join()
            worker.close()
    for trial in _running(study):
        fail(study, trial, OUT_OF_TIME)
    tracked.follow()


def _enough(study: Any, task: Task, workers: Mapping[int, Any]) -> bool:
    """Whether as many trials as were wanted have been begun, and nobody is at one any more."""
    if task.at_most is None or n_asked(study.get_trials(deepcopy=False)) < task.at_most:
        return False
    return not any(worker.is_alive() for worker in workers.values())


def _running(study: Any) -> Sequence[Any]:
    import optuna

    found: Sequence[Any] = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return found


def _counts(study: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for trial in study.get_trials(deepcopy=False):
        found[trial.state.name] = found.get(trial.state.name, 0) + 1
    return found


def _progress(study: Any, task: Task) -> str:
    counts = _counts(study)
    left = max(task.until - time.time(), 0.0)
    done = counts.get("COMPLETE", 0) + counts.get("PRUNED", 0) + counts.get("FAIL", 0)
    said = (
        f"search {study.study_name}: {done} trials ({counts.get('PRUNED', 0)} pruned, {counts.get('FAIL', 0)} failed)"
    )
    if counts.get("COMPLETE"):
        best = study.best_trial
        said += f", best NDCG@10 {best.value:.4f} ({recipe_from(best).model})"
    return f"{said}, {int(left // 60)}:{int(left % 60):02d} left"


def _found(
    study: Any, tracked: Tracked, left_out: Mapping[str, str], seed: int, repeats: bool, started: float
) -> Found:
    counts = _counts(study)
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE" and t.value == t.value]
    if not complete:
        tracked.close("FAILED")
        raise NotTrainable("recommender", _nothing(study, counts))
    best_of: dict[str, Any] = {}
    for trial in sorted(complete, key=lambda t: (-t.value, t.number)):
        best_of.setdefault(recipe_from(trial).model, trial)
    ordered = list(best_of)
    kept = [name for name in RECOMMENDERS if name in BASELINES and name in best_of]
    kept += [name for name in ordered if name not in kept][:JUDGED_AGAIN]
    recipes = [recipe_from(best_of[name]) for name in kept]
    if "popularity" not in best_of:
        recipes.insert(0, recipe_of(RECOMMENDERS["popularity"], {}, repeats=repeats, seed=seed))
    best = best_of[ordered[0]]
    low, high = best.user_attrs[INTERVAL]
    found = Found(
        study=study.study_name,
        recipes=tuple(recipes),
        best=recipe_from(best),
        figure=float(best.value),
        low=float(low),
        high=float(high),
        n_complete=counts.get("COMPLETE", 0),
        n_pruned=counts.get("PRUNED", 0),
        n_failed=counts.get("FAIL", 0),
        left_out=left_out,
        mlflow_run=tracked.run_id,
        seconds=time.time() - started,
    )
    tracked.conclude(found)
    return found


def _nothing(study: Any, counts: Mapping[str, int]) -> str:
    errors = [t.user_attrs[ERROR] for t in study.get_trials(deepcopy=False) if ERROR in t.user_attrs]
    said = f", the last of {counts.get('FAIL', 0)} that failed: {errors[-1]}" if errors else ""
    return f"no trial of {study.study_name} came to an end{said}; --resume goes on, with a larger --budget"
