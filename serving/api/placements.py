"""`/v1/placements`: where something may be offered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.catalogue import Placement
from features.facts import Stored
from serving.api import catalogue
from serving.api.catalogue import IfMatch, PageQuery, StoredOut
from serving.api.door import Caller, Door
from serving.api.fields import Body, Label, Name, ObjectId, ObjectIdInPath
from serving.api.known import Known
from serving.api.service import Served
from serving.problems import Fault

router = APIRouter(prefix="/v1/placements", tags=["catalogue"], route_class=Door)


class PlacementBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset({"placement_id", "version", "updated_at", "warnings"})

    name: Name
    channel: Label
    max_offers: Annotated[int, Field(ge=1, le=100)] = 10
    fallback_offer_id: ObjectId | None = Field(
        None, description="Shown when no other offer may be, if the customer may have it."
    )
    guaranteed_offer_ids: list[ObjectId] = Field(
        [], max_length=100, description="Take the first ranks, in this order, where the customer may have them."
    )
    max_per_category: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Offers of one category in one answer. Null: no limit."
    )
    max_per_brand: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="Offers with the same attribute `brand` in one answer. Null: no limit."
    )


class PlacementOut(PlacementBody, StoredOut):
    """A placement as stored."""

    placement_id: str


class PlacementsOut(pydantic.BaseModel):
    placements: list[PlacementOut]
    next_cursor: str | None


@router.put("/{placement_id}", **catalogue.putting(PlacementOut))
def put(
    placement_id: ObjectIdInPath, body: PlacementBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Replaces the placement whole; what is left out gets its default."""
    placement = placement_of(placement_id, body, Known.of(service))
    return catalogue.put(service, caller, placement, if_match, show)


@router.get("/{placement_id}", **catalogue.getting(PlacementOut))
def get(placement_id: ObjectIdInPath, service: Served) -> Response:
    """The placement as stored."""
    return catalogue.one(service.facts.get(Placement, placement_id), show)


@router.delete("/{placement_id}", **catalogue.removing(PlacementOut))
def archive(placement_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Takes the placement out of use; its history stays. The answer is what it was."""
    return catalogue.remove(service, caller, Placement, placement_id, if_match, show)


@router.get("", **catalogue.listing(PlacementsOut))
def page(asked: PageQuery, service: Served) -> Response:
    """Placements ordered by id."""
    return catalogue.page(service, Placement, asked, show, "placements", "placement_id")


def placement_of(placement_id: str, body: PlacementBody, known: Known) -> Placement:
    """The placement to store, with the checks that no single field can make."""
    catalogue.refuse(_faults(body))
    return catalogue.made(Placement, body, placement_id=placement_id)


def _faults(body: PlacementBody) -> Iterator[Fault]:
    for i, offer_id in enumerate(body.guaranteed_offer_ids):
        if offer_id in body.guaranteed_offer_ids[:i]:
            yield Fault(f"/guaranteed_offer_ids/{i}", f"{offer_id!r} stands twice, an offer is shown once")


def show(stored: Stored[Placement]) -> dict[str, Any]:
    """The placement with every field of the contract."""
    return catalogue.shown(stored)
