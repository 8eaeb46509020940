"""Experiments of a week: how each stood at its end, and which of them must not wait until somebody opens its report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from experiments.analysis import Analysis, analyse
from experiments.digest.week import Week
from experiments.metrics import metric_of
from experiments.statistics.verdict import in_points, in_words
from experiments.tables import Tables
from features.errors import BadInput
from features.experiment import Experiment


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment at the week's end, or when it was stopped."""

    experiment_id: str
    hypothesis: str
    status: str  # as it is now
    started_at: datetime
    stopped_at: datetime | None
    primary_metric: str
    n_units: int | None = None  # None: it could not be analysed, and `why` says so
    planned_units: int | None = None
    changes: tuple[tuple[str, str], ...] = ()  # (variant, its change of the primary metric in words)
    verdict: str | None = None
    reasons: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()  # why somebody should look today
    flags: tuple[str, ...] = ()
    why: str | None = None


class Experiments(msgspec.Struct, frozen=True, kw_only=True):
    states: tuple[State, ...]  # that ran in the week, by id
    n_drafts: int


def experiments_of(tables: Tables, experiments: Sequence[Experiment], week: Week) -> Experiments:
    """All that ran at any time of the week."""
    ran = [
        one
        for one in experiments
        if one.started_at is not None
        and one.started_at < week.until
        and (one.stopped_at is None or one.stopped_at > week.since)
    ]
    return Experiments(
        states=tuple(_state(tables, one, week.until) for one in sorted(ran, key=lambda one: one.experiment_id)),
        n_drafts=sum(one.status == "draft" for one in experiments),
    )


def _state(tables: Tables, experiment: Experiment, at: datetime) -> State:
    assert experiment.started_at is not None
    known = State(
        experiment_id=experiment.experiment_id,
        hypothesis=experiment.hypothesis,
        status=experiment.status,
        started_at=experiment.started_at,
        stopped_at=experiment.stopped_at,
        primary_metric=metric_of(experiment.primary_metric).title,
        planned_units=experiment.planned_units,
    )
    try:
        running = experiment.stopped_at is None or experiment.stopped_at > at
        return of_analysis(known, analyse(experiment, tables, at), running=running)
    except BadInput as error:
        return msgspec.structs.replace(known, why=str(error))


def of_analysis(known: State, found: Analysis, *, running: bool) -> State:
    """The state with what an analysis says; alarms are of what runs, as nothing can be done about the past."""
    share = in_points(found.metrics[0].unit)
    changes = tuple((one.variant, in_words(one.looks[-1], share) if one.looks else "not known") for one in found.paths)
    return msgspec.structs.replace(
        known,
        n_units=found.n_units,
        changes=changes,
        verdict=found.verdict.decision,
        reasons=found.verdict.reasons,
        alarms=alarms_of(found) if running else (),
        flags=found.flags,
    )


def alarms_of(found: Analysis) -> tuple[str, ...]:
    """Why somebody should look today: not to be trusted, beyond a guardrail, or harmful; empty if nobody needs to."""
    if found.verdict.decision == "do not trust":
        return found.verdict.reasons
    guards = [f"{one.metric} of {one.variant} is beyond its limit" for one in found.guardrails if one.state == "alarm"]
    title = found.metrics[0].title
    harm = [
        f"{title} of {one.variant} is worse{', whenever one looks' if one.harm_at is not None else ''}"
        for one in found.paths
        if one.harm_at is not None or one.outcome == "worse"
    ]
    return (*guards, *harm)
