"""The trials of a search as runs in MLflow: children of one parent, written by the process that watches."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import msgspec

from training.evaluation.validation import Validation
from training.models.tried import FIGURE
from training.search.trial import BY_WINDOW, CURVE, ERROR, INTERVAL, METRICS, RECIPE, SECONDS, model_name
from training.tracking import code_version, log_curves

if TYPE_CHECKING:
    from training.search.run import Found

EXPERIMENT = "recommender"
PREFIX = "validation_"  # of every figure: a trial never sees the test part, whose figures have the plain names
CHOSEN_BY = f"{PREFIX}{FIGURE}"
PARENT, RUN_NAME = "mlflow.parentRunId", "mlflow.runName"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


class Tracked:
    """What of a study is in MLflow already. A study that goes on keeps its parent."""

    def __init__(self, client: Any, study: Any, validation: Validation) -> None:
        self._client, self._study = client, study
        self._experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
        self.run_id: str = study.user_attrs.get("mlflow_run") or self._new_parent(validation)
        client.update_run(self.run_id, status="RUNNING")
        children = client.search_runs([self._experiment], f"tags.`{PARENT}` = '{self.run_id}'", max_results=50_000)
        self._logged = {int(run.data.tags["trial"]) for run in children}

    def _new_parent(self, validation: Validation) -> str:
        name = self._study.study_name
        run = self._client.create_run(
            self._experiment,
            tags={RUN_NAME: f"search {name}", "study": name, "code_version": code_version(), "kind": "search"},
        )
        about = json.loads(self._study.user_attrs["about"])
        self._log_params(run.info.run_id, {**about, "models": ", ".join(about["models"])})
        self._log_params(run.info.run_id, {f"window_{at}": str(w) for at, w in enumerate(validation.windows)})
        self._study.set_user_attr("mlflow_run", run.info.run_id)
        return str(run.info.run_id)

    def follow(self) -> None:
        """Log each trial that has ended since."""
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name in STATUS and trial.number not in self._logged:
                self._log(trial)
                self._logged.add(trial.number)

    def _log(self, trial: Any) -> None:
        attributes = trial.user_attrs
        recipe = json.loads(attributes[RECIPE]) if RECIPE in attributes else {}
        model = model_name(trial)
        began = int(trial.datetime_start.timestamp() * 1000)
        ended = int(trial.datetime_complete.timestamp() * 1000)
        run = self._client.create_run(
            self._experiment,
            start_time=began,
            tags={
                PARENT: self.run_id,
                RUN_NAME: f"{self._study.study_name} trial {trial.number}: {model}",
                "trial": str(trial.number),
                "state": trial.state.name.lower(),
                "kind": "trial",
                **({"error": attributes[ERROR]} if ERROR in attributes else {}),
            },
        ).info.run_id
        self._log_params(run, {"model": model, **recipe.get("params", {}), "seed": recipe.get("seed", "")})
        metrics = {f"{PREFIX}{name}": value for name, value in attributes.get(METRICS, {}).items()}
        if INTERVAL in attributes:
            metrics[f"{CHOSEN_BY}_low"], metrics[f"{CHOSEN_BY}_high"] = attributes[INTERVAL]
        if SECONDS in attributes:
            metrics["seconds"] = attributes[SECONDS]
        self._log_metrics(run, metrics)
        log_curves(
            self._client,
            run,
            {
                f"{CHOSEN_BY}_by_windows": attributes.get(BY_WINDOW, ()),
                f"{CHOSEN_BY}_by_epoch": attributes.get(CURVE, ()),
            },
        )
        self._client.set_terminated(run, STATUS[trial.state.name], end_time=ended)

    def _log_params(self, run: str, params: dict[str, Any]) -> None:
        from mlflow.entities import Param

        self._client.log_batch(run, params=[Param(key, str(value)[:6000]) for key, value in params.items()])

    def _log_metrics(self, run: str, metrics: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(run, metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()])

    def conclude(self, found: Found) -> None:
        """The search is over, and this is what it came to."""
        self._log_metrics(
            self.run_id,
            {
                CHOSEN_BY: found.figure, f"{CHOSEN_BY}_low": found.low, f"{CHOSEN_BY}_high": found.high,
                "n_trials": found.n_trials, "n_pruned": found.n_pruned, "n_failed": found.n_failed,
            },
        )  # fmt: skip
        self._client.set_tag(self.run_id, "chosen", found.best.model)
        self._client.log_text(self.run_id, msgspec.json.encode(found.best).decode(), "best.json")
        self.close("FINISHED")

    def close(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status)
