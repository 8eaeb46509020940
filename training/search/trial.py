"""One trial: which model, which parameters, how it does window by window; what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from features.errors import BadInput
from training.evaluation import RankingReport
from training.evaluation.validation import Validation
from training.models.recipes import Recipe, model_of, recipe_of
from training.models.tried import AT, METRIC, tried

MODEL = "model"
DEFAULTS = "defaults"  # user attribute of a trial that takes a model as it is
PLAIN = "plain"  # user attribute: the recipe, one that a training without a search tries, and so comes to its end
WORKER = "worker"  # user attribute: the number of the process that runs it
RECIPE, METRICS, INTERVAL, BY_WINDOW, CURVE, SECONDS, ERROR = (
    "recipe", "metrics", "interval", "by_window", "curve", "seconds", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prefixed:
    """A trial as a model's search space sees it: parameters of two models may have the same name."""

    trial: Any
    model: str

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return float(self.trial.suggest_float(f"{self.model}.{name}", low, high, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(self.trial.suggest_int(f"{self.model}.{name}", low, high, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.trial.suggest_categorical(f"{self.model}.{name}", choices)


def suggested(trial: Any, models: Sequence[str], *, repeats: bool, seed: int) -> Recipe:
    """The recipe of a trial: what the study asks for, or a model at its defaults, or one of its space."""
    if PLAIN in trial.user_attrs:
        recipe = msgspec.json.decode(trial.user_attrs[PLAIN], type=Recipe)
        if recipe.model in models:  # else it is too dear to be varied, and nothing the sampler could learn from
            trial.suggest_categorical(MODEL, list(models))
        return recipe
    model = model_of(trial.suggest_categorical(MODEL, list(models)))
    params = {} if trial.user_attrs.get(DEFAULTS) else model.space(Prefixed(trial, model.name))
    return recipe_of(model, params, repeats=repeats, seed=seed)


def run_trial(trial: Any, validation: Validation, models: Sequence[str], *, repeats: bool, seed: int) -> float:
    """NDCG@10 over the windows; `TrialPruned` where the first windows leave little hope, whatever a fit raises else.

    What a training without a search tries is never pruned.
    """
    import optuna

    started = time.perf_counter()
    recipe = suggested(trial, models, repeats=repeats, seed=seed)
    trial.set_user_attr(RECIPE, msgspec.json.encode(recipe).decode())
    by_window: list[float] = []

    def after(window: int, report: RankingReport) -> None:
        by_window.append(report.mean(METRIC, AT))
        trial.set_user_attr(BY_WINDOW, by_window)
        trial.set_user_attr(SECONDS, time.perf_counter() - started)
        trial.report(by_window[-1], window)
        may_prune = PLAIN not in trial.user_attrs and window + 1 < len(validation.windows)
        if may_prune and trial.should_prune():
            raise optuna.TrialPruned

    found = tried(validation, recipe, after)
    interval = found.report.interval(METRIC, AT)
    trial.set_user_attr(RECIPE, msgspec.json.encode(found.recipe).decode())
    trial.set_user_attr(METRICS, found.report.metrics())
    trial.set_user_attr(INTERVAL, [interval.low, interval.high])
    trial.set_user_attr(CURVE, list(found.curve))
    trial.set_user_attr(SECONDS, time.perf_counter() - started)
    return found.figure


def model_name(trial: Any) -> str:
    """Also of a trial that has no recipe yet."""
    for known in (RECIPE, PLAIN):
        if known in trial.user_attrs:
            return str(msgspec.json.decode(trial.user_attrs[known])["model"])
    waiting = trial.system_attrs.get("fixed_params", {})
    return str(trial.params.get(MODEL) or waiting.get(MODEL, "unknown"))


def recipe_from(trial: Any) -> Recipe:
    """Of a trial that came to having one; `BadInput` else."""
    try:
        return msgspec.json.decode(trial.user_attrs[RECIPE], type=Recipe)
    except (KeyError, msgspec.ValidationError) as error:
        raise BadInput(f"trial {trial.number} has no recipe that this version can read", "resume") from error
