"""All that an analysis asks of the tables: cells as of now, by day since exposure and at each look, and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from experiments.cells import Cell
from experiments.happened import never_recorded, recorded_types
from experiments.moments import Checks, ExposureCount, ask
from experiments.tables import Tables
from experiments.units import Question
from features.events import to_us
from features.experiment import Experiment

DAILY_LOOKS = 14  # then one a week: more looks would cost power and hardly come earlier
DAY, WEEK = timedelta(days=1), timedelta(days=7)


@dataclass(frozen=True, slots=True)
class LookCells:
    """The cells of one moment."""

    at: datetime
    cells: Sequence[Cell]
    decides: bool = True  # False: between planned looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What the tables said; `looks` in the order of time, the last one at the moment asked about."""

    cells: Sequence[Cell]  # every metric, everybody and by segment
    daily: Sequence[Cell] = ()  # of the primary metric, by days since exposure
    looks: Sequence[LookCells] = ()
    exposures: Sequence[ExposureCount] = ()
    checks: Checks


def planned_looks(started_at: datetime, at: datetime, stopped_at: datetime | None = None) -> list[datetime]:
    """The moments up to `at` at which a decision may be taken: ends of whole days, after two weeks ends of weeks.

    Fixed by the start, so that opening a report more often does not mean looking more often. Nor does stopping: its
    moment is chosen by who saw the numbers, and a look there would find effects that are not.
    """
    end = min(at, stopped_at) if stopped_at is not None else at
    found, look, n = [], started_at, 0
    while (look := look + (DAY if n < DAILY_LOOKS else WEEK)) <= end:
        found.append(look)
        n += 1
    return found


def gather(
    experiment: Experiment,
    tables: Tables,
    at: datetime,
    *,
    segments: Sequence[str] = (),
    looks: Sequence[datetime] | None = None,
    pre_days: float = 14.0,
    window_days: float | None = None,
) -> Gathered:
    """Asks the tables once for now, and once more for each look; `looks` in place of the planned ones.

    Raises `BadInput` for metrics and segments that do not exist.
    """
    now = Question(
        experiment_id=experiment.experiment_id,
        until=at if experiment.stopped_at is None else min(at, experiment.stopped_at),
        unit=experiment.unit,
        phase_ends=_closed_phases(experiment),
        pre_days=pre_days,
        window_days=window_days,
        segments=segments,
    )
    cells: list[Cell] = []
    daily: list[Cell] = []
    with ask(tables, now, experiment.metrics) as answer:
        types = recorded_types(tables, to_us(now.until))
        unknown = {one.name: never_recorded(one, tables.settings, types) for one in answer.metrics}
        cells += _marked(answer.cells(), unknown)
        daily += _marked(answer.daily_cells((experiment.primary_metric,)), unknown)
        checks, exposures = answer.checks(), answer.exposures()
    watched = tuple(dict.fromkeys((experiment.primary_metric, *(one.metric for one in experiment.guardrails))))
    start = _started(experiment, exposures)
    moments = looks if looks is not None else planned_looks(start, at, experiment.stopped_at) if start else ()
    asked = [replace(now, until=moment, segments=()) for moment in moments if moment < now.until]
    seen = [_look(tables, question, watched, unknown) for question in asked]
    final = LookCells(now.until, [c for c in cells if c.segment is None], decides=now.until in tuple(moments))
    return Gathered(cells=cells, daily=daily, looks=[*seen, final], exposures=exposures, checks=checks)


def _look(tables: Tables, question: Question, metrics: Sequence[str], unknown: Mapping[str, str | None]) -> LookCells:
    with ask(tables, question, metrics) as answer:
        return LookCells(question.until, _marked(answer.cells(), unknown))


def _marked(cells: Sequence[Cell], unknown: Mapping[str, str | None]) -> list[Cell]:
    """With why a metric means nothing, which is of all looks the same: what is known by now."""
    return [replace(cell, unknown=unknown[cell.metric]) for cell in cells]


def _started(experiment: Experiment, exposures: Sequence[ExposureCount]) -> datetime | None:
    """When it started; of what never was started by anybody, such as the holdout, the day of the first exposure."""
    if experiment.started_at is not None:
        return experiment.started_at
    first = min((one.day for one in exposures), default=None)
    return datetime.fromisoformat(f"{first}T00:00:00+00:00") if first else None


def _closed_phases(experiment: Experiment) -> Mapping[int, datetime]:
    """Ends of phases after which weights changed: from then on a unit may meet another variant."""
    ends: dict[int, datetime] = {}
    for phase, following in zip(experiment.phases, experiment.phases[1:], strict=False):
        if phase.stops_at is not None and phase.weights != following.weights:
            ends[phase.number] = phase.stops_at
    return ends


def weights_of(experiment: Experiment, phase: int) -> dict[str, float]:
    """How the units of a phase were to be split."""
    held: Any = next((one.weights for one in experiment.phases if one.number == phase), None)
    return dict(held) if held is not None else {one.name: one.weight for one in experiment.variants}
