"""How an experiment goes from draft to running, stopped and decided, and what may change on the way: pure functions.

Each refuses with `ExperimentRefused`: a code, the fields that stand in the way, and what was expected of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from experiments.assignment import N_BUCKETS, Ranges, first_free, n_buckets, n_held, together
from features.catalogue import Lever, Offer
from features.errors import BadInput, ExperimentRefused
from features.experiment import Decided, Experiment, ExperimentStatus, Phase

LIFECYCLE = ("status", "phases", "buckets", "started_at", "stopped_at", "stop_reason", "decided")
WRITABLE = tuple(name for name in Experiment.__struct_fields__ if name not in ("experiment_id", *LIFECYCLE))

CODES: Mapping[ExperimentStatus, str] = {  # of a refusal, by the state that refuses
    "draft": "experiment_not_started",
    "running": "experiment_running",
    "stopped": "experiment_over",
    "decided": "experiment_over",
}


def revised(stored: Experiment | None, wanted: Experiment, running: Sequence[Experiment], now: datetime) -> Experiment:
    """What is stored when these fields are wanted. A draft takes all; while it runs, weights may change, traffic grow.

    `running` are all experiments that run now.
    """
    if stored is None or stored.status == "draft":
        return wanted
    wanted = msgspec.structs.replace(wanted, **{name: getattr(stored, name) for name in LIFECYCLE})
    if wanted == stored:
        return stored
    if stored.status != "running":
        raise ExperimentRefused(
            CODES[stored.status],
            f"{stored.experiment_id} is {stored.status} and stays as it is; make another experiment under a new id",
            changed(stored, wanted),
        )
    fixed = [name for name in changed(stored, wanted) if name not in ("/traffic", "/variants")]
    if _without_weights(stored) != _without_weights(wanted):
        fixed.append("/variants")
    if fixed:
        told = ", ".join(name[1:] for name in fixed)
        raise ExperimentRefused(
            CODES[stored.status],
            f"{stored.experiment_id} is running, and {told} cannot change; only weights may, and traffic grow",
            fixed,
        )
    if wanted.traffic < stored.traffic:
        raise ExperimentRefused(
            CODES[stored.status],
            f"traffic is {wanted.traffic:g}, and of a running experiment it may only grow; expected at least "
            f"{stored.traffic:g}",
            ["/traffic"],
        )
    taken = _taken(wanted, n_buckets(wanted.traffic) - n_held(stored.buckets), running)
    phases = (*_ended(stored.phases, now), _phase(len(stored.phases) + 1, wanted, now))
    return msgspec.structs.replace(wanted, phases=phases, buckets=together(stored.buckets, taken))


def started(draft: Experiment, running: Sequence[Experiment], now: datetime) -> Experiment:
    """The experiment as it begins to run, with the first buckets of its layer that nobody holds."""
    _expect(draft, "draft", "start")
    others = [one for one in running if one.experiment_id != draft.experiment_id]
    _check_units(draft, others)
    _check_policies(draft, others)
    _check_shared(draft, others)
    return msgspec.structs.replace(
        draft,
        status="running",
        started_at=now,
        buckets=_taken(draft, n_buckets(draft.traffic), others),
        phases=(_phase(1, draft, now),),
    )


def stopped(experiment: Experiment, reason: str, now: datetime) -> Experiment:
    """From now on everybody is answered as if it were not there; its buckets are free for others."""
    _expect(experiment, "running", "stop")
    return msgspec.structs.replace(
        experiment, status="stopped", stopped_at=now, stop_reason=reason, phases=_ended(experiment.phases, now)
    )


def decided(experiment: Experiment, variant: str, reason: str, now: datetime, by: str | None) -> Experiment:
    """Which variant it was decided for. What follows from it, such as a promotion, is done by people."""
    _expect(experiment, "stopped", "decide")
    names = [one.name for one in experiment.variants]
    if variant not in names:
        raise BadInput(f"variant is {variant!r}, expected one of {', '.join(names)}", "/variant")
    verdict = Decided(variant=variant, reason=reason, at=now, by=by)
    return msgspec.structs.replace(experiment, status="decided", decided=verdict)


def removable(experiment: Experiment) -> None:
    """Refuses all but drafts: who was exposed under an id must not be exposed under it to something else."""
    if experiment.status != "draft":
        raise ExperimentRefused(
            CODES[experiment.status],
            f"{experiment.experiment_id} is {experiment.status}, only a draft can be deleted; what was shown to "
            "customers stays on record",
        )


def check_follows(stored: Experiment | None, wanted: Experiment) -> None:
    """Refuses what was made from another state than the stored one: it was started, stopped or changed meanwhile."""
    before = stored.phases if stored is not None else ()
    status = stored.status if stored is not None else "draft"
    kept = tuple(phase.number for phase in wanted.phases[: len(before)])
    if wanted.status != status or kept != tuple(phase.number for phase in before):
        raise ExperimentRefused(
            "experiment_changed", f"{wanted.experiment_id} was changed meanwhile; it is {status}. Try again"
        )


def untouched(old: object | None, new: object | None, experiments: Sequence[Experiment]) -> None:
    """Refuses a change of what a running variant is made of: of a lever it names, or to an offer without the treatment
    it names. None: it is not stored yet, or is to be removed.
    """
    for one in experiments:
        if one.status != "running":
            continue
        for variant in one.variants:
            if isinstance(old, Lever) and old.lever_id in variant.levers and old != new:
                raise ExperimentRefused(
                    CODES[one.status],
                    f"the lever {old.lever_id!r} is part of the variant {variant.name!r} of {one.experiment_id}, which "
                    "runs; expected it as it is until that is stopped, or another lever",
                )
            if isinstance(old, Offer) and old.offer_id in variant.treatments:
                named = variant.treatments[old.offer_id]
                left = new.treatments if isinstance(new, Offer) else old.treatments  # an archived offer is simply over
                if named not in [treatment.treatment_id for treatment in left]:
                    raise ExperimentRefused(
                        CODES[one.status],
                        f"the variant {variant.name!r} of {one.experiment_id}, which runs, shows the treatment "
                        f"{named!r} of {old.offer_id!r}; expected it among the treatments until that is stopped",
                        ["/treatments"],
                    )


def _expect(experiment: Experiment, status: str, move: str) -> None:
    if experiment.status != status:
        raise ExperimentRefused(
            CODES[experiment.status],
            f"{experiment.experiment_id} is {experiment.status}; {move} expects one that is {status} "
            "(the way is draft, running, stopped, decided)",
        )


def _phase(number: int, experiment: Experiment, now: datetime) -> Phase:
    weights = {variant.name: variant.weight for variant in experiment.variants}
    return Phase(number=number, starts_at=now, traffic=experiment.traffic, weights=weights)


def _ended(phases: Sequence[Phase], now: datetime) -> tuple[Phase, ...]:
    return (*phases[:-1], msgspec.structs.replace(phases[-1], stops_at=now))


def changed(stored: Experiment, wanted: Experiment) -> list[str]:
    """The fields that are wanted otherwise than they are stored, as JSON pointers."""
    return [f"/{name}" for name in WRITABLE if getattr(stored, name) != getattr(wanted, name)]


def _without_weights(experiment: Experiment) -> list[object]:
    return [msgspec.structs.replace(variant, weight=0.0) for variant in experiment.variants]


def _taken(experiment: Experiment, n: int, running: Sequence[Experiment]) -> Ranges:
    """`n` more buckets of its layer; `ExperimentRefused` names who holds them if there are not as many."""
    holders = [one for one in running if one.layer == experiment.layer]
    taken = first_free(n, [one.buckets for one in holders])
    if n_held(taken) < n:
        held = ", ".join(f"{one.experiment_id} holds {n_held(one.buckets):,}" for one in holders)
        raise ExperimentRefused(
            "overlapping_layers",
            f"traffic is {experiment.traffic:g}: {n:,} more buckets of layer {experiment.layer!r} are needed, "
            f"{n_held(taken):,} of {N_BUCKETS:,} are free ({held}); expected less traffic, another layer, or to wait",
            ["/traffic", "/layer"],
        )
    return taken


def _check_units(draft: Experiment, others: Sequence[Experiment]) -> None:
    for one in others:
        if one.layer == draft.layer and one.unit != draft.unit:
            raise ExperimentRefused(
                "overlapping_layers",
                f"unit is {draft.unit!r}, and {one.experiment_id}, which runs in layer {draft.layer!r}, splits by "
                f"{one.unit!r}: nothing would keep the two apart; expected {one.unit!r} or another layer",
                ["/unit", "/layer"],
            )


def _check_policies(draft: Experiment, others: Sequence[Experiment]) -> None:
    if not _sets_policy(draft):
        return
    for one in others:
        if one.layer != draft.layer and _sets_policy(one):
            raise ExperimentRefused(
                "policy_layer",
                f"layer is {draft.layer!r}, and {one.experiment_id} sets policy or release in layer {one.layer!r}; "
                f"only one layer may at a time: expected {one.layer!r}",
                ["/layer"],
            )


def _sets_policy(experiment: Experiment) -> bool:
    return any(variant.policy is not None or variant.release is not None for variant in experiment.variants)


def _check_shared(draft: Experiment, others: Sequence[Experiment]) -> None:
    """A lever, or the treatment of an offer, is set by one layer only: two would answer for it at once."""
    for one in others:
        if one.layer == draft.layer:
            continue
        for field, word in (("levers", "lever"), ("treatments", "the treatment of offer")):
            shared = {name for each in one.variants for name in getattr(each, field)}
            for i, variant in enumerate(draft.variants):
                for name in sorted(shared.intersection(getattr(variant, field))):
                    raise ExperimentRefused(
                        "overlapping_layers",
                        f"{word} {name!r} is set by {one.experiment_id} in layer {one.layer!r}; expected another one, "
                        "or that layer",
                        [f"/variants/{i}/{field}"],
                    )
