"""`/v1/events`: what happened, on disk before it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import orjson
import pydantic
from fastapi import APIRouter, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from features.catalogue import Offer
from features.errors import BadEvent, BadInput, Erased, NotFound
from features.events import BY_NAME, FIELDS, Event, check_event, to_us
from features.facts import Facts
from features.profile import Word, category_consent
from serving.api.door import BatchDoor, Caller, limiter_of, needs, problems
from serving.api.fields import Body, Token
from serving.api.json_body import oddities
from serving.api.service import Reader, Served, Service
from serving.keys import Key
from serving.problems import readable
from serving.public_keys import EventSender, visitor_of
from serving.rate_limit import RateLimiter

MOST_EVENTS = 1000

router = APIRouter(prefix="/v1/events", tags=["events"], route_class=BatchDoor)

EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "One event. What is wrong inside one event rejects that event only, so its fields are checked one "
    "by one; see `rejected` in the answer.",
    "required": ["event_id", "event_type", "occurred_at"],
    "additionalProperties": False,
    "properties": {
        **{name: {"type": ["string", "null"], "maxLength": 256} for name in FIELDS},
        "event_id": {"type": "string", "maxLength": 256, "description": "The dedupe key: a retry is harmless."},
        "event_type": {"type": "string", "enum": list(BY_NAME)},
        "occurred_at": {"type": "string", "format": "date-time", "description": "With an offset."},
        "value": {"type": ["number", "null"], "description": "Needs currency."},
        "currency": {"type": ["string", "null"], "pattern": "^[A-Z]{3}$"},
        "properties": {"type": ["object", "null"], "description": "Free."},
    },
}


CONSENT = {"opt_out": False, "opt_in": True}
ERASED = BadEvent("erased", "this customer was erased, and nothing is kept of them any more", "customer_id")


class EventsIn(Body):
    events: Annotated[
        list[Annotated[Any, pydantic.WithJsonSchema(EVENT_SCHEMA)]], Field(min_length=1, max_length=MOST_EVENTS)
    ]
    customer_token: Token | None = Field(
        None, description="With a public key: the site's word for the events' customer_id. Anonymous ones need none."
    )


class RejectedOut(pydantic.BaseModel):
    index: int = Field(description="Place in the request, from 0.")
    code: str
    detail: str


class EventsOut(pydantic.BaseModel):
    accepted: int = Field(description="New, and on disk.")
    duplicates: int = Field(description="Known by their event_id; left as they were.")
    rejected: list[RejectedOut]


@router.post(
    "",
    status_code=202,
    response_model=EventsOut,
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
    **needs("events", public=True),
)
async def accept(body: EventsIn, caller: Caller, service: Served, http: Request) -> Response:
    """Up to 1,000 events. Each is accepted, known already, or rejected with a code, for itself."""
    now = service.clock()
    _charge(limiter_of(http), caller, body.events)
    sender = EventSender(caller, body.customer_token, time.time())
    checking = Checking(now, sender, service.facts)
    checked = await run_in_threadpool(_checked, body.events, checking)  # decisions go on meanwhile
    if any(event.event_type in CONSENT for event in checked.good.values()):
        await run_in_threadpool(_keep_consent, checked, service.facts, service.log_store, now)
    rejected: list[dict[str, Any]] = [
        {"index": index, "code": fault.code, "detail": readable(fault.detail)}
        for index, fault in sorted(checked.rejected.items())
    ]
    events = await _with_categories(list(checked.good.values()), service)
    new = await asyncio.wrap_future(service.log.submit(events, now)) if events else []
    n_new = sum(new)
    n_known = len(new) - n_new + checked.n_twice
    service.meter.received(n_new, n_known, (one["code"] for one in rejected))
    answer = {"accepted": n_new, "duplicates": n_known, "rejected": rejected}
    return Response(orjson.dumps(answer), 202, media_type="application/json")


class Checking(NamedTuple):
    """What an event is checked against."""

    now: datetime
    sender: EventSender
    facts: Facts


class Checked(NamedTuple):
    """What became of the events of a request, by their places in it."""

    good: dict[int, Event]  # each id once, under the key of whom it is of
    rejected: dict[int, BadEvent]
    n_twice: int

    def reject(self, index: int, fault: BadEvent) -> None:
        del self.good[index]
        self.rejected[index] = fault


def _checked(given: list[Any], checking: Checking) -> Checked:
    events: dict[int, Event] = {}
    rejected: dict[int, BadEvent] = {}
    for index, raw in enumerate(given):
        try:
            events[index] = _check(raw, checking)
        except BadEvent as error:
            rejected[index] = error
    keys = {event.customer_id for event in events.values()}
    erased = checking.facts.erased_among(keys)
    known = checking.facts.identities_of(keys - erased)
    good: dict[int, Event] = {}
    seen: set[str] = set()
    n_twice = 0
    for index, event in events.items():
        if event.customer_id in erased:
            rejected[index] = ERASED
        elif event.event_id in seen:
            n_twice += 1
        else:
            seen.add(event.event_id)
            good[index] = _of(event, known[event.customer_id])
    return Checked(good, rejected, n_twice)


def _check(raw: Any, checking: Checking) -> Event:
    event = check_event(raw, checking.now)
    for pointer, detail in oddities(event.properties, "/properties"):
        raise BadEvent("invalid_field", f"{pointer} {detail}", "properties")
    checking.sender.check(event.customer_id)
    return event


def _of(event: Event, key: str) -> Event:
    """The event under the key of the customer that an anonymous visitor turned out to be."""
    return event if event.customer_id == key else msgspec.structs.replace(event, customer_id=key)


def _charge(limiter: RateLimiter, key: Key, events: list[Any]) -> None:
    """Takes each visitor's events from what the visitor may send; `TooManyRequests`, and nothing is taken."""
    if key.limits.visitor_per_s is not None:
        limiter.charge_visitors(key, Counter(visitor_of(event) or "" for event in events))


def _keep_consent(checked: Checked, facts: Facts, log: Reader, now: datetime) -> None:
    """What was opted out of or in to, into the profile: before the log has it, so that no crash loses a refusal.

    Of an event that the log has already nothing is kept, whatever it says now. Each word stands at its time, so one
    that comes late changes nothing that was said since. An event whose word cannot be kept is rejected.
    """
    said = {index: event for index, event in checked.good.items() if event.event_type in CONSENT}
    known = log.known(event.event_id for event in said.values())
    with facts.transaction():
        for index, event in said.items():
            if event.event_id in known:
                continue
            try:
                facts.say(event.customer_id, list(_words(event)), now)
            except BadInput as error:
                checked.reject(index, BadEvent("consent_full", error.detail, "properties"))
            except Erased:  # since it was checked
                checked.reject(index, ERASED)


def _words(event: Event) -> Iterator[Word]:
    given, at_us = CONSENT[event.event_type], to_us(event.occurred_at)
    channel, category = event.properties.get("channel"), event.properties.get("category") or event.category
    if channel:
        yield Word(channel, given, at_us)
    if category:
        yield Word(category_consent(category), given, at_us)


async def _with_categories(events: list[Event], service: Service) -> list[Event]:
    """Events without a category get their offer's, as the catalogue has it now; an unknown offer has none."""
    open_ids = {event.offer_id for event in events if event.category is None and event.offer_id is not None}
    if not open_ids:
        return events
    view = service.decider.edition.view
    found = {name: view.offers[view.row[name]].category for name in open_ids if name in view.row}
    if missing := open_ids - found.keys():  # archived, brand new, or unknown
        found |= await run_in_threadpool(_stored_categories, service.facts, missing)
    return [_with_category(event, found) for event in events]


def _with_category(event: Event, categories: Mapping[str, str | None]) -> Event:
    if event.category is not None or event.offer_id is None:
        return event
    return msgspec.structs.replace(event, category=categories.get(event.offer_id))


def _stored_categories(facts: Facts, offer_ids: set[str]) -> dict[str, str | None]:
    found = {}
    for offer_id in offer_ids:
        try:
            found[offer_id] = facts.get(Offer, offer_id).body.category
        except NotFound:
            continue
    return found
