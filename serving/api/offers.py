"""`/v1/offers`: what may be offered."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.catalogue import CapOf, Offer
from features.errors import StoreUnavailable
from features.events import to_us
from features.facts import Stored
from serving.api import catalogue
from serving.api.catalogue import IfMatch, PageQuery, StoredOut
from serving.api.contact_policies import MOST_CAPS, CapBody
from serving.api.door import Caller, Door
from serving.api.fields import (
    Amount,
    Body,
    Currency,
    Free,
    Label,
    Money,
    Name,
    ObjectId,
    ObjectIdInPath,
    Rule,
    Time,
    Units,
)
from serving.api.known import Known
from serving.api.service import Served, Service
from serving.problems import Fault
from serving.state.contacts import Level, Stock

router = APIRouter(prefix="/v1/offers", tags=["catalogue"], route_class=Door)
UNUSED = Level()


class TreatmentBody(Body):
    """One creative. Empty channels or placements: all."""

    treatment_id: Label
    payload: Free = Field({})
    channels: list[Label] = Field([])
    placements: list[ObjectId] = Field([])


class CostBody(Body):
    """What one impression, or one acceptance, takes out of the budget."""

    amount: Money
    per: Literal["impression", "accept"]


class BudgetBody(Body):
    """Money that the offer may cost."""

    amount: Money
    per: Literal["day", "total"] = Field(description="Days are in the deployment's time zone.")


class OfferCapBody(CapBody):
    """At most `limit` contacts of one customer within a window, before this offer is withheld."""

    of: CapOf = Field("offer", description="What is counted: contacts with this offer, its category, … or all.")


class OfferBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"offer_id", "version", "updated_at", "warnings", "left", "budget_left"}
    )

    name: Name
    category: Label | None = None
    value: Amount = Field(description="Expected margin of one acceptance, before cost.")
    currency: Currency | None = Field(None, description="The deployment's; another is a 422.")
    cost: CostBody | None = Field(None, description="What a budget pays for.")
    status: Literal["draft", "approved", "archived"] = "draft"
    starts_at: Time | None = Field(None, description="Inclusive.")
    ends_at: Time | None = Field(None, description="Exclusive.")
    channels: list[Label] = Field([], description="Empty: all.")
    placements: list[ObjectId] = Field([], description="Empty: all.")
    eligibility: Rule | None = Field(None, description="A rule, such as `age >= 18`. Null: everybody.")
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000, description="Higher ones go first.")] = 0
    retention: bool = Field(False, description="Gains by what it saves of a customer who may leave.")
    inventory: Units | None = Field(None, description="Units over the offer's life. Null: endless.")
    budget: BudgetBody | None = Field(None, description="Needs `cost`. Null: no limit.")
    caps: list[OfferCapBody] = Field([], max_length=MOST_CAPS)
    pacing: bool = Field(False, description="Spread a budget per day over the day.")
    attributes: Free = Field({})
    treatments: Annotated[list[TreatmentBody], Field(min_length=1, max_length=100)]


class OfferOut(OfferBody, StoredOut):
    """An offer as stored, and what is left of it. What is left is absent while it cannot be read."""

    offer_id: str
    left: int | None = Field(None, description="Of `inventory`; null: endless.")
    budget_left: float | None = Field(None, description="Of `budget`, today's if it is per day; null: no limit.")


class OffersOut(pydantic.BaseModel):
    offers: list[OfferOut]
    next_cursor: str | None


@router.put("/{offer_id}", **catalogue.putting(OfferOut))
def put(
    offer_id: ObjectIdInPath, body: OfferBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Replaces the offer whole; what is left out gets its default."""
    offer = offer_of(offer_id, body, Known.of(service))
    return catalogue.put(service, caller, offer, if_match, partial(show, stock_of(service)))


@router.get("/{offer_id}", **catalogue.getting(OfferOut))
def get(offer_id: ObjectIdInPath, service: Served) -> Response:
    """The offer as stored."""
    return catalogue.one(service.facts.get(Offer, offer_id), partial(show, stock_of(service)))


@router.delete("/{offer_id}", **catalogue.removing(OfferOut))
def archive(offer_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Archives the offer: it is never returned by a decision again, and its history stays."""
    with service.facts.transaction():
        offer = msgspec.structs.replace(service.facts.get(Offer, offer_id).body, status="archived")
        stored = service.facts.put(offer, service.clock(), if_match, catalogue.author(caller))
    service.catalogue_changed()
    return catalogue.one(stored, partial(show, stock_of(service)))


@router.get("", **catalogue.listing(OffersOut))
def page(asked: PageQuery, service: Served) -> Response:
    """Offers ordered by id, archived ones too."""
    return catalogue.page(service, Offer, asked, partial(show, stock_of(service)), "offers", "offer_id")


def stock_of(service: Service) -> Stock | None:
    """What has been used of all limited offers; None if that cannot be read, which is no reason to hide an offer."""
    try:
        return service.contacts.stock(to_us(service.clock())) if service.contacts is not None else None
    except (StoreUnavailable, sqlite3.OperationalError):
        return None


def show(stock: Stock | None, stored: Stored[Offer]) -> dict[str, Any]:
    """The offer with every field of the contract."""
    return {**catalogue.shown(stored), **(_left(stored.body, stock) if stock is not None else {})}


def _left(offer: Offer, stock: Stock) -> dict[str, Any]:
    used = stock.levels.get(offer.offer_id, UNUSED)
    spent = used.spent_today if offer.budget is not None and offer.budget.per == "day" else used.spent
    return {
        "left": max(0, offer.inventory - used.units) if offer.inventory is not None else None,
        "budget_left": max(0.0, round(offer.budget.amount - spent, 6)) if offer.budget is not None else None,
    }


def offer_of(offer_id: str, body: OfferBody, known: Known) -> Offer:
    """The offer to store, with the checks that no single field can make."""
    catalogue.refuse(_faults(offer_id, body, known))
    return catalogue.made(Offer, body, offer_id=offer_id, currency=known.currency)


def _faults(offer_id: str, body: OfferBody, known: Known) -> Iterator[Fault]:
    if body.currency not in (None, known.currency):
        yield Fault("/currency", f"currency is {body.currency}, this deployment's is {known.currency}")
    yield from catalogue.date_faults(body.starts_at, body.ends_at)
    if body.eligibility is not None:
        yield from known.rule_faults(body.eligibility, "/eligibility", Offer, offer_id)
    if body.budget is not None and body.cost is None:
        yield Fault(
            "/budget", "budget: nothing would be spent of it; say in `cost` what an impression or acceptance costs"
        )
    if body.pacing and (body.budget is None or body.budget.per != "day"):
        yield Fault("/pacing", "pacing: spreads a budget over the day; it needs a `budget` with `per: day`")
    for i, cap in enumerate(body.caps):
        if cap.of == "category" and body.category is None:
            yield Fault(f"/caps/{i}/of", "of: this offer has no category whose contacts could be counted")
    seen: set[str] = set()
    for i, treatment in enumerate(body.treatments):
        if treatment.treatment_id in seen:
            yield Fault(f"/treatments/{i}/treatment_id", "each treatment_id may stand once in an offer")
        seen.add(treatment.treatment_id)
