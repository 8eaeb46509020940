"""`/v1/levers`: business weights on offers, with their dates, their reason and who changed them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from fastapi import APIRouter, Query, Response
from pydantic import Field

from features.catalogue import Lever
from features.facts import Change, Facts, Stored
from serving.api import catalogue
from serving.api.catalogue import IfMatch, Page, StoredOut
from serving.api.door import Caller, Door
from serving.api.fields import Body, Name, ObjectIdInPath, Rule, Time
from serving.api.known import Known
from serving.api.service import Served
from serving.problems import Fault

router = APIRouter(prefix="/v1/levers", tags=["catalogue"], route_class=Door)
MOST_CHANGES = 50  # shown of one lever, the newest


class LeverBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset({"lever_id", "version", "updated_at", "warnings", "changes"})

    name: Name = Field(description="What people call it.")
    factor: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = Field(
        description="How many times as much an offer counts; 1 changes nothing, and several levers multiply."
    )
    where: Rule | None = Field(None, description="A rule, mostly over `offer.x` and `context.x`. Left out: all offers.")
    starts_at: Time | None = Field(None, description="From when on it weighs, inclusive. Null: always did.")
    ends_at: Time | None = Field(None, description="Until when it weighs, exclusive. Null: for ever.")
    reason: Name = Field(description="Why; kept with every change.")


class LeverChange(pydantic.BaseModel):
    """One change of a lever."""

    version: int = Field(description="The catalogue version that the change brought.")
    changed_at: datetime = Field(description="When, by the service's clock.")
    by: str | None = Field(description="Whose key, or which command.")
    change: Literal["created", "replaced", "removed"] = Field(description="What was done; a removed one may come back.")
    reason: str | None = Field(description="The lever's reason as of this change.")
    set: dict[str, Any] = Field(description="The fields that this change gave another value.")


class LeverOut(LeverBody, StoredOut):
    """A lever as stored."""

    lever_id: str = Field(description="As in its path.")
    changes: list[LeverChange] = Field(description="The newest first, up to 50.")


class LeverPage(Page):
    deleted: bool = Field(False, description="Those that were deleted, instead of those in use.")


class LeversOut(pydantic.BaseModel):
    levers: list[LeverOut] = Field(description="Ordered by id.")
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page. Null: there is none.")


@router.put("/{lever_id}", **catalogue.putting(LeverOut))
def put(
    lever_id: ObjectIdInPath, body: LeverBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Replaces the lever whole; what is left out gets its default."""
    lever = lever_of(lever_id, body, Known.of(service))
    return catalogue.put(service, caller, lever, if_match, partial(show, service.facts))


@router.get("/{lever_id}", **catalogue.getting(LeverOut))
def get(lever_id: ObjectIdInPath, service: Served) -> Response:
    """The lever as stored, with its changes."""
    return catalogue.one(service.facts.get(Lever, lever_id), partial(show, service.facts))


@router.delete("/{lever_id}", **catalogue.removing(LeverOut))
def archive(lever_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Takes the lever out of use; its history stays. The answer is what it was."""
    return catalogue.remove(service, caller, Lever, lever_id, if_match, partial(show, service.facts))


@router.get("", **catalogue.listing(LeversOut))
def page(asked: Annotated[LeverPage, Query()], service: Served) -> Response:
    """Levers ordered by id; or those that were deleted, each as it last was, with its changes."""
    return catalogue.page(
        service, Lever, asked, partial(show, service.facts), "levers", "lever_id", removed=asked.deleted
    )


def lever_of(lever_id: str, body: LeverBody, known: Known) -> Lever:
    """The lever to store, with the checks that no single field can make."""
    catalogue.refuse(_faults(lever_id, body, known))
    return catalogue.made(Lever, body, lever_id=lever_id)


def _faults(lever_id: str, body: LeverBody, known: Known) -> Iterator[Fault]:
    yield from catalogue.date_faults(body.starts_at, body.ends_at)
    if body.where is not None:
        yield from known.rule_faults(body.where, "/where", Lever, lever_id)


def show(facts: Facts, stored: Stored[Lever]) -> dict[str, Any]:
    """The lever with every field of the contract."""
    changes = facts.changes(Lever, stored.body.lever_id, MOST_CHANGES + 1)
    return {**catalogue.shown(stored), "changes": list(_told(changes))[:MOST_CHANGES]}


def _told(changes: Sequence[Change[Lever]]) -> Iterator[dict[str, Any]]:
    """Each change beside the one before it; the oldest is compared with nothing."""
    for change, before in zip(changes, [*changes[1:], None], strict=True):
        old = catalogue.plain(before.body) if before is not None and before.body is not None else None
        new = catalogue.plain(change.body) if change.body is not None else None
        yield {
            "version": change.version,
            "changed_at": change.at,
            "by": change.by,
            "change": "removed" if new is None else "created" if old is None else "replaced",
            "reason": change.body.reason if change.body is not None else None,
            "set": {name: value for name, value in (new or {}).items() if old is None or old[name] != value},
        }
