"""What an experiment was set up to be, for the end of its report."""

from __future__ import annotations

from experiments.report import amounts
from experiments.report.document import Block, Bullets, Column, Fold, Paragraph, Strong, Table, Text
from features.experiment import HOLDOUT, Experiment, Phase, Variant


def set_up(experiment: Experiment) -> Fold:
    """Variants, whom it splits, and its phases."""
    facts: list[tuple[str, str]] = [
        ("Unit", experiment.unit),
        ("Layer", experiment.layer),
        ("Audience", experiment.audience or "everybody"),
        ("Traffic", f"{experiment.traffic:.4g} of all units"),
        ("Started", amounts.moment(experiment.started_at)),
        ("Stopped", _stopped(experiment)),
    ]
    if experiment.decided is not None:
        facts.append(("Decided", f"{experiment.decided.variant}: {experiment.decided.reason}"))
    items: list[Text] = [(Strong(f"{name}: "), value) for name, value in facts]
    blocks: list[Block] = [Bullets(tuple(items))]
    if experiment.experiment_id == HOLDOUT:
        blocks.append(Paragraph("Its share is the setting experiments.holdout; each change of it begins a phase."))
    else:
        blocks.append(_variants(experiment))
    if experiment.phases:
        blocks.append(_phases(experiment))
    return Fold("How it was set up", tuple(blocks))


def _stopped(experiment: Experiment) -> str:
    told = amounts.moment(experiment.stopped_at)
    return f"{told}: {experiment.stop_reason}" if experiment.stop_reason else told


def _variants(experiment: Experiment) -> Table:
    names = ("Policy", "Release", "Levers", "Treatments")
    return Table(
        caption="Variants; what one leaves out is as it is outside of the experiment",
        columns=(Column("Variant"), Column("Weight", right=True), *(Column(name) for name in names)),
        rows=tuple(_variant_row(one) for one in experiment.variants),
    )


def _variant_row(one: Variant) -> tuple[str, ...]:
    return (
        f"{one.name} (control)" if one.is_control else one.name,
        f"{one.weight:.4g}",
        one.policy or amounts.DASH,
        one.release or amounts.DASH,
        ", ".join(one.levers) or amounts.DASH,
        ", ".join(f"{offer}: {treatment}" for offer, treatment in one.treatments.items()) or amounts.DASH,
    )


def _phases(experiment: Experiment) -> Table:
    columns = ("From", "Until", "Traffic", "Weights")
    return Table(
        caption="Phases: in each, traffic and weights stood; variants are compared within a phase",
        columns=(Column("Phase"), *(Column(name) for name in columns)),
        rows=tuple(_phase_row(one) for one in experiment.phases),
    )


def _phase_row(one: Phase) -> tuple[str, ...]:
    weights = ", ".join(f"{name} {weight:.4g}" for name, weight in one.weights.items())
    return (
        str(one.number),
        amounts.moment(one.starts_at),
        amounts.moment(one.stops_at) if one.stops_at is not None else "now",
        f"{one.traffic:.4g}",
        weights,
    )
