"""What is wrong with an experiment that no single field can say: weights, names that lead nowhere, bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator

from experiments.assignment import N_BUCKETS, n_buckets
from experiments.metrics import EXPERIMENT_METRICS
from features.experiment import HOLDOUT, Experiment, Variant
from features.language import BadRule, parse, variables
from serving.api.known import Known
from serving.policies import POLICIES
from serving.problems import Fault

WEIGHTS_WITHIN = 1e-9  # of 1, added up


def faults_of(experiment: Experiment, known: Known) -> Iterator[Fault]:
    """Each with the field and what was expected. Asked again at the start: what it names may have gone meanwhile."""
    if experiment.experiment_id == HOLDOUT:
        yield Fault(
            "/experiment_id", f"experiment_id: {HOLDOUT!r} is the global holdout's own; expected another", "invalid"
        )
    yield from split_faults(experiment)
    for i, variant in enumerate(experiment.variants):
        yield from _variant(variant, f"/variants/{i}", known)
    yield from _metrics(experiment)
    yield from _guardrails(experiment)
    yield from _audience(experiment, known)


def split_faults(experiment: Experiment) -> Iterator[Fault]:
    """What is wrong with its traffic, and with whom it splits it over."""
    if not n_buckets(experiment.traffic):
        yield Fault("/traffic", f"traffic: is {experiment.traffic:g}, expected at least one of {N_BUCKETS:,} buckets")
    seen: set[str] = set()
    for i, variant in enumerate(experiment.variants):
        if variant.name in seen:
            yield Fault(f"/variants/{i}/name", f"name: {variant.name!r} stands twice, expected different names")
        seen.add(variant.name)
        if not n_buckets(variant.weight):
            yield Fault(
                f"/variants/{i}/weight", f"weight: is {variant.weight:g}, expected at least 1 of {N_BUCKETS:,} buckets"
            )
    total = math.fsum(variant.weight for variant in experiment.variants)
    if abs(total - 1.0) > WEIGHTS_WITHIN:
        yield Fault("/variants", f"variants: their weights sum to {total:.12g}, expected 1")
    n_controls = sum(variant.is_control for variant in experiment.variants)
    if n_controls != 1:
        yield Fault("/variants", f"variants: {n_controls} have is_control, expected exactly one")


def _variant(variant: Variant, at: str, known: Known) -> Iterator[Fault]:
    if variant.policy is not None and variant.policy not in POLICIES:
        yield Fault(f"{at}/policy", f"policy: is {variant.policy!r}, expected one of {', '.join(POLICIES)}")
    if variant.release is not None and variant.release not in known.releases:
        expected = f"one of {', '.join(known.releases)}" if known.releases else "none: no release was exported yet"
        yield Fault(f"{at}/release", f"release: is {variant.release!r}, expected {expected}")
    for j, lever in enumerate(variant.levers):
        if lever not in known.levers and lever not in known.doubtful:
            yield Fault(f"{at}/levers/{j}", f"levers: there is no lever {lever!r}, expected one that is stored")
        if lever in variant.levers[:j]:
            yield Fault(f"{at}/levers/{j}", f"levers: {lever!r} stands twice")
    for offer_id, treatment_id in variant.treatments.items():
        pointer = f"{at}/treatments/{offer_id.replace('~', '~0').replace('/', '~1')}"
        offer = known.offers.get(offer_id)
        if offer is None and offer_id not in known.doubtful:
            yield Fault(pointer, f"treatments: there is no offer {offer_id!r}, expected one that is stored")
        elif offer is not None and treatment_id not in (names := [one.treatment_id for one in offer.treatments]):
            yield Fault(
                pointer, f"treatments: offer {offer_id!r} has no {treatment_id!r}, expected one of {', '.join(names)}"
            )


def _metrics(experiment: Experiment) -> Iterator[Fault]:
    named = [("/primary_metric", experiment.primary_metric)]
    named += [(f"/secondary_metrics/{i}", name) for i, name in enumerate(experiment.secondary_metrics)]
    seen: set[str] = set()
    for at, name in named:
        yield from _metric(at, name)
        if name in seen:
            yield Fault(at, f"{at.split('/')[1]}: {name!r} stands twice, expected each metric once")
        seen.add(name)


def _metric(at: str, name: str) -> Iterator[Fault]:
    if name not in EXPERIMENT_METRICS:
        yield Fault(
            at, f"{at.rpartition('/')[2]}: there is no metric {name!r}, expected one of {', '.join(EXPERIMENT_METRICS)}"
        )


def _guardrails(experiment: Experiment) -> Iterator[Fault]:
    seen: set[str] = set()
    for i, one in enumerate(experiment.guardrails):
        yield from _metric(f"/guardrails/{i}/metric", one.metric)
        if one.metric in seen:
            yield Fault(f"/guardrails/{i}/metric", f"metric: {one.metric!r} has a guardrail already")
        seen.add(one.metric)
        if one.max_relative is None and one.min_relative is None:
            yield Fault(
                f"/guardrails/{i}", "guardrails: expected max_relative (how far it may rise) or min_relative (fall)"
            )


def _audience(experiment: Experiment, known: Known) -> Iterator[Fault]:
    if experiment.audience is None:
        return
    faults = list(known.rule_faults(experiment.audience, "/audience", Experiment, experiment.experiment_id))
    yield from faults
    if faults:
        return
    try:
        named = {".".join(("offer", *one.path)) for one in variables(parse(experiment.audience)) if one.root == "offer"}
    except BadRule:  # told already
        return
    if named:
        yield Fault(
            "/audience",
            f"audience: names {', '.join(sorted(named))}, and nobody has an offer when experiments are assigned; "
            "expected features and attributes of the customer, consent.x or context.x",
            "bad_rule",
        )
