"""The search for a recommender: budget, trials, failures, resuming after a kill, what MLflow shows, what is chosen."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from typing import Any

import optuna
import pytest

from features.data_settings import Recommender
from features.errors import BadInput, Conflict, NotTrainable
from features.home import Home
from tests.training.builders import interactions
from training.evaluation.validation import Validation
from training.models import RECOMMENDERS
from training.models.base import RecommenderModel
from training.models.recipes import Offered, Recipe
from training.models.recommender import cut, learn_from
from training.search import Search, resumable, search_recipes, seconds_of
from training.search.run import _ended_early, _fail_orphans, _progress, searched
from training.search.study import (
    About,
    about_of,
    data_digest,
    loaded,
    new_study,
    offer,
    only_search,
    plain_in,
    storage_of,
    take_up,
)
from training.search.trial import DEFAULTS, ERROR, MODEL, PLAIN, WORKER, recipe_from
from training.search.worker import Task, work
from training.tracking import tracking

RULES = Recommender(repeats=True, validation_days=10, test_days=10, weights={"accept": 1.0})
CHEAP = ("popularity", "recent_popularity", "own_frequency")


@pytest.fixture(scope="module")
def parts():
    log = interactions()
    return cut(log, lambda names, us: [{}] * len(names), RULES, int(log.occurred_us[-1]) + 1, 3)


@pytest.fixture
def begun(tmp_path, parts):
    """Begins a study, and gives the task to work on it in this process."""
    return lambda models, at_most: begin(tmp_path, parts, models, at_most)


def begin(folder, parts, models, at_most, plain=()):
    about = About(data_digest(parts.validation), 17, 5, True, models)
    with storage_of(folder) as storage:
        name = new_study(storage, about, plain)
    return Task(folder, name, parts.validation, models, True, 5, 1, at_most=at_most)


@pytest.fixture(scope="module")
def worked(tmp_path_factory, parts):
    """The trials of a study that was left after 5 and gone on with to 9."""
    task = begin(tmp_path_factory.mktemp("study"), parts, CHEAP, 5)
    work(task, 1)
    work(replace(task, at_most=9), 1)
    return trials(task)


def trials(task: Task) -> list[Any]:
    with storage_of(task.folder) as storage:
        return list(loaded(storage, task.study).trials)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120)])
def test_a_budget_is_a_number_and_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "-5m", "0s", "1e9h", "200h", "nan s", "5d"])
def test_a_wrong_budget_is_refused_with_what_was_expected(text):
    with pytest.raises(BadInput, match="expected") as caught:
        seconds_of(text)
    assert caught.value.field == "budget"


@pytest.mark.parametrize("jobs", [0, -1, 1000])
def test_a_wrong_number_of_processes_is_refused(jobs):
    with pytest.raises(BadInput, match="jobs"):
        Search(jobs=jobs)


def test_every_model_is_tried_as_it_is_before_any_is_varied(worked):
    assert [t.params[MODEL] for t in worked[:3]] == list(CHEAP)
    assert all(t.user_attrs[DEFAULTS] for t in worked[:3])
    assert [t.state.name for t in worked[:3]] == ["COMPLETE"] * 3
    assert recipe_from(worked[0]) == Recipe("popularity", {**RECOMMENDERS["popularity"].defaults, "repeats": True}, 5)
    for trial in worked:
        if trial.state.name == "COMPLETE":
            low, high = trial.user_attrs["interval"]
            assert low <= trial.value <= high
            assert len(trial.user_attrs["by_window"]) == 2  # a third window would leave too little before it


def test_two_trials_are_not_the_same_also_after_a_resume(worked):
    varied = [tuple(sorted(t.params.items())) for t in worked if len(t.params) > 1]
    assert len(varied) >= 2
    assert len(set(varied)) == len(varied)


def broken(past, until_us, params, seed):
    raise MemoryError("no room for it")


def test_a_trial_that_fails_does_not_end_the_study(begun, monkeypatch):
    monkeypatch.setitem(RECOMMENDERS, "broken", RecommenderModel("broken", broken, lambda suggest: {}, {}))
    task = begun(("popularity", "broken"), 4)
    work(task, 1)
    found = trials(task)
    assert len(found) == 4
    assert {t.state.name for t in found if t.params[MODEL] == "broken"} == {"FAIL"}
    assert next(t for t in found if t.state.name == "FAIL").user_attrs[ERROR] == "MemoryError: no room for it"
    assert any(t.state.name == "COMPLETE" for t in found)


def test_a_hopeless_trial_is_left_after_its_first_window(begun, monkeypatch):
    worst = RECOMMENDERS["popularity"]

    def upside_down(past, until_us, params, seed):
        scorer = worst.fit(past, until_us, {}, seed)
        return replace(scorer, scores=-scorer.scores)

    monkeypatch.setitem(RECOMMENDERS, "worst", RecommenderModel("worst", upside_down, lambda suggest: {}, {}))
    task = begun(("own_frequency", "recent_popularity", "worst"), 8)
    work(task, 1)
    with storage_of(task.folder) as storage:
        loaded(storage, task.study).enqueue_trial({MODEL: "worst"}, user_attrs={DEFAULTS: True})
    work(replace(task, at_most=9), 1)
    last = trials(task)[8]
    assert (last.params[MODEL], last.state.name) == ("worst", "PRUNED")
    assert len(last.user_attrs["by_window"]) == 1


def test_what_a_crash_left_running_is_taken_up_and_tried_again(begun):
    task = begun(CHEAP, 1)
    with storage_of(task.folder) as storage:
        study = loaded(storage, task.study)
        study.ask().suggest_categorical(MODEL, list(CHEAP))
        assert take_up(study) == 1
        failed, waiting = study.trials[0], study.trials[-1]
        assert (failed.state.name, failed.user_attrs[ERROR]) == ("FAIL", "it was stopped before it ended")
        assert waiting.state.name == "WAITING"
        assert waiting.system_attrs["fixed_params"] == {MODEL: "popularity"}
        assert waiting.user_attrs[DEFAULTS]
        assert take_up(study) == 0


def plain_of(name, **params):
    return Recipe(name, {**RECOMMENDERS[name].defaults, **params, "repeats": True}, 5)


def test_what_a_plain_training_tries_is_tried_first_and_never_pruned(tmp_path, parts, monkeypatch):
    best = RECOMMENDERS["own_frequency"]

    def upside_down(past, until_us, params, seed):
        scorer = RECOMMENDERS["popularity"].fit(past, until_us, {}, seed)
        return replace(scorer, scores=-scorer.scores)

    monkeypatch.setitem(RECOMMENDERS, "worst", RecommenderModel("worst", upside_down, lambda suggest: {}, {}))
    plain = (*[Recipe(best.name, {**best.defaults, "repeats": True}, seed) for seed in range(6)], Recipe("worst"))
    task = begin(tmp_path, parts, ("own_frequency", "recent_popularity"), 8, plain)
    work(task, 1)
    found = trials(task)
    assert [recipe_from(trial) for trial in found[:7]] == list(plain)
    assert recipe_from(found[7]).model == "recent_popularity"
    assert [trial.state.name for trial in found[:7]] == ["COMPLETE"] * 7
    assert found[6].params == {}  # no choice of the sampler's: it is not among what is varied


def test_what_a_plain_training_tries_comes_to_its_end_whatever_the_budget(tmp_path, parts, monkeypatch):
    monkeypatch.setattr("training.search.run.searched", lambda validation, search, repeats: (CHEAP, {"ease": "dear"}))
    plain = tuple(plain_of(name) for name in ("popularity", "own_frequency", "ease", "als"))
    home, said = Home(tmp_path), []
    with tracking(home) as client:
        found = search_recipes(
            home, client, parts.validation, Search(budget_s=1, jobs=1),
            plain=plain, as_of_us=17, repeats=True, seed=5, say=said.append,
        )  # fmt: skip
    with storage_of(home.search) as storage:
        tried = loaded(storage, found.study).trials
    first = [trial for trial in tried if PLAIN in trial.user_attrs]
    assert {recipe_from(trial).model for trial in first} == {recipe.model for recipe in plain}
    assert [trial.state.name for trial in first] == ["COMPLETE"] * 4
    assert found.figure >= max(trial.value for trial in first)
    assert "ease was tried as it is, not varied: dear." in found.notes
    assert not found.left_out
    assert "4 defaults to begin before the budget" in said[0]


def test_models_whose_trials_did_not_end_are_named_with_the_reason(begun, monkeypatch):
    monkeypatch.setitem(RECOMMENDERS, "broken", RecommenderModel("broken", broken, lambda suggest: {}, {}))
    task = begun(("broken", "own_frequency", "popularity", "recent_popularity"), 1)
    work(task, 1)
    with storage_of(task.folder) as storage:
        study = loaded(storage, task.study)
        for worker in (1, 2):
            trial = study.ask()
            trial.suggest_categorical(MODEL, list(about_of(study).models))
            trial.set_user_attr(WORKER, worker)
        _fail_orphans(study, {2: "alive"})
        study.tell(2, state=optuna.trial.TrialState.PRUNED)
        assert _ended_early(study) == [
            "broken: 1 of 1 trials failed; MemoryError: no room for it.",
            "own_frequency: 1 of 1 trials failed; its process died, as for lack of memory.",
            "popularity: 1 of 1 trials pruned; the median trial had been better so far.",
            "recent_popularity: 1 trials not begun; the search ended before.",
        ]


def test_a_recipe_of_a_plain_training_that_a_crash_stopped_is_tried_again_as_such(tmp_path, parts):
    plain = (plain_of("own_frequency"),)
    task = begin(tmp_path, parts, CHEAP, None, plain)
    with storage_of(task.folder) as storage:
        study = loaded(storage, task.study)
        study.ask()
        take_up(study)
        assert plain_in(study, "WAITING") == 1
        offer(study, about_of(study), plain)
        assert plain_in(study, "WAITING") == 1
        offer(study, about_of(study), (*plain, plain_of("popularity")))
        assert plain_in(study, "WAITING") == 2


def test_progress_is_told_also_between_the_last_default_and_the_start_of_the_clock(tmp_path, parts):
    task = begin(tmp_path, parts, CHEAP, None, (plain_of("popularity"),))
    with storage_of(task.folder) as storage:
        study = loaded(storage, task.study)
        study.ask()
        assert _progress(study).endswith(", 0 defaults to begin before the budget")
        study.set_user_attr("until", time.time() - 1)
        assert _progress(study).endswith(", 0:00 left")


def test_there_is_nothing_to_resume_before_the_first_search(tmp_path):
    with pytest.raises(BadInput, match="no search to go on with") as caught:
        resumable(Home(tmp_path))
    assert caught.value.field == "resume"


def test_two_searches_at_once_are_refused(tmp_path):
    with only_search(Home(tmp_path)), pytest.raises(Conflict, match="another search"), only_search(Home(tmp_path)):
        pass


def test_models_too_dear_for_the_budget_are_left_out_and_said(parts, monkeypatch):
    monkeypatch.setattr("training.search.run.estimated_s", lambda name, size: 30.0 if name == "lightfm" else 0.1)
    models, left_out = searched(parts.validation, Search(budget_s=60), repeats=True)
    assert "lightfm" not in models
    assert left_out["lightfm"] == "a fit would take an estimated 30 s, too much of 60 s"
    assert set(CHEAP) <= set(models)
    assert "own_frequency" not in searched(parts.validation, Search(budget_s=60), repeats=False)[0]


def hold(task: Task) -> None:
    """A process that is in the middle of a trial when it is killed."""
    with storage_of(task.folder) as storage:
        study = loaded(storage, task.study)
        study.ask().suggest_categorical(MODEL, list(CHEAP))
        (task.folder / "asked").touch()
        time.sleep(60)


def here(study, task, search, tracked, say):
    """The trials of a search, without a process for them."""
    work(replace(task, parent=None), 1)
    tracked.follow()


def test_a_search_killed_in_a_trial_goes_on_where_it_was(tmp_path, parts, monkeypatch):
    monkeypatch.setattr("training.search.run.searched", lambda validation, search, repeats: (CHEAP, {"ease": "why"}))
    home = Home(tmp_path)
    task = begin(home.search, parts, CHEAP, None)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(task,))
    process.start()
    while not (home.search / "asked").exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process.close()
    assert (resumable(home).name, resumable(home).as_of_us, resumable(home).seed) == (task.study, 17, 5)
    said: list[str] = []
    same = {"plain": (), "as_of_us": 17, "repeats": True, "seed": 5}
    go_on = Search(budget_s=200, jobs=1, resume=True, at_most=6)
    with tracking(home) as client:
        found = search_recipes(home, client, parts.validation, go_on, say=said.append, **same)
        assert found.study == task.study
        assert (found.n_trials, found.n_failed) == (6, 1)
        assert {recipe.model for recipe in found.recipes} == set(CHEAP)
        assert found.best.model == "own_frequency"
        assert "left" in said[-1]
        experiment = client.get_experiment_by_name("recommender").experiment_id
        children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{found.mlflow_run}'")
        assert len(children) == 6
        assert {run.data.tags["state"] for run in children} >= {"complete", "fail"}
        figure = "validation_ndcg_at_10"  # of a trial: it never sees the test part
        assert not any(name.startswith(("ndcg", "recall")) for run in children for name in run.data.metrics)
        judged = [run for run in children if figure in run.data.metrics]
        best = max(judged, key=lambda run: run.data.metrics[figure])
        assert best.data.params["model"] == "own_frequency"
        assert best.data.metrics[f"{figure}_low"] <= best.data.metrics[figure]
        assert found.figure == best.data.metrics[figure]
        parent = client.get_run(found.mlflow_run)
        assert parent.data.metrics[figure] == found.figure
        assert (parent.data.tags["chosen"], parent.info.status) == ("own_frequency", "FINISHED")
        of_less = Validation(parts.validation.windows[:1], parts.validation.judged[:1])
        with pytest.raises(BadInput, match="the log of its windows is not what it was in recommender-1"):
            search_recipes(home, client, of_less, go_on, **same)
        monkeypatch.setattr("training.search.run.searched", lambda validation, search, repeats: (("none-such",), {}))
        monkeypatch.setattr("training.search.run._run", here)
        anew = Search(budget_s=200, jobs=1, at_most=1)
        with pytest.raises(NotTrainable, match=r"recommender-2 came to an end.*'none-such' is no recommender"):
            search_recipes(home, client, parts.validation, anew, **same)
    fit = learn_from(parts, Offered(found.recipes, found.left_out), 5)
    assert fit.chosen.name == "own_frequency"
    assert fit.notes[1] == "ease was not tried: why."
    assert "6 trials (" in found.sentence
