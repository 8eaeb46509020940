"""The same metrics of customers at large, over a period: what dashboard and weekly digest show beside experiments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from experiments.cells import Cell
from experiments.metrics import Metric, experiment_metrics
from experiments.moments import answering
from experiments.tables import Tables
from experiments.units import Question, make_population


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one group. `value` is None where nobody could be measured; `why` then says so."""

    metric: str
    group: str  # "all", or the value of what was grouped by
    n: int  # customers measured
    value: float | None
    low: float | None  # of the interval
    high: float | None
    why: str | None = None


def measured(
    tables: Tables, metric: str, since: datetime, until: datetime, by: str | None = None, *, alpha: float = 0.05
) -> list[Measured]:
    """One metric over [since, until), by group; see `measured_all`."""
    return measured_all(tables, [metric], since, until, by, alpha=alpha)


def measured_all(
    tables: Tables,
    metrics: Sequence[str],
    since: datetime,
    until: datetime,
    by: str | None = None,
    *,
    alpha: float = 0.05,
) -> list[Measured]:
    """Several metrics over [since, until), in their order and that of the groups.

    `by` is a segment, or `variant:<experiment id>`; `variant:holdout` sets what would have been beside what was. Each
    metric is about its own `population`: everybody seen before the end, visitors of the period, or those active in it.
    Intervals at level 1 − alpha take customers as drawn from many like them: Wilson's for shares, the delta method for
    ratios, the normal law for means; there is none where all are alike. `BadInput` for names that do not exist.
    """
    wanted = experiment_metrics(metrics)
    question = Question(experiment_id="", until=until, pre_days=0.0)
    found: list[Measured] = []
    for population in dict.fromkeys(metric.population for metric in wanted):
        mine = [metric for metric in wanted if metric.population == population]
        made = make_population(tables, population, since, until, by)
        with answering(tables, question, made, mine) as answer:
            cells = answer.cells()
            groups = sorted({_group(cell, by) for cell in cells} - {""}) or ["all"]
        for metric in mine:
            held = {_group(cell, by): cell for cell in cells if cell.metric == metric.name}
            found += [_measured(metric, group, held.get(group), alpha) for group in groups]
    order = {metric.name: n for n, metric in enumerate(wanted)}
    return sorted(found, key=lambda one: order[one.metric])


def _group(cell: Cell, by: str | None) -> str:
    """Which group a cell is of; empty for everybody where groups were asked for."""
    if by is None or by.startswith("variant:"):
        return cell.variant
    return cell.segment[1] if cell.segment is not None else ""


def _measured(metric: Metric, group: str, cell: Cell | None, alpha: float) -> Measured:
    if cell is None:
        return Measured(metric.name, group, 0, None, None, None, f"nobody to measure: {metric.exposure_rule}")
    if cell.mean_den == 0:
        return Measured(metric.name, group, cell.n, None, None, None, f"nothing to divide by: {metric.formula}")
    value = cell.mean_num / cell.mean_den
    low, high = _interval(metric, cell, value, alpha)
    times = cell.n if metric.unit == "customers" else 1
    if low is None or high is None:
        return Measured(metric.name, group, cell.n, value * times, None, None)
    return Measured(metric.name, group, cell.n, value * times, low * times, high * times)


def _interval(metric: Metric, cell: Cell, value: float, alpha: float) -> tuple[float | None, float | None]:
    """None where the customers seen cannot tell how much others differ."""
    from scipy.stats import norm

    from experiments.statistics.proportions import wilson

    if metric.kind == "proportion":
        return wilson(cell.n, value, alpha)
    linear = cell.var_num - 2 * value * cell.cov_num_den + value * value * cell.var_den  # of num − value · den
    if cell.n < 2 or linear <= 0:
        return None, None
    reach = float(norm.isf(alpha / 2)) * math.sqrt(linear / cell.n) / abs(cell.mean_den)
    return value - reach, value + reach
