"""The study on disk: made, found again after a crash, its trials that nobody runs any more taken up."""

from __future__ import annotations

import fcntl
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from features.errors import BadInput, Conflict
from features.home import Home
from training.evaluation.validation import Validation
from training.models.recipes import Recipe
from training.search.trial import DEFAULTS, ERROR, MODEL, PLAIN

STUDY = "recommender"
STOPPED = "it was stopped before it ended"
UNTIL = "until"  # user attribute of a study: as of time.time(); no trial begins later


class About(msgspec.Struct, frozen=True):
    """What a study is of: a search that goes on must be of the same."""

    data: str  # SHA-256 of what its windows hold
    as_of_us: int
    seed: int
    repeats: bool
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resumable:
    """The newest study: what is needed to read the same data again."""

    name: str
    as_of_us: int
    seed: int
    n_trials: int


def data_digest(validation: Validation) -> str:
    """The same for the same windows of the same log."""
    found = hashlib.sha256()
    for window, judged in zip(validation.windows, validation.judged, strict=True):
        past = judged.past
        head = [window.cut_us, window.end_us, judged.exclude_seen, past.customers, past.offer_map]
        found.update(msgspec.json.encode(head))
        for array in (past.customer, past.offer, past.weight, past.occurred_us, judged.rows, *judged.relevant):
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@contextmanager
def only_search(home: Home) -> Iterator[None]:
    """`Conflict` while another search of this home runs."""
    home.search.mkdir(parents=True, exist_ok=True)
    with (home.search / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict("another search is running on this NBO_HOME; wait for it, or end it") from error
        yield


@contextmanager
def storage_of(folder: Path) -> Iterator[Any]:
    """Optuna's tables in SQLite, whose locks end with the process that held them, however it ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(folder / 'studies.db').resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def loaded(storage: Any, name: str, seed: int = 0) -> Any:
    """A study to ask for trials. The seed is that of one trial: two trials with the same one would be the same."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_min_trials=4)
    return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)


def new_study(storage: Any, about: About, plain: Sequence[Recipe] = ()) -> str:
    """Its name; `plain` is waiting to be tried first, then every other model as it is, the cheap before the dear."""
    import optuna

    taken = {int(name.rpartition("-")[2]) for name in _names(storage)}
    name = f"{STUDY}-{max(taken, default=0) + 1}"
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.set_user_attr("about", msgspec.json.encode(about).decode())
    offer(study, about, plain)
    for model in about.models:
        if all(recipe.model != model for recipe in plain):
            study.enqueue_trial({MODEL: model}, user_attrs={DEFAULTS: True})
    return name


def offer(study: Any, about: About, plain: Sequence[Recipe]) -> None:
    """What a training without a search tries waits to be tried, unless the study has it already."""
    known = {trial.user_attrs.get(PLAIN) for trial in study.get_trials(deepcopy=False)}
    order = {model: at for at, model in enumerate(about.models)}  # the cheap before the dear
    for recipe in sorted(plain, key=lambda recipe: order.get(recipe.model, len(order))):
        text = msgspec.json.encode(recipe).decode()
        if text not in known:
            fixed = {MODEL: recipe.model} if recipe.model in order else {}
            study.enqueue_trial(fixed, user_attrs={PLAIN: text})


def until_of(study: Any) -> float:
    """When the last trial may begin; infinity while the clock does not run yet."""
    until = study.user_attrs.get(UNTIL)
    return math.inf if until is None else float(until)


def plain_in(study: Any, *states: str) -> int:
    """How many trials of what a training without a search tries are in one of these states."""
    trials = study.get_trials(deepcopy=False)
    return sum(PLAIN in trial.user_attrs and trial.state.name in states for trial in trials)


def newest(storage: Any) -> str | None:
    return max(_names(storage), key=lambda name: int(name.rpartition("-")[2]), default=None)


def _names(storage: Any) -> Sequence[str]:
    import optuna

    return [name for name in optuna.study.get_all_study_names(storage) if name.startswith(f"{STUDY}-")]


def about_of(study: Any) -> About:
    return msgspec.json.decode(study.user_attrs["about"], type=About)


def resumable(home: Home) -> Resumable:
    """The newest study; `BadInput` if there is none."""
    if (home.search / "studies.db").exists():
        with storage_of(home.search) as storage:
            name = newest(storage)
            if name is not None:
                study = loaded(storage, name, 0)
                about = about_of(study)
                return Resumable(name, about.as_of_us, about.seed, len(study.trials))
    raise BadInput("there is no search to go on with; leave --resume out", "resume")


def check_same(name: str, before: About, now: About) -> None:
    """`BadInput` that says what differs from the study that is to go on."""
    for field, said in (("data", "the log of its windows"), ("repeats", "the setting `repeats`")):
        if getattr(before, field) != getattr(now, field):
            raise BadInput(f"{said} is not what it was in {name}; start a new search without --resume", "resume")


def take_up(study: Any) -> int:
    """Trials that a crash left running fail, and wait to be tried again; how many. Nobody else may run the study."""
    import optuna

    states = optuna.trial.TrialState
    stale = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    for trial in stale:
        fail(study, trial, STOPPED)
        study.enqueue_trial(trial.params, user_attrs=_defaults(trial.user_attrs))
    return len(stale)


def fail(study: Any, trial: Any, why: str) -> None:
    import optuna

    study._storage.set_trial_user_attr(trial._trial_id, ERROR, why)  # a trial of another process has no setter
    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _defaults(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in (DEFAULTS, PLAIN) if name in attributes}
