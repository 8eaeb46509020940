"""Before the start: how many units and days an experiment would need, from what visitors did lately."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from experiments.cells import Cell
from experiments.gathered import DAILY_LOOKS
from experiments.metrics import Metric, metric_of
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
    metrics: Sequence[str] | None = None,
    changes: Sequence[float] = CHANGES,
    power: float = 0.8,
    past_days: int = PAST_DAYS,
    pre_days: float = PRE_DAYS,
    looks: int = DAILY_LOOKS,
) -> list[Plan]:
    """One plan for each metric (left out: the primary one) and relative change of it that one might want to find.

    The sample are the visitors of the last `past_days` before `at`, each from the first visit on, as if exposed there;
    days follow their arrivals at the experiment's traffic. An audience narrows who takes part in a way that is not
    known here: the plan then says so, as it does of sessions. `BadInput` for a metric that does not exist.
    """
    wanted = [metric_of(name) for name in metrics or (experiment.primary_metric,)]
    cells, arrivals = _past(tables, wanted, at, past_days, pre_days)
    control = experiment.control
    weights = [control.weight, *(one.weight for one in experiment.variants if not one.is_control)]
    per_day = [n * experiment.traffic for n in _by_day(arrivals, at, past_days)]
    found = [
        plan(
            cells.get(metric.name, _nobody(metric.name)),
            change,
            kind=kind_of(metric.kind),
            alpha=experiment.alpha,
            power=power,
            weights=weights,
            looks=looks,
            new_units_per_day=per_day,
        )
        for metric in wanted
        for change in changes
    ]
    why = _flags(experiment)
    return [msgspec.structs.replace(one, flags=(*one.flags, *why)) for one in found]


def _flags(experiment: Experiment) -> list[str]:
    """What the past of all visitors does not know of this experiment."""
    flags = []
    if experiment.unit == "session":
        flags.append("of customers, not of sessions, of which there are more, each with less in it")
    if experiment.audience is not None:
        flags.append("of everybody, not of the audience alone: fewer will come each day, and they may behave otherwise")
    return flags


def _past(
    tables: Tables, metrics: Sequence[Metric], at: datetime, past_days: int, pre_days: float
) -> tuple[dict[str, Cell], list[ExposureCount]]:
    since = at - timedelta(days=past_days)
    question = Question(experiment_id="", until=at, pre_days=pre_days)
    made = make_population(tables, "visitors", since, at, None, pre_days)
    with answering(tables, question, made, metrics) as answer:
        return {cell.metric: cell for cell in answer.cells()}, answer.exposures()


def _by_day(arrivals: Sequence[ExposureCount], at: datetime, past_days: int) -> list[int]:
    """New visitors on each of the past days, those without any included."""
    first = (at - timedelta(days=past_days)).date()
    n_of = {one.day: one.n for one in arrivals}
    return [n_of.get((first + timedelta(days=day)).isoformat(), 0) for day in range(past_days)]


def _nobody(metric: str) -> Cell:
    return Cell(metric=metric, variant="all", n=0, mean_num=0.0, var_num=0.0)
