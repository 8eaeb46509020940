"""From events and exposures to what each unit did, and from there to the cells that statistics read.

The aggregation over units is SQL, so that the rows of units stay where they are; large experiments are added up in
parts, which bounds the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations, groupby
from typing import Any

from experiments.cells import NUMBERS, Cell, merge
from experiments.daily import daily_cells
from experiments.happened import foreign_purchases, make_happened
from experiments.latency import latency_cells
from experiments.metrics import Metric, experiment_metrics
from experiments.per_unit import unit_rows
from experiments.tables import Tables
from experiments.units import Made, Question, make_units, quoted
from features.events import US_PER_DAY, from_us, to_us

AT_ONCE = 1_000_000  # units in one aggregation


@dataclass(frozen=True, slots=True)
class Checks:
    """What a reader must know before believing the numbers."""

    n_units: int  # counted
    n_crossed: int  # units seen in two variants; left out
    n_immature: int  # not watched for the whole window; left out
    n_before: int  # events that name the exposing decision but are dated before the exposure; left out
    foreign_purchases: Mapping[str, int]  # purchases in other currencies, by currency; left out


@dataclass(frozen=True, slots=True)
class ExposureCount:
    """New units of one day."""

    day: str  # YYYY-MM-DD, UTC
    phase: int
    variant: str
    n: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question found, as `ask` keeps it."""

    tables: Tables
    question: Question
    made: Made
    metrics: Sequence[Metric]
    of_events: Sequence[Metric] = ()  # those computed from events

    def per_unit(self) -> Any:
        """Arrow: unit_id, variant, phase, exposed_at, the segments by name, and per metric <name>_num, _den, _pre_num,
        _pre_den; NULL where a unit takes no part. Ordered by unit_id. Metrics of latency are not per unit."""
        segments = "".join(f", segment_{n} AS {quoted(name)}" for n, name in enumerate(self.made.segments))
        numbers = "".join(f", {m.name}_{number}" for m in self.of_events for number in NUMBERS)
        return self.tables.db.sql(
            f"SELECT unit_id, variant, phase, make_timestamptz(start_us) AS exposed_at{segments}{numbers} "
            f"FROM ({unit_rows(self.tables, self.made, self.of_events)}) ORDER BY unit_id"
        ).to_arrow_table()

    def cells(self) -> list[Cell]:
        """One cell per metric, phase and variant, and per value of each segment; none where nobody takes part."""
        found = _cells_of_events(self) if self.of_events else []
        slow = [metric for metric in self.metrics if metric.kind == "quantile"]
        found += latency_cells(self.tables, self.made, slow, to_us(self.question.until)) if slow else []
        order = {metric.name: n for n, metric in enumerate(self.metrics)}
        return sorted(found, key=lambda c: (order[c.metric], c.segment or ("", ""), c.phase or 0, c.variant))

    def daily_cells(self, metrics: Sequence[str] | None = None) -> list[Cell]:
        """The same by whole days since exposure, over the units watched for that day; of metrics with a daily value.

        For the whole of each variant only, without the days before exposure; `metrics` are some of those asked about.
        """
        wanted = [one for one in self.of_events if one.daily and (metrics is None or one.name in metrics)]
        return daily_cells(self.tables, wanted)

    def checks(self) -> Checks:
        until_us = to_us(self.question.until)
        ((n_before,),) = self.tables.db.execute(
            "SELECT count(*) FROM events e JOIN exposures x ON e.decision_id = x.decision_id "
            f"WHERE x.experiment_id = $1 AND e.us < x.us AND x.us < {until_us}",
            [self.question.experiment_id],
        ).fetchall()
        money = any(metric.needs_currency for metric in self.metrics)
        return Checks(
            self.made.n_units,
            self.made.n_crossed,
            self.made.n_immature,
            int(n_before),
            foreign_purchases(self.tables, self.made, until_us) if money else {},
        )

    def exposures(self) -> list[ExposureCount]:
        """New units by day, phase and variant."""
        rows = self.tables.db.execute(
            f"SELECT CAST(floor(start_us / {US_PER_DAY}) AS INTEGER) AS day, phase, variant, count(*) FROM units "
            "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        ).fetchall()
        return [
            ExposureCount(from_us(int(day) * US_PER_DAY).date().isoformat(), int(phase), str(variant), int(n))
            for day, phase, variant, n in rows
        ]


@contextmanager
def ask(tables: Tables, question: Question, metrics: Sequence[str]) -> Iterator[Answer]:
    """Prepares what the metrics need of one experiment; one question at a time on one connection.

    `BadInput` for a metric or a segment that does not exist.
    """
    wanted = experiment_metrics(metrics)
    made = make_units(tables, question)
    with answering(tables, question, made, wanted) as answer:
        yield answer


@contextmanager
def answering(tables: Tables, question: Question, made: Made, metrics: Sequence[Metric]) -> Iterator[Answer]:
    """The same for units that are made already."""
    of_events = [metric for metric in metrics if metric.kind != "quantile"]
    try:
        if of_events:
            make_happened(tables, made, of_events, to_us(question.until))
        yield Answer(tables, question, made, metrics, of_events)
    finally:
        for name in ("happened", "units"):
            tables.db.execute(f"DROP TABLE IF EXISTS {name}")


def per_unit(tables: Tables, experiment_id: str, metrics: Sequence[str], *, until: datetime, **question: Any) -> Any:
    """`Answer.per_unit` of one experiment; the rest as in `Question`."""
    with ask(tables, Question(experiment_id=experiment_id, until=until, **question), metrics) as answer:
        return answer.per_unit()


def moments(
    tables: Tables,
    experiment_id: str,
    metrics: Sequence[str],
    *,
    until: datetime,
    by_day: bool = False,
    **question: Any,
) -> list[Cell]:
    """`Answer.cells`, or with `by_day` `Answer.daily_cells`, of one experiment; the rest as in `Question`."""
    with ask(tables, Question(experiment_id=experiment_id, until=until, **question), metrics) as answer:
        return answer.daily_cells() if by_day else answer.cells()


def checks(
    tables: Tables, experiment_id: str, metrics: Sequence[str], *, until: datetime, **question: Any
) -> tuple[Checks, list[ExposureCount]]:
    """What must be known before believing an experiment, and its new units by day."""
    asked = Question(experiment_id=experiment_id, until=until, **question)
    made = make_units(tables, asked)
    answer = Answer(tables, asked, made, experiment_metrics(metrics))
    try:
        return answer.checks(), answer.exposures()
    finally:
        tables.db.execute("DROP TABLE IF EXISTS units")


def _cells_of_events(answer: Answer) -> list[Cell]:
    parts = [
        cell
        for start in range(1, answer.made.n_units + 1, AT_ONCE)
        for cell in _cells_of_part(answer, (start, start + AT_ONCE))
    ]

    def place(cell: Cell) -> tuple[str, str, int, tuple[str, str]]:
        return cell.metric, cell.variant, cell.phase or 0, cell.segment or ("", "")

    whole = [_merged(list(group)) for _, group in groupby(sorted(parts, key=place), key=place)]
    for metric in answer.of_events:
        mine = [cell for cell in whole if cell.metric == metric.name]
        if all(cell.mean_pre_num == 0 for cell in mine):  # nobody did anything before: nothing is known, not zero
            whole = [_without_pre(cell) if cell.metric == metric.name else cell for cell in whole]
    return whole


def _merged(cells: list[Cell]) -> Cell:
    return cells[0] if len(cells) == 1 else merge(cells)


def _without_pre(cell: Cell) -> Cell:
    unknown: dict[str, Any] = {name: math.nan for name in Cell.__slots__ if "pre" in name}
    return replace(cell, **unknown)


def _cells_of_part(answer: Answer, part: tuple[int, int]) -> list[Cell]:
    segments = range(len(answer.made.segments))
    stats = [stat for metric in answer.of_events for stat in _statistics(metric)]
    sets = ", ".join(["(phase, variant)", *(f"(phase, variant, segment_{n})" for n in segments)])
    keys = "".join(f", grouping(segment_{n}), segment_{n}" for n in segments)
    rows = answer.tables.db.execute(
        f"SELECT phase, variant{keys}, {', '.join(sql for _, _, sql in stats)} "
        f"FROM ({unit_rows(answer.tables, answer.made, answer.of_events, part)}) GROUP BY GROUPING SETS ({sets})"
    ).fetchall()
    found = []
    for phase, variant, *rest in rows:
        named, values = rest[: 2 * len(segments)], rest[2 * len(segments) :]
        of = [(name, str(named[2 * n + 1])) for n, name in enumerate(answer.made.segments) if named[2 * n] == 0]
        fields: dict[str, dict[str, Any]] = {}
        for (name, field, _), value in zip(stats, values, strict=True):
            fields.setdefault(name, {})[field] = value
        place: dict[str, Any] = {"variant": str(variant), "phase": int(phase), "segment": of[0] if of else None}
        found += [
            Cell(metric=metric.name, **place, **_filled(metric, fields[metric.name]))
            for metric in answer.of_events
            if fields[metric.name]["n"]
        ]
    return found


def _filled(metric: Metric, held: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a cell; what SQL does not know is NaN, and a mean's denominator is 1 in both periods."""
    found = {name: math.nan if value is None else value for name, value in held.items()}
    found["n_den"] = held["n_den"] if metric.denominator is not None and held["n_den"] < held["n"] else None
    if metric.denominator is None and not math.isnan(found["mean_pre_num"]):
        constant = ("var_pre_den", "cov_num_pre_den", "cov_den_pre_num", "cov_den_pre_den", "cov_pre_num_pre_den")
        found |= {"mean_pre_den": 1.0, **dict.fromkeys(constant, 0.0)}
    return found


def _statistics(metric: Metric) -> list[tuple[str, str, str]]:
    """(metric, field of a cell, SQL). What is constant is not asked for; of one unit the variance is 0."""
    m = metric.name
    numbers = NUMBERS if metric.denominator is not None else ("num", "pre_num")
    found = [(f"var_{one}", f"var_samp({m}_{one})", f"{m}_{one}") for one in numbers]
    found += [
        (f"cov_{left}_{right}", f"covar_samp({m}_{left}, {m}_{right})", f"{m}_{right}")
        for left, right in combinations(numbers, 2)
    ]
    spreads = [(m, name, f"coalesce({sql}, CASE WHEN count({column}) = 1 THEN 0 END)") for name, sql, column in found]
    means = [(m, f"mean_{one}", f"avg({m}_{one})") for one in numbers]
    counts = [(m, "n", f"count({m}_num)")]
    if metric.denominator is not None:
        counts.append((m, "n_den", f"count(CASE WHEN {m}_den > 0 THEN 1 END)"))
    return [*counts, *means, *spreads]
