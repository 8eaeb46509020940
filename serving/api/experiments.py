"""`/v1/experiments`: what is tried on whom, from draft to decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from fastapi import APIRouter, Query, Response
from pydantic import Field

from features.experiment import Experiment
from features.facts import Change, Facts, Stored
from serving import experiment_lifecycle as lifecycle
from serving.api import catalogue
from serving.api.catalogue import ETAG, IfMatch, Page, StoredOut
from serving.api.door import Caller, Door, needs, problems
from serving.api.experiment_checks import faults_of, split_faults
from serving.api.fields import Body, Label, Name, ObjectId, ObjectIdInPath, Rule
from serving.api.known import Known
from serving.api.service import Served, Service
from serving.keys import Key

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=Door)
MOST_CHANGES = 50  # shown of one experiment, the newest
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class VariantBody(Body):
    """What its share of the units meets."""

    name: ObjectId
    weight: Share = Field(description="Share of the experiment's units; those of all variants sum to 1.")
    is_control: bool = Field(False, description="Of exactly one variant: what the others are compared with.")
    policy: Label | None = Field(None, description="A policy's name. Null: the service's.")
    release: Label | None = Field(None, description="The number of an exported release. Null: the champion.")
    levers: list[ObjectId] = Field(
        [], max_length=100, description="A lever that any variant names weighs only where the variant names it."
    )
    treatments: dict[str, str] = Field({}, description="Which treatment an offer is shown with, by offer_id.")


class GuardrailBody(Body):
    """How far a variant's metric may be from control's, as variant ÷ control − 1."""

    metric: Label
    max_relative: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] | None = Field(
        None, description="It may not rise by more."
    )
    min_relative: Annotated[float, Field(ge=-1, le=0, allow_inf_nan=False)] | None = Field(
        None, description="It may not fall by more: -0.05 is 5 % less."
    )


class ExperimentBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"experiment_id", "version", "updated_at", "warnings", "changes", *lifecycle.LIFECYCLE}
    )

    hypothesis: Name = Field(description="What is expected to happen, and why.")
    unit: Literal["customer", "session"] = Field("customer", description="What is split.")
    layer: ObjectId = Field("default", description="Experiments of one layer share no unit.")
    audience: Rule | None = Field(None, description="A rule over the customer and the context. Null: everybody.")
    traffic: Share = Field(1.0, description="Share of all units that take part.")
    variants: Annotated[list[VariantBody], Field(min_length=2, max_length=20)]
    primary_metric: Label
    secondary_metrics: list[Label] = Field([], max_length=50)
    guardrails: list[GuardrailBody] = Field([], max_length=50)
    planned_units: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = Field(
        None, description="How many units are to be exposed before it is decided."
    )
    alpha: Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)] = Field(
        0.05, description="How often a variant without effect may be taken for one that has some."
    )


class PhaseOut(pydantic.BaseModel):
    """A span in which traffic and weights stood."""

    number: int
    starts_at: datetime
    traffic: float
    weights: dict[str, float]
    stops_at: datetime | None


class DecidedOut(pydantic.BaseModel):
    """How it ended."""

    variant: str
    reason: str
    at: datetime
    by: str | None


class ExperimentChange(pydantic.BaseModel):
    """One change of an experiment."""

    version: int
    changed_at: datetime
    by: str | None = Field(description="Whose key, or which command.")
    change: Literal["created", "replaced", "removed", "started", "reallocated", "stopped", "decided"]
    set: dict[str, Any] = Field(description="The fields that this change gave another value.")


class ExperimentOut(ExperimentBody, StoredOut):
    """An experiment as stored."""

    experiment_id: str
    status: Literal["draft", "running", "stopped", "decided"]
    phases: list[PhaseOut]
    buckets: list[tuple[int, int]] = Field(description="Ranges [from, to) of its layer's 10,000, held while it runs.")
    started_at: datetime | None
    stopped_at: datetime | None
    stop_reason: str | None
    decided: DecidedOut | None
    changes: list[ExperimentChange] = Field(description="The newest first, up to 50.")


class ExperimentPage(Page):
    deleted: bool = Field(False, description="Drafts that were deleted, instead of those that are there.")


class ExperimentsOut(pydantic.BaseModel):
    experiments: list[ExperimentOut]
    next_cursor: str | None


class StopBody(Body):
    reason: Name = Field(description="Why; kept with the experiment.")


class DecideBody(Body):
    variant: Label = Field(description="Which variant it was decided for.")
    reason: Name = Field(description="Why; kept with the experiment.")


MOVED: dict[str, Any] = {
    "response_model": ExperimentOut,
    "responses": {**problems(400, 401, 403, 404, 409, 412, 413, 415, 422, 503), 200: ETAG},
    **needs("catalogue"),
}


@router.put(
    "/{experiment_id}",
    response_model=ExperimentOut,
    responses={
        **problems(400, 401, 403, 409, 412, 413, 415, 422, 503),
        200: {"description": "Replaced.", **ETAG},
        201: {"description": "Created.", "model": ExperimentOut, **ETAG},
    },
    **needs("catalogue"),
)
def put(
    experiment_id: ObjectIdInPath, body: ExperimentBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Replaces a draft whole; while it runs, only weights may change and traffic grow, which starts a new phase."""

    def make() -> Experiment:
        return experiment_of(experiment_id, body, Known.of(service))

    return catalogue.changed(service, caller, make, if_match, partial(show, service.facts))


@router.get(
    "/{experiment_id}",
    response_model=ExperimentOut,
    responses={**problems(401, 403, 404, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def get(experiment_id: ObjectIdInPath, service: Served) -> Response:
    """The experiment as stored, with its phases and changes."""
    return catalogue.one(service.facts.get(Experiment, experiment_id), partial(show, service.facts))


@router.delete(
    "/{experiment_id}",
    response_model=ExperimentOut,
    responses={**problems(401, 403, 404, 409, 412, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def delete(experiment_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Deletes a draft; what was started stays on record. The answer is what it was."""
    with service.facts.transaction():
        lifecycle.removable(service.facts.get(Experiment, experiment_id).body)
        stored = service.facts.get(Experiment, experiment_id)
        service.facts.remove(Experiment, experiment_id, service.clock(), if_match, catalogue.author(caller))
    service.catalogue_changed()
    return catalogue.one(stored, partial(show, service.facts))


@router.get("", response_model=ExperimentsOut, responses=problems(401, 403, 422, 503), **needs("catalogue"))
def page(asked: Annotated[ExperimentPage, Query()], service: Served) -> Response:
    """Experiments ordered by id; or drafts that were deleted, each as it last was."""
    return catalogue.page(
        service,
        Experiment,
        asked,
        partial(show, service.facts),
        "experiments",
        "experiment_id",
        removed=asked.deleted,
    )


@router.post("/{experiment_id}/start", **MOVED)
def start(experiment_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Starts a draft: it takes buckets of its layer, and units meet its variants from now on."""
    return _moved(service, caller, experiment_id, starting(Known.of(service)), if_match)


@router.post("/{experiment_id}/stop", **MOVED)
def stop(
    experiment_id: ObjectIdInPath, body: StopBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Stops a running experiment: everybody is answered as if it were not there."""
    return _moved(
        service, caller, experiment_id, partial(lifecycle.stopped, reason=body.reason, now=service.clock()), if_match
    )


@router.post("/{experiment_id}/decide", **MOVED)
def decide(
    experiment_id: ObjectIdInPath, body: DecideBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Says which variant a stopped experiment was decided for. It changes nothing that customers meet."""
    by = catalogue.author(caller)
    deciding = partial(lifecycle.decided, variant=body.variant, reason=body.reason, now=service.clock(), by=by)
    return _moved(service, caller, experiment_id, deciding, if_match)


def _moved(
    service: Service, caller: Key, name: str, move: Callable[[Experiment], Experiment], if_match: str | None
) -> Response:
    def make() -> Experiment:
        return move(service.facts.get(Experiment, name).body)

    return catalogue.changed(service, caller, make, if_match, partial(show, service.facts))


def starting(known: Known) -> Callable[[Experiment], Experiment]:
    """The move from draft to running; `Invalid` if what the experiment names has gone since it was stored."""

    def move(draft: Experiment) -> Experiment:
        made = lifecycle.started(draft, _running(known), known.now())
        catalogue.refuse(faults_of(draft, known))
        return made

    return move


def experiment_of(experiment_id: str, body: ExperimentBody, known: Known) -> Experiment:
    """The experiment to store, with the checks that no single field can make, and its lifecycle as it stands."""
    wanted = catalogue.made(Experiment, body, experiment_id=experiment_id)
    stored = next((one for one in known.experiments if one.experiment_id == experiment_id), None)
    made = lifecycle.revised(stored, wanted, _running(known), known.now())
    if made.status == "draft":
        catalogue.refuse(faults_of(made, known))
    elif made != stored:  # nothing but its split may have changed
        catalogue.refuse(split_faults(made))
    return made


def _running(known: Known) -> list[Experiment]:
    return [one for one in known.experiments if one.status == "running"]


def show(facts: Facts, stored: Stored[Experiment]) -> dict[str, Any]:
    """The experiment with every field of the contract."""
    changes = facts.changes(Experiment, stored.body.experiment_id, MOST_CHANGES + 1)
    return {**catalogue.shown(stored), "changes": list(_told(changes))[:MOST_CHANGES]}


def _told(changes: Sequence[Change[Experiment]]) -> Iterator[dict[str, Any]]:
    """Each change beside the one before it; the oldest is compared with nothing."""
    for change, before in zip(changes, [*changes[1:], None], strict=True):
        old = before.body if before is not None else None
        was = catalogue.plain(old) if old is not None else None
        new = catalogue.plain(change.body) if change.body is not None else {}
        yield {
            "version": change.version,
            "changed_at": change.at,
            "by": change.by,
            "change": _word(old, change.body),
            "set": {name: value for name, value in new.items() if was is None or was[name] != value},
        }


def _word(old: Experiment | None, new: Experiment | None) -> str:
    if new is None:
        return "removed"
    if old is None:
        return "created"
    if new.status == old.status:
        return "reallocated" if new.status == "running" else "replaced"
    return "started" if new.status == "running" else new.status
