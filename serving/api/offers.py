"""`/v1/offers`: what may be offered."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.catalogue import Offer, Treatment
from features.errors import BadInput
from features.facts import Stored
from serving.api import catalogue
from serving.api.catalogue import ETAG, IfMatch, PageQuery, StoredOut
from serving.api.door import Door, needs, problems
from serving.api.fields import (
    Amount,
    Body,
    Currency,
    EmptyForNow,
    FalseForNow,
    Free,
    Label,
    Name,
    NullForNow,
    ObjectId,
    ObjectIdInPath,
    Time,
)
from serving.api.service import Served

router = APIRouter(prefix="/v1/offers", tags=["catalogue"], route_class=Door)


class TreatmentBody(Body):
    """One creative. Empty channels or placements: all."""

    treatment_id: Label
    payload: Free = Field({})
    channels: list[Label] = Field([])
    placements: list[ObjectId] = Field([])


class OfferBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset({"offer_id", "version", "updated_at"})

    name: Name
    category: Label | None = None
    value: Amount = Field(description="Expected margin of one acceptance, before cost.")
    currency: Currency | None = Field(None, description="The deployment's; another is a 422.")
    cost: NullForNow = Field(None, description="Not built yet.")
    status: Literal["draft", "approved", "archived"] = "draft"
    starts_at: Time | None = Field(None, description="Inclusive.")
    ends_at: Time | None = Field(None, description="Exclusive.")
    channels: list[Label] = Field([], description="Empty: all.")
    placements: list[ObjectId] = Field([], description="Empty: all.")
    eligibility: NullForNow = Field(None, description="Not built yet.")
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    retention: bool = False
    inventory: NullForNow = Field(None, description="Not built yet.")
    budget: NullForNow = Field(None, description="Not built yet.")
    caps: EmptyForNow = Field([], description="Not built yet.")
    pacing: FalseForNow = Field(False, description="Not built yet.")
    attributes: Free = Field({})
    treatments: Annotated[list[TreatmentBody], Field(min_length=1, max_length=100)]


class OfferOut(OfferBody, StoredOut):
    """An offer as stored."""

    offer_id: str


class OffersOut(pydantic.BaseModel):
    offers: list[OfferOut]
    next_cursor: str | None


@router.put(
    "/{offer_id}",
    response_model=OfferOut,
    responses={
        **problems(400, 401, 403, 412, 413, 415, 422, 503),
        200: {"description": "Replaced.", **ETAG},
        201: {"description": "Created.", "model": OfferOut, **ETAG},
    },
    **needs("catalogue"),
)
def put(offer_id: ObjectIdInPath, body: OfferBody, service: Served, if_match: IfMatch = None) -> Response:
    """Replaces the offer whole; what is left out gets its default."""
    offer = offer_of(offer_id, body, service.currency)
    stored = service.facts.put(offer, service.clock(), if_match)
    service.catalogue_changed()
    return catalogue.put(stored, show)


@router.get(
    "/{offer_id}",
    response_model=OfferOut,
    responses={**problems(401, 403, 404, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def get(offer_id: ObjectIdInPath, service: Served) -> Response:
    """The offer as stored."""
    return catalogue.one(service.facts.get(Offer, offer_id), show)


@router.delete(
    "/{offer_id}",
    response_model=OfferOut,
    responses={**problems(401, 403, 404, 412, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def archive(offer_id: ObjectIdInPath, service: Served, if_match: IfMatch = None) -> Response:
    """Archives the offer: it is never returned by a decision again, and its history stays."""
    with service.facts.transaction():
        offer = msgspec.structs.replace(service.facts.get(Offer, offer_id).body, status="archived")
        stored = service.facts.put(offer, service.clock(), if_match)
    service.catalogue_changed()
    return catalogue.one(stored, show)


@router.get("", response_model=OffersOut, responses=problems(401, 403, 422, 503), **needs("catalogue"))
def page(asked: PageQuery, service: Served) -> Response:
    """Offers ordered by id, archived ones too."""
    return catalogue.page(service.facts, Offer, asked, show, "offers", "offer_id")


def show(stored: Stored[Offer]) -> dict[str, Any]:
    """The offer with every field of the contract."""
    offer = stored.body
    return {
        "offer_id": offer.offer_id,
        "name": offer.name,
        "category": offer.category,
        "value": offer.value,
        "currency": offer.currency,
        "cost": None,
        "status": offer.status,
        "starts_at": offer.starts_at,
        "ends_at": offer.ends_at,
        "channels": offer.channels,
        "placements": offer.placements,
        "eligibility": None,
        "priority": offer.priority,
        "retention": offer.retention,
        "inventory": None,
        "budget": None,
        "caps": [],
        "pacing": False,
        "attributes": offer.attributes,
        "treatments": [msgspec.to_builtins(treatment) for treatment in offer.treatments],
        "version": stored.version,
        "updated_at": stored.updated_at,
    }


def from_fields(offer_id: str, fields: dict[str, Any], currency: str) -> Offer:
    """The offer of plain fields, checked as a request's body is."""
    return offer_of(offer_id, OfferBody.model_validate(fields), currency)


def offer_of(offer_id: str, body: OfferBody, currency: str) -> Offer:
    """The offer to store, with the checks that no single field can make."""
    if body.currency is not None and body.currency != currency:
        raise BadInput(f"currency is {body.currency}, this deployment's is {currency}", "/currency")
    if body.starts_at is not None and body.ends_at is not None and body.starts_at >= body.ends_at:
        raise BadInput("ends_at must be later than starts_at", "/ends_at")
    seen: set[str] = set()
    for i, treatment in enumerate(body.treatments):
        if treatment.treatment_id in seen:
            raise BadInput("each treatment_id may stand once in an offer", f"/treatments/{i}/treatment_id")
        seen.add(treatment.treatment_id)
    return Offer(
        offer_id=offer_id,
        name=body.name,
        category=body.category,
        value=body.value,
        currency=currency,
        status=body.status,
        starts_at=body.starts_at,
        ends_at=body.ends_at,
        channels=tuple(body.channels),
        placements=tuple(body.placements),
        priority=body.priority,
        retention=body.retention,
        attributes=body.attributes,
        treatments=tuple(
            Treatment(
                treatment_id=t.treatment_id,
                payload=t.payload,
                channels=tuple(t.channels),
                placements=tuple(t.placements),
            )
            for t in body.treatments
        ),
    )
