"""The report of an experiment: its analysis as a document, verdict first, and what speaks against believing it next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from experiments.analysis import Analysis, MetricEffects
from experiments.report import amounts, experiment_pictures
from experiments.report.document import (
    Block,
    Bullets,
    Callout,
    Cell,
    Code,
    Column,
    Document,
    Fold,
    Paragraph,
    Section,
    Strong,
    Table,
    Text,
    Tile,
    Tiles,
    Tone,
    without_column,
)
from experiments.report.experiment_setup import set_up
from experiments.statistics.effect import Effect
from experiments.statistics.guardrails import Guarded
from experiments.statistics.reasons import why_unknown
from experiments.statistics.sequential import Look
from experiments.statistics.sources import STATISTICS
from experiments.statistics.verdict import held
from features.experiment import HOLDOUT, Experiment

TONES: dict[str, Tone] = {"ship": "good", "stop": "warn", "keep running": "plain", "do not trust": "bad"}
STATES: dict[str, Tone] = {"alarm": "bad", "safe": "good", "open": "plain", "unknown": "warn"}
TRENDS = {
    "fades": "the effect fades with the days since first exposure: what was seen so far is more than what will stay",
    "grows": "the effect grows with the days since first exposure: what was seen so far is less than what may come",
    "steady": "no trend is proven",
    "unknown": "no trend can be computed",
}


class ExperimentReport(Analysis, frozen=True, kw_only=True):
    """The analysis with the experiment it is of: what the JSON of a report holds."""

    experiment: Experiment
    currency: str
    alarmed: bool  # a guardrail's alarm is on, a variant does harm, or the numbers are not to be trusted


def report_of(experiment: Experiment, found: Analysis, currency: str) -> ExperimentReport:
    fields = {name: getattr(found, name) for name in Analysis.__struct_fields__}
    return ExperimentReport(**fields, experiment=experiment, currency=currency, alarmed=alarmed(found))


def alarmed(found: Analysis) -> bool:
    """Whether somebody should look at it now: what exit code 3 of the command line stands for."""
    return any(one.state == "alarm" for one in found.guardrails) or any(
        one.decision == "do not trust" or one.harm for one in (found.verdict, *found.verdicts)
    )


def document_of(report: ExperimentReport) -> Document:
    """The whole report."""
    blocks = [
        _verdict(report),
        _tiles(report),
        *_flags(report),
        *_verdicts(report),
        *_primary(report),
        *_metrics(report),
        *_belief(report),
        *_guardrails(report),
        *_segments(report),
        *_novelty(report),
        *_reach(report),
        set_up(report.experiment),
        _how(report),
    ]
    if len(report.variants) == 1:
        blocks = [without_column(block, "Variant") for block in blocks]
    return Document(
        title="The global holdout" if report.experiment_id == HOLDOUT else f"Experiment {report.experiment_id}",
        lede=_sentence(report.experiment.hypothesis),
        blocks=tuple(blocks),
        data=report,
        footer=f"As of {amounts.moment(report.at)}. Figures are of what the log held then.",
    )


def _verdict(report: ExperimentReport) -> Callout:
    decision, variant = report.verdict.decision, report.verdict.variant
    named = f" {variant}" if variant is not None and decision in ("ship", "stop") else ""
    whose = tuple(f"{one}:" for one in report.variants)
    items = tuple(_sentence(reason, capital=not reason.startswith(whose)) for reason in report.verdict.reasons)
    return Callout(title=f"{_capital(decision)}{named}", tone=TONES[decision], items=items)


def _tiles(report: ExperimentReport) -> Tiles:
    plan = f"of {report.planned_units:,} planned" if report.planned_units else "no planned size"
    tiles = [
        Tile(label="Units", value=f"{report.n_units:,}", note=plan),
        Tile(label="Days", value=_days(report), note=report.experiment.status),
    ]
    for effect, path in zip(report.metrics[0].effects[:3], report.paths, strict=False):
        tiles.append(_effect_tile(report, effect, path.looks[-1] if path.looks else None))
    ratio = report.sample_ratio
    state: tuple[str, Tone] = ("mismatch", "bad") if ratio.mismatch else ("as planned", "good")
    if ratio.p_sequential is None:
        state = (amounts.NOT_KNOWN, "warn")
    note = f"p = {amounts.chance(ratio.p_sequential)}" if ratio.p_sequential is not None else "no unit yet"
    tiles.append(Tile(label="Sample ratio", value=state[0], note=note, tone=state[1]))
    if report.guardrails:
        tiles.append(_guardrail_tile(report))
    return Tiles(tuple(tiles))


def _guardrail_tile(report: ExperimentReport) -> Tile:
    """`no alarm` only where nothing is worse: neither beyond a limit, nor by the p-value of one look."""
    n = sum(one.state == "alarm" for one in report.guardrails)
    safe = sum(one.state == "safe" for one in report.guardrails)
    note = f"{safe} of {len(report.guardrails)} shown to be within their limits"
    worse = [one for one in report.guardrails if one.state in ("open", "unknown") and _is_worse(report, one)]
    if n:
        return Tile(label="Guardrails", value=f"{n} alarm{'s' * (n != 1)}", note=note, tone="bad")
    if worse:
        named = ", ".join(dict.fromkeys(one.metric for one in worse))
        note = f"{named}: not beyond the limit for sure, but beyond it now or worse by itself; {note}"
        return Tile(label="Guardrails", value=f"{len(worse)} to watch", note=note, tone="warn")
    return Tile(label="Guardrails", value="no alarm", note=note, tone="plain")


def _is_worse(report: ExperimentReport, one: Guarded) -> bool:
    metric = next(metric for metric in report.metrics if metric.metric == one.metric)
    effect = next(effect for effect in metric.effects if effect.variant == one.variant)
    if one.beyond or effect.absolute is None or effect.p_value is None:
        return bool(one.beyond)
    return effect.p_value < report.alpha and (effect.absolute > 0) == (one.side == "max")


def _effect_tile(report: ExperimentReport, effect: Effect, look: Look | None) -> Tile:
    value, interval = _change_held(report, effect, look)
    return Tile(label=f"{report.metrics[0].title}, {effect.variant}", value=value, note=interval)


def _days(report: ExperimentReport) -> str:
    start = report.experiment.started_at
    if start is None:
        return amounts.NOT_KNOWN
    return f"{((report.experiment.stopped_at or report.at) - start) / timedelta(days=1):,.1f}"


def _flags(report: ExperimentReport) -> Iterator[Block]:
    if report.flags:
        yield Callout(title="To be known", tone="warn", items=tuple(_sentence(flag) for flag in report.flags))


def _verdicts(report: ExperimentReport) -> Iterator[Block]:
    if len(report.verdicts) > 1:
        rows = tuple(
            (one.variant or "", Cell(one.decision, TONES[one.decision]), " ".join(map(_sentence, one.reasons)))
            for one in report.verdicts
        )
        columns = (Column("Variant"), Column("Verdict"), Column("Why"))
        yield Section(
            title="Each variant",
            id="variants",
            blocks=(Table(caption=f"Against {report.control}", columns=columns, rows=rows),),
        )


def _primary(report: ExperimentReport) -> Iterator[Block]:
    metric = report.metrics[0]
    rows = []
    for effect, path in zip(metric.effects, report.paths, strict=True):
        value, interval = _change_held(report, effect, path.looks[-1] if path.looks else None)
        rows.append(
            (
                effect.variant,
                f"{effect.n_control:,} / {effect.n_variant:,}",
                _amount(report, metric, effect.estimate_control),
                _amount(report, metric, effect.estimate_variant),
                value,
                interval,
                _decided(path.outcome, path.decided_at),
            )
        )
    titles = ("Units of both", report.control, "variant", "Change", "Interval, any look", "Decided")
    table = Table(
        caption=f"{metric.title}, {metric.better} is better, against {report.control}. The interval holds however "
        "often the report was opened.",
        columns=(Column("Variant"), *(Column(title, right=True) for title in titles)),
        rows=tuple(rows),
    )
    pictures = [
        experiment_pictures.path_picture(report, path, metric, i, report.currency)
        for i, path in enumerate(report.paths)
    ]
    yield Section(
        title=f"Primary metric: {metric.title}",
        id="primary",
        blocks=(table, *(one for one in pictures if one is not None)),
    )


def _metrics(report: ExperimentReport) -> Iterator[Block]:
    rows, notes = [], []
    for metric in report.metrics:
        for effect in metric.effects:
            rows.append(_metric_row(report, metric, effect))
            notes += [
                (Strong(f"{metric.title}, {effect.variant}: "), _sentence(flag, capital=False)) for flag in effect.flags
            ]
    level = f"{100 * (1 - report.alpha):g}%"
    titles = (report.control, "variant", "Change", f"{level} interval", "p", "p, corrected", "CUPED")
    table = Table(
        caption="Intervals and p-values here are of one look: right when one looks once, at the end. Corrected: Holm "
        "over variants for the primary metric, Benjamini-Hochberg over all secondary ones. CUPED: share of the "
        "variance that the time before exposure took away.",
        columns=(
            Column("Metric"),
            Column("Variant"),
            *(Column(title, right=True) for title in titles),
        ),
        rows=tuple(rows),
    )
    picture = experiment_pictures.effects_picture(report)
    blocks: list[Block] = [*([picture] if picture is not None else []), table]
    if notes:
        blocks.append(Bullets(tuple(notes)))
    yield Section(title="All metrics", id="metrics", blocks=tuple(blocks))


def _metric_row(report: ExperimentReport, metric: MetricEffects, effect: Effect) -> tuple[str | Cell, ...]:
    value, interval = _change(report, metric, effect)
    return (
        f"{metric.title} ({metric.role})",
        effect.variant,
        _amount(report, metric, effect.estimate_control),
        _amount(report, metric, effect.estimate_variant),
        value,
        interval,
        amounts.chance(effect.p_value),
        amounts.DASH if metric.role == "guardrail" else amounts.chance(effect.p_adjusted),
        amounts.DASH if effect.cuped_reduction is None else f"{effect.cuped_reduction:.0%}",
    )


def _belief(report: ExperimentReport) -> Iterator[Block]:
    ratio = report.sample_ratio
    total = sum(ratio.observed.values())
    rows = tuple(
        (name, f"{ratio.expected.get(name, 0.0):,.1f}", f"{n:,}", f"{n / total:.2%}" if total else amounts.DASH)
        for name, n in ratio.observed.items()
    )
    if ratio.p_sequential is None:
        yield Section(
            title="Can it be believed?", id="sample-ratio", blocks=(Bullets(tuple(map(_sentence, ratio.flags))),)
        )
        return
    once = f", {amounts.chance(ratio.p_chi2)} by chi-squared, once" if ratio.p_chi2 is not None else ""
    sentence = (
        f"The split of units is {'not ' if ratio.mismatch else ''}what it was to be: "
        f"p = {amounts.chance(ratio.p_sequential)} by the test that holds at every look{once}. "
        "Below 0.01 nothing else here can be believed."
    )
    columns = (Column("Variant"), *(Column(one, right=True) for one in ("Expected units", "Units", "Share")))
    weights = {phase.number: phase.weights for phase in report.experiment.phases}
    picture = experiment_pictures.exposures_picture(report, weights)
    blocks: list[Block] = [
        Paragraph(sentence, "bad" if ratio.mismatch else "plain"),
        Table(caption="Units exposed, all phases", columns=columns, rows=rows),
        *([picture] if picture is not None else []),
    ]
    crossed = f"{report.n_crossed:,} units met more than one variant and are left out of everything."
    blocks.append(Bullets((crossed, *(_sentence(flag) for flag in ratio.flags))))
    yield Section(title="Can it be believed?", id="sample-ratio", blocks=tuple(blocks))


def _guardrails(report: ExperimentReport) -> Iterator[Block]:
    if report.guardrails:
        table = Table(
            caption="Watched by a confidence sequence, so that an alarm may go off on any day: alarm, beyond the limit "
            "for sure; safe, within it for sure; open, neither yet.",
            columns=(
                Column("Metric"),
                Column("Variant"),
                Column("Limit", right=True),
                Column("Now", right=True),
                Column("State"),
                Column("Note"),
            ),
            rows=tuple(_guardrail_row(report, one) for one in report.guardrails),
        )
        yield Section(title="Guardrails", id="guardrails", blocks=(table,))


def _guardrail_row(report: ExperimentReport, one: Guarded) -> tuple[str | Cell, ...]:
    since = f"alarm since {one.alarm_at:%Y-%m-%d}" if one.alarm_at is not None else ""
    title = next((metric.title for metric in report.metrics if metric.metric == one.metric), one.metric)
    return (
        title,
        one.variant,
        f"{'at most' if one.side == 'max' else 'at least'} {amounts.change(one.limit)}",
        amounts.change(one.relative),
        Cell(one.state, STATES[one.state]),
        "; ".join(filter(None, (since, *one.flags))),
    )


def _segments(report: ExperimentReport) -> Iterator[Block]:
    names = list(dict.fromkeys(one.segment for one in report.segments))
    blocks: list[Block] = []
    for i, name in enumerate(names):
        groups = [one for one in report.segments if one.segment == name]
        picture = experiment_pictures.segment_picture(report, groups, report.metrics[0], i, report.currency)
        rows = tuple(_segment_row(report, effect) for group in groups for effect in group.effects)
        differ = Bullets(
            tuple(
                f"{group.variant}: that the effect is the same for all values of {name} has "
                f"p = {amounts.chance(group.p_differ_adjusted)}, corrected for all segments."
                for group in groups
                if group.p_differ_adjusted is not None
            )
        )
        columns = ("Units", "Change", f"{100 * (1 - report.alpha):g}% interval", "p, corrected")
        table = Table(
            caption=f"{report.metrics[0].title} by {name}; p is corrected (Benjamini-Hochberg) for all values of all "
            "segments",
            columns=(Column(name), Column("Variant"), *(Column(one, right=True) for one in columns), Column("Note")),
            rows=rows,
        )
        blocks.append(
            Section(
                title=name,
                blocks=(*([picture] if picture is not None else []), table, *([differ] if differ.items else [])),
            )
        )
    if blocks:
        yield Section(title="By segment", id="segments", blocks=tuple(blocks))


def _segment_row(report: ExperimentReport, effect: Effect) -> tuple[str | Cell, ...]:
    assert effect.segment is not None
    value, interval = _change(report, report.metrics[0], effect)
    return (
        effect.segment[1],
        effect.variant,
        f"{effect.n:,}",
        value,
        interval,
        amounts.chance(effect.p_adjusted),
        "; ".join(effect.flags),
    )


def _novelty(report: ExperimentReport) -> Iterator[Block]:
    blocks: list[Block] = []
    for i, one in enumerate(report.novelty):
        picture = experiment_pictures.novelty_picture(report, one, report.metrics[0], i, report.currency)
        why = f" ({'; '.join(one.flags)})" if one.flags else ""
        p = f", p = {amounts.chance(one.p_value)}" if one.p_value is not None else ""
        blocks.append(Paragraph(f"{one.variant}: {TRENDS[one.trend]}{p}{why}."))
        if picture is not None:
            blocks.append(picture)
    if blocks:
        yield Section(title="Does it wear off?", id="novelty", blocks=tuple(blocks))


def _reach(report: ExperimentReport) -> Iterator[Block]:
    if not report.reach:
        return
    metric = report.metrics[0]

    def told(relative: float | None, absolute: float | None) -> str:
        if relative is not None:
            return amounts.change(relative)
        return amounts.difference(absolute, metric.unit, report.currency)

    rows = tuple(
        (
            one.variant,
            told(one.relative, one.absolute),
            told(one.relative_at_plan, one.absolute_at_plan) if report.planned_units else amounts.DASH,
            "; ".join(one.flags),
        )
        for one in report.reach
    )
    power = f"{report.reach[0].power:.0%}"
    table = Table(
        caption=f"The smallest change of {metric.title} that would be found with a power of {power}, in one look",
        columns=(
            Column("Variant"),
            Column("With the units so far", right=True),
            Column("At the planned size", right=True),
            Column("Note"),
        ),
        rows=rows,
    )
    yield Section(title="What it can find", id="power", blocks=(table,))


def _how(report: ExperimentReport) -> Fold:
    formulas: list[Text] = [
        (Strong(f"{metric.title} ({metric.role}): "), metric.formula, " · ", Code(metric.metric))
        for metric in report.metrics
    ]
    methods = dict.fromkeys(
        f"{metric.title}, {effect.variant}: {effect.method}" for metric in report.metrics for effect in metric.effects
    )
    columns = (Column("Statistic"), Column("Source"))
    return Fold(
        "How this was computed",
        (
            Paragraph("A unit counts from its first exposure on, in the variant that it met first."),
            Bullets(tuple(formulas)),
            Paragraph((Strong("Methods used"),)),
            Bullets(tuple(methods)),
            Table(
                caption="Where the statistics are from",
                columns=columns,
                rows=tuple((one.name, one.source) for one in STATISTICS),
            ),
        ),
    )


def _change_held(report: ExperimentReport, effect: Effect, look: Look | None) -> tuple[str, str]:
    """The change of the primary metric and the interval that holds at every look."""
    seen = held(look) if look is not None else None
    if seen is None:
        return amounts.NOT_KNOWN, why_unknown(effect) if look is not None else "no look yet"
    told = amounts.change if seen.relative else _difference(report)
    return told(seen.value), amounts.between(told(seen.low), told(seen.high))


def _change(report: ExperimentReport, metric: MetricEffects, effect: Effect) -> tuple[str, str]:
    """Relative where that means something."""
    if effect.relative is not None and effect.relative_low is not None:
        low, high = amounts.change(effect.relative_low), amounts.change(effect.relative_high)
        return amounts.change(effect.relative), amounts.between(low, high)

    def told(value: float | None) -> str:
        return amounts.difference(value, metric.unit, report.currency)

    return told(effect.absolute), amounts.between(told(effect.absolute_low), told(effect.absolute_high))


def _difference(report: ExperimentReport) -> Callable[[float], str]:
    return lambda value: amounts.difference(value, report.metrics[0].unit, report.currency)


def _amount(report: ExperimentReport, metric: MetricEffects, value: float | None) -> str:
    return amounts.amount(value, metric.unit, report.currency)


def _decided(outcome: str, at: datetime | None) -> str:
    return "not yet" if at is None else f"{outcome}, {at:%Y-%m-%d}"


def _sentence(text: str, *, capital: bool = True) -> str:
    told = _capital(text) if capital else text
    return told if told.endswith((".", "?", "!")) else f"{told}."


def _capital(text: str) -> str:
    """Names of metrics stay as they are."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    return text if "_" in first else text[:1].upper() + text[1:]
