"""A search from beginning to end: processes that try, one that watches the clock, and what was found."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections import Counter
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
    UNTIL,
    About,
    about_of,
    check_same,
    data_digest,
    fail,
    loaded,
    new_study,
    newest,
    offer,
    only_search,
    plain_in,
    storage_of,
    take_up,
    until_of,
)
from training.search.tracked import Tracked
from training.search.trial import ERROR, INTERVAL, WORKER, model_name, recipe_from
from training.search.worker import Task, n_asked, work

SHARE_OF_BUDGET = 0.25  # a model of which one trial is estimated to take more than this is not searched
JUDGED_AGAIN = 3  # of the best models, beside the baselines
POLL_S = 0.5
OUT_OF_TIME = "the budget was spent before it ended"
DIED = "its process died, as for lack of memory"
HOPELESS = "the median trial had been better so far"
ASK_S = 30.0  # in which a process that asked for a trial has written its number there
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
    left_out: Mapping[str, str]  # model -> why it was not tried
    ended_early: tuple[str, ...]  # a sentence for each model of which trials failed, were pruned, or are not varied
    mlflow_run: str
    seconds: float

    @property
    def n_trials(self) -> int:
        return self.n_complete + self.n_pruned + self.n_failed

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.sentence, *self.ended_early)

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
    plain: Sequence[Recipe],
    as_of_us: int,
    repeats: bool,
    seed: int,
    say: Say = lambda what: None,
) -> Found:
    """Try `plain`, which a training without a search tries, however long it takes, and more until the budget is spent.

    Every trial is in the study, and a run under one parent in MLflow.

    `BadInput` for a --resume without a study or of other data, `Conflict` while another search runs, `NotTrainable`
    when no trial came to an end.
    """
    started = time.time()
    models, dear = searched(validation, search, repeats=repeats)
    at_all = {recipe.model for recipe in plain}
    not_varied = [f"{name} was tried as it is, not varied: {why}." for name, why in dear.items() if name in at_all]
    left_out = {name: why for name, why in dear.items() if name not in at_all}
    about = About(data_digest(validation), as_of_us, seed, repeats, models)
    with only_search(home), storage_of(home.search) as storage:
        name = _begun(storage, about, plain, resume=search.resume)
        study = loaded(storage, name)
        models = about_of(study).models
        tracked = Tracked(client, study, validation)
        task = Task(
            home.search, name, validation, models, repeats, seed,
            max((os.cpu_count() or 1) // search.jobs, 1), os.getpid(), search.at_most,
        )  # fmt: skip
        try:
            _run(study, task, search, tracked, say)
        except BaseException:
            tracked.close("KILLED")
            raise
        return _found(study, tracked, left_out, not_varied, seed, repeats, started)


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


def _begun(storage: Any, about: About, plain: Sequence[Recipe], *, resume: bool) -> str:
    """The study's name: a new one, or the newest with what a crash left taken up."""
    name = newest(storage) if resume else None
    if name is None:
        return new_study(storage, about, plain)
    study = loaded(storage, name)
    check_same(name, about_of(study), about)
    take_up(study)
    offer(study, about_of(study), plain)
    return name


def _run(study: Any, task: Task, search: Search, tracked: Tracked, say: Say) -> None:
    """Processes until the time is up; one that dies is replaced, and its trial has failed.

    The time begins when all that a training without a search tries has begun, and such a trial may end after it.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[int, Any] = {}
    number, deaths = 0, 0
    study.set_user_attr(UNTIL, None)
    try:
        while deaths <= MOST_DEATHS and not _enough(study, task, workers):
            if study.user_attrs[UNTIL] is None and not plain_in(study, "WAITING"):
                study.set_user_attr(UNTIL, time.time() + search.budget_s)
            begins = time.time() < until_of(study)
            if not begins and not plain_in(study, "RUNNING"):
                break
            for which in [which for which, worker in workers.items() if not worker.is_alive()]:
                deaths = deaths + 1 if workers.pop(which).exitcode else 0
            _fail_orphans(study, workers)
            while begins and len(workers) < search.jobs:
                number += 1
                workers[number] = context.Process(target=work, args=(task, number), daemon=True)
                workers[number].start()
            say(_progress(study))
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


def _fail_orphans(study: Any, workers: Mapping[int, Any]) -> None:
    """The trials of processes that died."""
    for trial in _running(study):
        asked = trial.datetime_start.timestamp()
        if trial.user_attrs.get(WORKER) not in workers and (WORKER in trial.user_attrs or time.time() > asked + ASK_S):
            fail(study, trial, DIED)


def _running(study: Any) -> Sequence[Any]:
    import optuna

    found: Sequence[Any] = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    return found


def _complete(study: Any) -> Sequence[Any]:
    """The trials that came to a figure."""
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state.name == "COMPLETE" and t.value is not None and t.value == t.value]


def _counts(study: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for trial in study.get_trials(deepcopy=False):
        found[trial.state.name] = found.get(trial.state.name, 0) + 1
    return found


def _progress(study: Any) -> str:
    counts = _counts(study)
    done = counts.get("COMPLETE", 0) + counts.get("PRUNED", 0) + counts.get("FAIL", 0)
    said = (
        f"search {study.study_name}: {done} trials ({counts.get('PRUNED', 0)} pruned, {counts.get('FAIL', 0)} failed)"
    )
    complete = _complete(study)
    if complete:
        best = max(complete, key=lambda trial: trial.value)
        said += f", best NDCG@10 {best.value:.4f} ({model_name(best)})"
    until = until_of(study)
    if until == math.inf:  # the clock does not run yet, also where the last of them began just now
        return f"{said}, {plain_in(study, 'WAITING')} defaults to begin before the budget"
    left = max(until - time.time(), 0.0)
    return f"{said}, {int(left // 60)}:{int(left % 60):02d} left"


def _found(
    study: Any,
    tracked: Tracked,
    left_out: Mapping[str, str],
    not_varied: Sequence[str],
    seed: int,
    repeats: bool,
    started: float,
) -> Found:
    counts = _counts(study)
    complete = _complete(study)
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
        ended_early=(*_ended_early(study), *not_varied),
        mlflow_run=tracked.run_id,
        seconds=time.time() - started,
    )
    tracked.conclude(found)
    return found


def _ended_early(study: Any) -> list[str]:
    """Of which models trials failed or were pruned, and why."""
    trials = study.get_trials(deepcopy=False)
    n_of = Counter(model_name(trial) for trial in trials if trial.state.name != "WAITING")
    why: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        if trial.state.name == "FAIL":
            why.setdefault((model_name(trial), "failed"), []).append(trial.user_attrs.get(ERROR, "of an unknown cause"))
        elif trial.state.name == "PRUNED":
            why.setdefault((model_name(trial), "pruned"), []).append(HOPELESS)
        elif trial.state.name == "WAITING":
            why.setdefault((model_name(trial), "not begun"), []).append("the search ended before")
    return [
        f"{name}: {len(of)}{'' if how == 'not begun' else f' of {n_of[name]}'} trials {how}; {of[-1].splitlines()[0]}."
        for (name, how), of in sorted(why.items())
    ]


def _nothing(study: Any, counts: Mapping[str, int]) -> str:
    errors = [t.user_attrs[ERROR] for t in study.get_trials(deepcopy=False) if ERROR in t.user_attrs]
    said = f", the last of {counts.get('FAIL', 0)} that failed: {errors[-1]}" if errors else ""
    return f"no trial of {study.study_name} came to an end{said}; --resume goes on, with a larger --budget"
