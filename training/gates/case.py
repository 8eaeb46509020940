"""What gates judge by: what MLflow and the exported folder tell of the challenger and of the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from features.catalogue import Offer
from training.evaluation.judged_rows import JudgedRows, judged_rows_from
from training.evaluation.kept import JUDGED, judged_from
from training.gates.measure import Lists, Measured, Times, measure
from training.read_back import read_back
from training.stored import stored

Rows = list[dict[str, Any]]
TABLES = ("slices", "reliability", "candidates")  # of a run, where it has them
FIGURE, AT = "ndcg", 10  # of a recommender: what each customer's list was worth


class Valued(msgspec.Struct, frozen=True):
    """What the log says of the challenger's value; a command hands it over, because training knows no experiments."""

    passage: Literal["passes", "refused", "no verdict"]
    said: str
    difference: float | None = None  # to the champion, per choice, in currency
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One model of a release, as its run in MLflow has it."""

    version: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    tables: Mapping[str, Rows] = field(default_factory=dict)
    per_customer: Mapping[str, float] = field(default_factory=dict)  # NDCG@10 of each who was judged, if it was kept
    judged: JudgedRows | None = None  # of a classifier: what it said of each held-out row, if it was kept


@dataclass(frozen=True, slots=True)
class Standing:
    """One release: what it is made of, how it was judged, and where its files are."""

    release: str
    folder: Path
    models: Mapping[str, ModelRun]  # none where its runs are gone
    verdicts: Mapping[str, str] = field(default_factory=dict)
    not_trainable: Mapping[str, str] = field(default_factory=dict)
    as_of: str = ""
    data_digest: str = ""


@dataclass(frozen=True)
class Case:
    """A challenger before the gates; `champion` is None before the first promotion."""

    challenger: Standing
    champion: Standing | None
    offers: tuple[Offer, ...] = ()  # the live catalogue; none: those that the challenger was trained with
    value: Callable[[], Valued] | None = None

    @cached_property
    def measured(self) -> Measured:
        """Of the exported files, in a process of its own, both releases in turns."""
        folders = [self.challenger.folder]
        if self.champion is not None and (self.champion.folder / "manifest.json").exists():
            folders.append(self.champion.folder)
        return measure(folders, self.offers)

    @property
    def times(self) -> tuple[Times, Times | None]:
        of = self.measured.times
        return of[0], (of[1] if len(of) > 1 else None)

    @property
    def lists(self) -> tuple[Lists, Lists | None]:
        of = self.measured.lists
        return of[0], (of[1] if len(of) > 1 else None)


def standing_of(client: Any, folder: Path, number: str) -> Standing:
    """What is known of a registered release. `NotFound` if it is not registered."""
    from training.registry import read_pins

    pins, _ = read_pins(client, number)
    models = {name: run_of(client, name, pinned) for name, pinned in pins.versions.items() if pinned is not None}
    return Standing(
        number, folder, models, pins.verdicts, pins.not_trainable, as_of=pins.as_of, data_digest=pins.data_digest
    )


def run_of(client: Any, name: str, version: str) -> ModelRun:
    """`BrokenRelease` names the version and the file of the run that cannot be read."""
    run = client.get_run(client.get_model_version(name, version).run_id)
    held = {Path(one.path).name for one in client.list_artifacts(run.info.run_id, "tables")}
    tables = {
        title: _rows(f"{name} {version}", f"tables/{title}.json", run.info.artifact_uri)
        for title in TABLES
        if f"{title}.json" in held
    }
    data = run.data
    per_customer = _per_customer(version) if name == "recommender" else {}
    judged = None if name == "recommender" else _judged_rows(name, version)
    return ModelRun(version, dict(data.metrics), dict(data.params), dict(data.tags), tables, per_customer, judged)


def _rows(version: str, path: str, uri: str) -> Rows:
    body = stored(f"{uri}/{path}")
    with read_back(version, path):
        return msgspec.json.decode(body, type=Rows)


def _per_customer(version: str) -> dict[str, float]:
    """NDCG@10 by customer, as the training kept it; empty where it kept none."""
    body = _judged_file("recommender", version)
    if body is None:
        return {}
    kept = judged_from(body, f"recommender {version}")
    if AT not in kept.cutoffs or FIGURE not in kept.values:
        return {}
    values = kept.values[FIGURE][:, kept.cutoffs.index(AT)].tolist()
    return dict(zip(kept.customers, values, strict=True))


def _judged_rows(name: str, version: str) -> JudgedRows | None:
    body = _judged_file(name, version)
    return None if body is None else judged_rows_from(body, f"{name} {version}")


def _judged_file(name: str, version: str) -> bytes | None:
    """None where the training kept none, as before there were any."""
    from mlflow.exceptions import MlflowException

    try:
        return stored(f"models:/{name}/{version}/artifacts/scorer/{JUDGED}")
    except (MlflowException, OSError):
        return None
