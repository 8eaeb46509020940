"""`/v1/decisions`: what to offer this customer now."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, NamedTuple

import orjson
import pydantic
from fastapi import APIRouter, Request, Response
from pydantic import Field

from features.errors import BadInput, NotFound, StoreUnavailable
from features.events import parse_time, to_us, visitor_key
from features.log import DecisionRow, Exposure
from serving.api.answers import answer_dict, encoded, submit, visitor
from serving.api.door import Caller, Door, limiter_of, needs, problems
from serving.api.fields import Body, CustomerId, Free, Label, ObjectId, ObjectIdInPath, Time, Token
from serving.api.service import Served, Service
from serving.decision import Decision, DecisionRequest, PlacementRequest
from serving.public_keys import check_decision, shorter
from serving.state.idempotency import Kept, Scope, digest_of

MOST_CONTEXT_KEYS = 64
MOST_CONTEXT_BYTES = 16 * 1024
JSON = "application/json"

router = APIRouter(prefix="/v1/decisions", tags=["decisions"], route_class=Door)


class Question(NamedTuple):
    """What is asked, and when its body had been read, by the event loop's clock."""

    request: DecisionRequest
    received: float
    public: bool = False  # by a key in a web page, which sees less

    @property
    def until(self) -> float:
        """When the answer to whether there is an answer already must be there."""
        return self.received + 0.5 * self.request.deadline_ms / 1000.0


class PlacementAsked(Body):
    placement_id: ObjectId
    limit: Annotated[int, Field(ge=1, le=100)] = 1


class DecisionIn(Body):
    """Who is looking, and where something may be shown."""

    customer_id: CustomerId | None = Field(None, description="Exactly one of customer_id and anonymous_id.")
    anonymous_id: CustomerId | None = None
    customer_token: Token | None = Field(None, description="With a public key: the site's word for the customer_id.")
    placements: Annotated[list[PlacementAsked], Field(min_length=1, max_length=20)]
    channel: Label | None = Field(None, description="Left out: each placement's own.")
    context: Free = Field({}, description=f"Free; at most {MOST_CONTEXT_KEYS} keys and {MOST_CONTEXT_BYTES:,} bytes.")
    exclude_offer_ids: list[ObjectId] = Field([], max_length=1000)
    idempotency_key: Label | None = Field(
        None, description="The same body gives the same answer for 24 hours; another body is a 409."
    )
    deadline_ms: Annotated[int, Field(ge=5, le=5000)] = 100
    explain: bool = Field(False, description="Why each offer was chosen, and why each other one was not.")
    dry_run: bool = Field(False, description="Logs nothing and uses up nothing.")


class OfferOut(pydantic.BaseModel):
    rank: int
    offer_id: str
    treatment_id: str
    score: float
    p_accept: float = Field(description="The model's probability that this customer accepts this offer here and now.")
    selection_probability: float = Field(
        description="The policy's probability of this offer at this rank, given the offers above it."
    )
    value: float
    reason_codes: list[str]
    payload: Free
    is_fallback: bool
    factors: Free | None = Field(None, description="With `explain`: what made the score, in the order of calculation.")
    reasons: list[str] | None = Field(None, description="With `explain`: the reason codes as sentences for customers.")


class NotOfferedOut(pydantic.BaseModel):
    """Either the first rule that dropped the offer and what it saw, or the offer's rank in the draw."""

    offer_id: str
    rule: str | None = None
    seen: Free | None = None
    rank: int | None = Field(None, description="By priority, then score, among all that took part in the draw.")


class PlacementOut(pydantic.BaseModel):
    placement_id: str
    offers: list[OfferOut]
    not_offered: list[NotOfferedOut] | None = Field(None, description="With `explain`: every other live offer.")


class ExperimentOut(pydantic.BaseModel):
    experiment_id: str
    variant: str
    phase: int
    is_control: bool


class VersionsOut(pydantic.BaseModel):
    release: str | None
    recommender: str | None
    acceptance: str | None
    churn: str | None


class DegradedOut(pydantic.BaseModel):
    code: str
    action: str


class DecisionOut(pydantic.BaseModel):
    """What to show. "No offer" is an empty list."""

    decision_id: str
    customer_id: str | None
    anonymous_id: str | None = Field(None, description="Only in answers to an anonymous_id.")
    decided_at: Time
    expires_at: Time
    currency: str
    placements: list[PlacementOut]
    policy: str
    experiments: list[ExperimentOut]
    holdout: bool
    model_versions: VersionsOut
    degraded: list[DegradedOut]


class LoggedDecisionOut(DecisionOut):
    """A decision as logged, with what it was made from."""

    model_config = pydantic.ConfigDict(extra="allow")


@router.post(
    "",
    response_model=DecisionOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 429),
    **needs("decide", public=True),
)
async def decide(body: DecisionIn, caller: Caller, service: Served, http: Request) -> Response:
    """The next best offers for one customer, in one or more placements.

    A public key gets a shorter answer: without score, p_accept, value, model_versions and experiments, and of the
    reason codes those that a customer may read.
    """
    request = request_of(body)
    check_decision(
        caller, body.customer_id, body.customer_token, time.time(), explain=body.explain, dry_run=body.dry_run
    )
    limiter_of(http).charge_visitor(caller, request.customer_id)
    asked = Question(request, http.state.received, caller.kind == "public")
    return Response(await answered(service, caller.key_id, body, asked), media_type=JSON)


@router.get(
    "/{decision_id}",
    response_model=LoggedDecisionOut,
    responses=problems(401, 403, 404, 422, 503),
    **needs("decide", "admin"),
)
def logged(decision_id: ObjectIdInPath, service: Served) -> Response:
    """One decision as it was logged."""
    row = service.log_store.decision(decision_id)
    if row is None:
        raise NotFound("decision", decision_id)
    found = orjson.loads(row.payload)
    return Response(orjson.dumps({**found, **visitor(found["customer_id"])}), media_type=JSON)


async def answered(service: Service, key_id: str, body: DecisionIn, asked: Question) -> bytes:
    """The answer, on its way into the log."""
    if body.idempotency_key is not None and not body.dry_run:
        return await _decided_once(service, key_id, body, asked)
    answer, decision = await _decided(service, asked)
    if not body.dry_run:
        await _log(service, decision)
    return answer


async def _decided_once(service: Service, key_id: str, body: DecisionIn, asked: Question) -> bytes:
    """The answer that this idempotency key has, or gets now. Without its store: an answer that says so."""
    assert body.idempotency_key is not None
    decided: list[Decision] = []

    async def make() -> Kept:
        answer, decision = await _decided(service, asked)
        decided.append(decision)
        return Kept(answer, decision.log_payload)

    scope = Scope(key_id, asked.request.customer_id, body.idempotency_key)
    try:
        kept = await service.idempotency.once(
            scope, digest_of(body.model_dump(exclude={"customer_token"})), make, asked.until
        )
    except StoreUnavailable as error:
        logging.getLogger(__name__).warning("idempotency: %s", error)
        answer, decision = await _decided(service, asked, ("state_unavailable", "the idempotency_key was not kept"))
        await _log(service, decision)
        return answer
    if not kept.replayed:
        await _log(service, decided[-1])
        return kept.answer
    answer = orjson.loads(kept.answer)
    if service.log_store.decision(answer["decision_id"]) is None:
        await _log_row(service, _row_of(kept.record))  # whoever decided it may have died before the log had it
    less = await service.answering.still_allowed(asked.request, answer)
    return kept.answer if less is None else encoded(less)


async def _decided(service: Service, asked: Question, *also_degraded: tuple[str, str]) -> tuple[bytes, Decision]:
    decision = await service.answering.decide(asked.request, asked.received)
    answer = answer_dict(service, decision, also_degraded)
    body = encoded(shorter(answer) if asked.public else answer)
    service.meter.answered(decision, asked.request, time.monotonic() - asked.received)
    return body, decision


def request_of(body: DecisionIn) -> DecisionRequest:
    """The question, with the checks that no single field can make."""
    if (body.customer_id is None) == (body.anonymous_id is None):
        raise BadInput("exactly one of customer_id and anonymous_id is needed", "/customer_id")
    seen: set[str] = set()
    for i, placement in enumerate(body.placements):
        if placement.placement_id in seen:
            raise BadInput("each placement may be asked for once", f"/placements/{i}/placement_id")
        seen.add(placement.placement_id)
    if len(body.context) > MOST_CONTEXT_KEYS or len(orjson.dumps(body.context)) > MOST_CONTEXT_BYTES:
        raise BadInput(f"context has at most {MOST_CONTEXT_KEYS} keys and {MOST_CONTEXT_BYTES:,} bytes", "/context")
    return DecisionRequest(
        customer_id=visitor_key(body.customer_id, body.anonymous_id),
        placements=tuple(PlacementRequest(p.placement_id, p.limit) for p in body.placements),
        channel=body.channel,
        context=body.context,
        exclude_offer_ids=frozenset(body.exclude_offer_ids),
        deadline_ms=body.deadline_ms,
        explain=body.explain,
        dry_run=body.dry_run,
    )


async def _log(service: Service, decision: Decision) -> None:
    written = submit(service, decision)
    if written is not None:
        await asyncio.wrap_future(written)


async def _log_row(service: Service, row: DecisionRow) -> None:
    written = service.log.submit_decisions([row])
    if service.settings.durable_decisions:
        await asyncio.wrap_future(written)


def _row_of(record: bytes) -> DecisionRow:
    found = orjson.loads(record)
    held_out = found.get("holdout_entry")  # a decision that could not be made has none
    met = [*found["experiments"], *([held_out] if held_out else [])]
    return DecisionRow(
        found["decision_id"],
        found["customer_id"],
        to_us(parse_time(found["decided_at"])),
        record,
        exposures=[Exposure(one["experiment_id"], one["phase"], one["unit_id"], one["variant"]) for one in met],
    )
