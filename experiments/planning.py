"""Before the start: how many units and days an experiment would need, from what visitors did lately."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from experiments.cells import Cell
from experiments.gathered import DAILY_LOOKS
from experiments.metrics import metric_of
from experiments.moments import ExposureCount, answering
from experiments.statistics.arms import kind_of
from experiments.statistics.power import Plan, plan
from experiments.tables import Tables
from experiments.units import Question, make_population
from features.experiment import Experiment

PAST_DAYS, PRE_DAYS = 28, 14.0
CHANGES = (0.01, 0.02, 0.05, 0.1, 0.2)  # relative, to show what each would take


def plans(
    experiment: Experiment,
    tables: Tables,
    at: datetime,
    *,
    changes: Sequence[float] = CHANGES,
    power: float = 0.8,
    past_days: int = PAST_DAYS,
    pre_days: float = PRE_DAYS,
    looks: int = DAILY_LOOKS,
) -> list[Plan]:
    """One plan for each relative change of the primary metric that one might want to find.

    The sample are the visitors of the last `past_days` before `at`, each from the first visit on, as if exposed there;
    days follow their arrivals at the experiment's traffic. An audience narrows who takes part in a way that is not
    known here: the plan then says so.
    """
    metric = metric_of(experiment.primary_metric)
    cell, arrivals = _past(tables, metric.name, at, past_days, pre_days)
    control = experiment.control
    weights = [control.weight, *(one.weight for one in experiment.variants if not one.is_control)]
    per_day = [n * experiment.traffic for n in _by_day(arrivals, at, past_days)]
    found = [
        plan(
            cell if cell is not None else _nobody(metric.name),
            change,
            kind=kind_of(metric.kind),
            alpha=experiment.alpha,
            power=power,
            weights=weights,
            looks=looks,
            new_units_per_day=per_day,
        )
        for change in changes
    ]
    if experiment.audience is None:
        return found
    why = "of everybody, not of the audience alone: fewer will come each day, and they may behave otherwise"
    return [msgspec.structs.replace(one, flags=(*one.flags, why)) for one in found]


def _past(
    tables: Tables, metric: str, at: datetime, past_days: int, pre_days: float
) -> tuple[Cell | None, list[ExposureCount]]:
    since = at - timedelta(days=past_days)
    question = Question(experiment_id="", until=at, pre_days=pre_days)
    made = make_population(tables, "visitors", since, at, None, pre_days)
    with answering(tables, question, made, [metric_of(metric)]) as answer:
        cells = answer.cells()
        return (cells[0] if cells else None), answer.exposures()


def _by_day(arrivals: Sequence[ExposureCount], at: datetime, past_days: int) -> list[int]:
    """New visitors on each of the past days, those without any included."""
    first = (at - timedelta(days=past_days)).date()
    n_of = {one.day: one.n for one in arrivals}
    return [n_of.get((first + timedelta(days=day)).isoformat(), 0) for day in range(past_days)]


def _nobody(metric: str) -> Cell:
    return Cell(metric=metric, variant="all", n=0, mean_num=0.0, var_num=0.0)
