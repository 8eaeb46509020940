"""`/v1/placements`: where something may be offered."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.catalogue import Placement
from features.facts import Stored
from serving.api import catalogue
from serving.api.catalogue import ETAG, IfMatch, PageQuery, StoredOut
from serving.api.door import Door, needs, problems
from serving.api.fields import Body, Label, Name, ObjectId, ObjectIdInPath
from serving.api.service import Served

router = APIRouter(prefix="/v1/placements", tags=["catalogue"], route_class=Door)


class PlacementBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset({"placement_id", "version", "updated_at"})

    name: Name
    channel: Label
    max_offers: Annotated[int, Field(ge=1, le=100)] = 10
    fallback_offer_id: ObjectId | None = Field(None, description="Shown when no other offer may be.")
    guaranteed_offer_ids: list[ObjectId] = Field([], max_length=100)
    max_per_category: Annotated[int, Field(ge=1, le=100)] | None = None


class PlacementOut(PlacementBody, StoredOut):
    """A placement as stored."""

    placement_id: str


class PlacementsOut(pydantic.BaseModel):
    placements: list[PlacementOut]
    next_cursor: str | None


@router.put(
    "/{placement_id}",
    response_model=PlacementOut,
    responses={
        **problems(400, 401, 403, 412, 413, 415, 422, 503),
        200: {"description": "Replaced.", **ETAG},
        201: {"description": "Created.", "model": PlacementOut, **ETAG},
    },
    **needs("catalogue"),
)
def put(placement_id: ObjectIdInPath, body: PlacementBody, service: Served, if_match: IfMatch = None) -> Response:
    """Replaces the placement whole; what is left out gets its default."""
    placement = placement_of(placement_id, body)
    stored = service.facts.put(placement, service.clock(), if_match)
    service.catalogue_changed()
    return catalogue.put(stored, show)


@router.get(
    "/{placement_id}",
    response_model=PlacementOut,
    responses={**problems(401, 403, 404, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def get(placement_id: ObjectIdInPath, service: Served) -> Response:
    """The placement as stored."""
    return catalogue.one(service.facts.get(Placement, placement_id), show)


@router.delete(
    "/{placement_id}",
    response_model=PlacementOut,
    responses={**problems(401, 403, 404, 412, 422, 503), 200: ETAG},
    **needs("catalogue"),
)
def archive(placement_id: ObjectIdInPath, service: Served, if_match: IfMatch = None) -> Response:
    """Takes the placement out of use; its history stays. The answer is what it was."""
    with service.facts.transaction():
        stored = service.facts.get(Placement, placement_id)
        service.facts.remove(Placement, placement_id, service.clock(), if_match)
    service.catalogue_changed()
    return catalogue.one(stored, show)


@router.get("", response_model=PlacementsOut, responses=problems(401, 403, 422, 503), **needs("catalogue"))
def page(asked: PageQuery, service: Served) -> Response:
    """Placements ordered by id."""
    return catalogue.page(service.facts, Placement, asked, show, "placements", "placement_id")


def from_fields(placement_id: str, fields: dict[str, Any], currency: str) -> Placement:
    """The placement of plain fields, checked as a request's body is; placements have no money."""
    return placement_of(placement_id, PlacementBody.model_validate(fields))


def placement_of(placement_id: str, body: PlacementBody) -> Placement:
    return Placement(
        placement_id=placement_id,
        name=body.name,
        channel=body.channel,
        max_offers=body.max_offers,
        fallback_offer_id=body.fallback_offer_id,
        guaranteed_offer_ids=tuple(body.guaranteed_offer_ids),
        max_per_category=body.max_per_category,
    )


def show(stored: Stored[Placement]) -> dict[str, Any]:
    """The placement with every field of the contract."""
    placement = stored.body
    return {
        "placement_id": placement.placement_id,
        "name": placement.name,
        "channel": placement.channel,
        "max_offers": placement.max_offers,
        "fallback_offer_id": placement.fallback_offer_id,
        "guaranteed_offer_ids": placement.guaranteed_offer_ids,
        "max_per_category": placement.max_per_category,
        "version": stored.version,
        "updated_at": stored.updated_at,
    }
