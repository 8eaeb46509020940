"""A process of a search: asks the study for trials until time is up, whatever becomes of each."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.evaluation.validation import Validation
from training.search.study import loaded, storage_of, until_of
from training.search.trial import ERROR, WORKER, run_trial


@dataclass(frozen=True)
class Task:
    """What a worker is given."""

    folder: Path
    study: str
    validation: Validation
    models: tuple[str, ...]
    repeats: bool
    seed: int
    n_threads: int  # of BLAS, in each process
    parent: int | None = None  # the process without which nobody waits for results
    at_most: int | None = None  # trials of the whole study; None: as many as there is time for


def work(task: Task, number: int) -> None:
    """Process `number` of a search. Returns when time is up, or nobody waits any more."""
    from threadpoolctl import threadpool_limits

    if task.parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    with storage_of(task.folder) as storage, threadpool_limits(task.n_threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while task.parent is None or os.getppid() == task.parent:
            study = loaded(storage, task.study)
            known = study.get_trials(deepcopy=False)
            enough = task.at_most is not None and n_asked(known) >= task.at_most
            if enough or time.time() >= until_of(study):
                return
            try_one(loaded(storage, task.study, task.seed + 7919 * number + len(known)), task, number)


def n_asked(trials: Sequence[Any]) -> int:
    """Trials that somebody began."""
    return sum(trial.state.name != "WAITING" for trial in trials)


def try_one(study: Any, task: Task, number: int) -> None:
    """One trial, told to the study as complete, pruned or failed."""
    import optuna

    trial = study.ask()
    trial.set_user_attr(WORKER, number)
    try:
        figure = run_trial(trial, task.validation, task.models, repeats=task.repeats, seed=task.seed)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except Exception as error:  # one trial's failure is a result of the search, not its end
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:2000])
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, figure)
