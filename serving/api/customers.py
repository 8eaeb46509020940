"""`/v1/customers/{id}`: what a customer has told us, and what we make of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo, available_timezones

import orjson
import pydantic
from fastapi import APIRouter, Response
from pydantic import AfterValidator, Field

from features.errors import BadInput, StoreUnavailable
from features.events import US_PER_DAY, from_us, to_us
from features.log import LogEvent
from features.profile import Profile
from serving.api.door import Door, needs, problems
from serving.api.fields import Body, ConsentKey, CustomerIdInPath, Label
from serving.api.json_body import escaped
from serving.api.service import Served, Service
from serving.caps_left import caps_left
from serving.erasing import Stores, erase

MOST_RECENT = 50
RECENT_DAYS = 30
RECENT_US = RECENT_DAYS * US_PER_DAY
NO_LATE_ONES = 2**62  # a position that the log never reaches

router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=Door)


@lru_cache(1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _iana(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("is not an IANA time zone such as Europe/Berlin")
    return name


class CustomerBody(Body):
    """Merged into what is known; null removes."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "customer_id", "updated_at", "scores", "recent_interactions", "caps_left", "anonymous_ids",
            "muted_categories", "less_like",
        }
    )  # fmt: skip

    attributes: dict[Label, Any] = Field({}, description="Numbers, strings, booleans or RFC 3339 times; null removes.")
    consent: dict[ConsentKey, bool | None] = Field({}, description="By channel, or category:NAME; null removes.")
    time_zone: Annotated[str, AfterValidator(_iana)] | None = Field(None, description="IANA name; null removes.")


class ScoresOut(pydantic.BaseModel):
    p_churn: float | None = Field(description="Null while the release has no churn model.")


class InteractionOut(pydantic.BaseModel):
    event_id: str
    event_type: str
    occurred_at: datetime
    decision_id: str | None
    offer_id: str | None
    placement_id: str | None
    session_id: str | None
    channel: str | None
    category: str | None
    value: float | None
    currency: str | None
    properties: dict[str, Any]


class CapLeftOut(pydantic.BaseModel):
    """A cap that has counted something, or one on all contacts; the others are unused."""

    policy_id: str | None = Field(description="Of the contact policy; null for an offer's own cap.")
    offer_id: str | None = Field(description="Of the offer whose own cap it is; null for a contact policy's.")
    channels: list[str] = Field(description="On which contacts count; empty: all.")
    of: str
    counted: str | None = Field(description="The offer, category, placement or channel; null: all contacts.")
    window: str
    limit: int
    used: int
    left: int


class CustomerOut(pydantic.BaseModel):
    """A customer nobody knows is one without attributes."""

    customer_id: str
    attributes: dict[str, Any]
    consent: dict[str, bool]
    time_zone: str | None
    updated_at: datetime | None = Field(description="Null for a customer without a profile.")
    scores: ScoresOut
    recent_interactions: list[InteractionOut] = Field(
        description=f"From the live log: of the last {RECENT_DAYS} days, newest first, at most {MOST_RECENT}."
    )
    caps_left: list[CapLeftOut] | None = Field(description="Null if contacts could not be read.")
    muted_categories: list[str]
    less_like: list[str]
    anonymous_ids: list[str] = Field(description="Of the anonymous visitors who turned out to be this customer.")


class PlaceOut(pydantic.BaseModel):
    place: str
    erased: int = Field(description="Rows, or what the place has instead.")
    note: str = Field(description="Empty, or what one must know.")


class ReceiptOut(pydantic.BaseModel):
    """What each place held of the customer, and no longer does."""

    customer_id: str
    erased_at: datetime
    places: list[PlaceOut]


@router.put(
    "/{customer_id}",
    response_model=CustomerOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
    **needs("events", "admin"),
)
def put(customer_id: CustomerIdInPath, body: CustomerBody, service: Served) -> Response:
    """Merges attributes, consent and time zone; the next decision uses them."""
    for name, value in body.attributes.items():
        if isinstance(value, dict | list):
            raise BadInput(
                f"{name}: an attribute is a number, a string, a boolean, a time or null", f"/attributes/{escaped(name)}"
            )
    profile = service.facts.merge_profile(
        customer_id, service.clock(), body.attributes, body.consent, _time_zone_of(body)
    )
    return _shown(service, customer_id, profile)


@router.get(
    "/{customer_id}",
    response_model=CustomerOut,
    responses=problems(401, 403, 422, 503),
    **needs("events", "admin"),
)
def get(customer_id: CustomerIdInPath, service: Served) -> Response:
    """Profile, scores, recent interactions, what is left of caps, preferences, and joined anonymous ids."""
    profile = service.facts.profile(customer_id) or Profile(customer_id=customer_id)
    return _shown(service, customer_id, profile)


@router.delete(
    "/{customer_id}",
    response_model=ReceiptOut,
    responses=problems(401, 403, 422, 503),
    **needs("admin"),
)
def erase_customer(customer_id: CustomerIdInPath, service: Served) -> Response:
    """Erases the customer, and anonymous visitors joined to them, from every store; later events of them are refused.

    It takes as long as rewriting the files that hold the customer does: seconds, with a large history minutes. After a
    503 ask again: the id is refused already, and another call finishes the rest.
    """
    now = service.clock()
    stores = Stores(
        service.settings.home, service.facts, service.log_store, service.idempotency, service.contacts, service.learner
    )
    places = erase(stores, customer_id, now)
    receipt = {"customer_id": customer_id, "erased_at": now, "places": [place._asdict() for place in places]}
    return Response(orjson.dumps(receipt, option=orjson.OPT_UTC_Z), media_type="application/json")


def _time_zone_of(body: CustomerBody) -> str | None:
    """The name; "" to remove it; None to leave it as it is."""
    return (body.time_zone or "") if "time_zone" in body.model_fields_set else None


def _shown(service: Service, customer_id: str, profile: Profile) -> Response:
    edition, now_us = service.decider.edition, to_us(service.clock())
    customer = edition.customers.read(customer_id, now_us)
    churn = edition.release.churn if edition.release is not None else None
    aliases = service.facts.aliases_of(customer_id)
    body = {
        "customer_id": customer_id,
        "attributes": profile.attributes,
        "consent": profile.consent,
        "time_zone": profile.time_zone,
        "updated_at": profile.updated_at,
        "scores": {"p_churn": churn.p_churn(customer.features) if churn is not None else None},
        "recent_interactions": [_interaction(event) for event in _recent(service, (customer_id, *aliases), now_us)],
        "caps_left": _caps_left(service, customer_id, profile, now_us),
        "muted_categories": profile.muted_categories,
        "less_like": profile.less_like,
        "anonymous_ids": [alias[1:] for alias in aliases],
    }
    return Response(orjson.dumps(body, option=orjson.OPT_UTC_Z), media_type="application/json")


def _recent(service: Service, keys: Sequence[str], now_us: int) -> list[LogEvent]:
    """Newest first, of all keys together."""
    found = [
        event for key in keys for event in service.log_store.recent(key, now_us - RECENT_US, NO_LATE_ONES, MOST_RECENT)
    ]
    return sorted(found, key=lambda event: (event.occurred_us, event.event_id), reverse=True)[:MOST_RECENT]


def _caps_left(service: Service, customer_id: str, profile: Profile, now_us: int) -> list[dict[str, Any]] | None:
    """None if contacts could not be read: what is left is then not known."""
    if service.contacts is None:
        return []
    try:
        (history,) = service.contacts.histories([customer_id])
    except StoreUnavailable as error:
        logging.getLogger(__name__).warning("contacts: %s", error)
        return None
    zone = ZoneInfo(profile.time_zone or service.settings.time_zone)
    return caps_left(service.decider.edition.limits, history, now_us, zone)


def _interaction(event: LogEvent) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "occurred_at": from_us(event.occurred_us),
        "decision_id": event.decision_id,
        "offer_id": event.offer_id,
        "placement_id": event.placement_id,
        "session_id": event.session_id,
        "channel": event.channel,
        "category": event.category,
        "value": None if event.value is None else float(event.value),
        "currency": event.currency,
        "properties": orjson.loads(event.properties_json),
    }
