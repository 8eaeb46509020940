"""The analysis of one experiment: everything a report shows, from what the tables said to a verdict in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from experiments.cells import Cell
from experiments.gathered import Gathered, gather, weights_of
from experiments.metrics import Metric, metric_of
from experiments.statistics.arms import kind_of
from experiments.statistics.corrections import corrected
from experiments.statistics.effect import Effect, compare
from experiments.statistics.guardrails import Guarded, guard
from experiments.statistics.novelty import Novelty, novelty
from experiments.statistics.power import Reach, smallest_detectable
from experiments.statistics.reasons import of_windows
from experiments.statistics.sample_ratio import Counted, SampleRatio, sample_ratio
from experiments.statistics.segments import SegmentEffects, by_segment
from experiments.statistics.sequential import Path, Seen, path
from experiments.statistics.verdict import Evidence, Verdict, in_points, summary, verdict
from experiments.tables import Tables
from features.experiment import Experiment

Role = Literal["primary", "secondary", "guardrail"]
POWER = 0.8


class MetricEffects(msgspec.Struct, frozen=True, kw_only=True):
    """One metric over all variants. `effects[].p_adjusted` is of its role's family; guardrails have none."""

    metric: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    role: Role
    formula: str
    effects: tuple[Effect, ...]  # one per variant other than control, in their order


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """New units of one UTC day."""

    day: str  # YYYY-MM-DD
    phase: int
    variant: str
    n: int


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of an experiment at a moment. What could not be computed is None and has a flag beside it."""

    experiment_id: str
    at: datetime
    control: str
    variants: tuple[str, ...]  # other than control
    alpha: float
    planned_units: int | None
    n_units: int
    metrics: tuple[MetricEffects, ...]  # the primary first
    paths: tuple[Path, ...]  # of the primary metric, by variant
    exposures: tuple[Exposed, ...]
    sample_ratio: SampleRatio
    segments: tuple[SegmentEffects, ...] = ()  # of the primary metric
    novelty: tuple[Novelty, ...] = ()
    guardrails: tuple[Guarded, ...] = ()
    reach: tuple[Reach, ...] = ()
    n_crossed: int = 0
    flags: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...]  # by variant
    verdict: Verdict


def analyse(
    experiment: Experiment,
    tables: Tables,
    at: datetime,
    *,
    segments: Sequence[str] = (),
    looks: Sequence[datetime] | None = None,
    pre_days: float = 14.0,
    window_days: float | None = None,
) -> Analysis:
    """What the experiment has shown by `at`; raises `BadInput` for metrics and segments that do not exist."""
    found = gather(experiment, tables, at, segments=segments, looks=looks, pre_days=pre_days, window_days=window_days)
    return conclude(experiment, found, at)


def conclude(experiment: Experiment, found: Gathered, at: datetime) -> Analysis:
    """The analysis of what was gathered. Pure."""
    control = experiment.control.name
    variants = tuple(one.name for one in experiment.variants if not one.is_control)
    primary = metric_of(experiment.primary_metric)
    alpha = experiment.alpha / len(variants)  # Bonferroni: each variant has its share of the looks
    seen = {variant: _seen(found, primary, control, variant, experiment.alpha) for variant in variants}
    paths = tuple(
        path(seen[variant], better=primary.better, alpha=alpha, planned_units=experiment.planned_units)
        for variant in variants
    )
    ratio = sample_ratio(_counted(experiment, found))
    guards = {variant: _guards(experiment, found, control, variant) for variant in variants}
    metrics = _effects(experiment, found.cells, control, variants)
    evidence = [_evidence(experiment, found, primary, one, ratio, guards[one.variant], at) for one in paths]
    verdicts = [verdict(one) for one in evidence]
    share = _participants(found.cells, primary) / experiment.planned_units if experiment.planned_units else None
    return Analysis(
        experiment_id=experiment.experiment_id,
        at=at,
        control=control,
        variants=variants,
        alpha=experiment.alpha,
        planned_units=experiment.planned_units,
        n_units=found.checks.n_units,
        metrics=metrics,
        paths=paths,
        exposures=tuple(Exposed(day=e.day, phase=e.phase, variant=e.variant, n=e.n) for e in found.exposures),
        sample_ratio=ratio,
        segments=tuple(
            by_segment(found.cells, primary.name, control, variants, kind=kind_of(primary.kind), alpha=experiment.alpha)
        ),
        novelty=tuple(
            novelty(found.daily, primary.name, control, variant, kind=kind_of(primary.kind), alpha=experiment.alpha)
            for variant in variants
        ),
        guardrails=tuple(one for variant in variants for one in guards[variant]),
        reach=tuple(
            smallest_detectable(effect, alpha=alpha, power=POWER, share_of_plan=share) for effect in metrics[0].effects
        ),
        n_crossed=found.checks.n_crossed,
        flags=_flags(experiment, found, primary),
        verdicts=tuple(verdicts),
        verdict=summary(verdicts, paths),
    )


def _effects(
    experiment: Experiment, cells: Sequence[Cell], control: str, variants: Sequence[str]
) -> tuple[MetricEffects, ...]:
    """Effects in every metric; Holm over the primary's variants, Benjamini-Hochberg over all secondary comparisons."""
    by_role: dict[Role, list[tuple[Metric, list[Effect]]]] = {"primary": [], "secondary": [], "guardrail": []}
    for name in experiment.metrics:
        metric = metric_of(name)
        effects = [_compared(cells, metric, control, variant, experiment.alpha) for variant in variants]
        by_role[_role(experiment, name)].append((metric, effects))
    for role in ("primary", "secondary"):
        family = corrected([effect for _, effects in by_role[role] for effect in effects], role)
        for _, effects in by_role[role]:
            effects[:], family = family[: len(effects)], family[len(effects) :]
    return tuple(
        MetricEffects(
            metric=metric.name,
            title=metric.title,
            unit=metric.unit,
            better=metric.better,
            role=role,
            formula=metric.formula,
            effects=tuple(effects),
        )
        for role, held in by_role.items()
        for metric, effects in held
    )


def _role(experiment: Experiment, name: str) -> Role:
    if name == experiment.primary_metric:
        return "primary"
    return "secondary" if name in experiment.secondary_metrics else "guardrail"


def _seen(found: Gathered, metric: Metric, control: str, variant: str, alpha: float) -> list[Seen]:
    return [
        Seen(
            look.at,
            _participants(look.cells, metric),
            _compared(look.cells, metric, control, variant, alpha),
            look.decides,
        )
        for look in found.looks
    ]


def _compared(cells: Sequence[Cell], metric: Metric, control: str, variant: str, alpha: float) -> Effect:
    found = compare(cells, metric.name, control, variant, kind=kind_of(metric.kind), alpha=alpha)
    return of_windows(found) if "watched" in metric.columns else found


def _participants(cells: Sequence[Cell], metric: Metric) -> int:
    """Units that count in the metric, in all variants: the information that the plan is about."""
    return sum(cell.n for cell in cells if cell.metric == metric.name and cell.segment is None)


def _guards(experiment: Experiment, found: Gathered, control: str, variant: str) -> list[Guarded]:
    guarded = []
    for one in experiment.guardrails:
        metric = metric_of(one.metric)
        seen = _seen(found, metric, control, variant, experiment.alpha)
        guarded += guard(
            one, seen, alpha=experiment.alpha, planned_units=experiment.planned_units, signed=metric.signed
        )
    return guarded


def _counted(experiment: Experiment, found: Gathered) -> list[Counted]:
    """Cumulative units by phase and variant at the end of each day."""
    counted = []
    for phase in sorted({one.phase for one in found.exposures}):
        mine = [one for one in found.exposures if one.phase == phase]
        total = dict.fromkeys(weights_of(experiment, phase), 0)
        looks = []
        for day in sorted({one.day for one in mine}):
            for one in mine:
                if one.day == day:
                    total[one.variant] = total.get(one.variant, 0) + one.n
            looks.append(dict(total))
        counted.append(Counted(phase=phase, weights=weights_of(experiment, phase), looks=tuple(looks)))
    return counted


def _evidence(
    experiment: Experiment,
    found: Gathered,
    primary: Metric,
    one: Path,
    ratio: SampleRatio,
    guards: Sequence[Guarded],
    at: datetime,
) -> Evidence:
    if experiment.started_at is not None:
        days = ((experiment.stopped_at or at) - experiment.started_at) / timedelta(days=1)
    else:
        days = float(len({one.day for one in found.exposures}))
    return Evidence(
        title=primary.title,
        share=in_points(primary.unit),
        path=one,
        sample_ratio=ratio,
        guardrails=tuple(guards),
        n_units=found.checks.n_units,
        n_crossed=found.checks.n_crossed,
        foreign_purchases=dict(found.checks.foreign_purchases) if primary.needs_currency else {},
        planned_units=experiment.planned_units,
        running=experiment.status in ("draft", "running"),
        days=days,
    )


def _flags(experiment: Experiment, found: Gathered, primary: Metric) -> tuple[str, ...]:
    checks, flags = found.checks, []
    if checks.n_crossed:
        flags.append(f"{checks.n_crossed:,} units met more than one variant and were left out")
    if checks.n_immature:
        flags.append(f"{checks.n_immature:,} units were not watched for the whole window yet and were left out")
    if checks.n_before:
        flags.append(f"{checks.n_before:,} events are dated before the exposure that caused them and do not count")
    for currency, n in sorted(checks.foreign_purchases.items()):
        flags.append(f"{n:,} purchases in {currency} do not count: metrics of money are in one currency")
    with_data = {cell.metric for cell in found.cells}
    flags += [
        f"{name} has no data: nothing is known of it, which is not the same as no effect"
        for name in experiment.metrics
        if name not in with_data
    ]
    if len({cell.phase for cell in found.cells if cell.metric == primary.name}) > 1:
        flags.append("the allocation changed while it ran: each phase is compared within itself, never pooled")
    return tuple(flags)
