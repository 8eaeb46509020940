"""`/v1/contact-policies`: how often a customer may be contacted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from features.catalogue import CapOf, ContactPolicy
from features.facts import Stored
from serving.api import catalogue
from serving.api.catalogue import IfMatch, PageQuery, StoredOut
from serving.api.door import Caller, Door
from serving.api.fields import Body, Duration, Label, Limit, Name, ObjectIdInPath, TimeOfDay, Window
from serving.api.known import Known
from serving.api.service import Served
from serving.problems import Fault

router = APIRouter(prefix="/v1/contact-policies", tags=["catalogue"], route_class=Door)
MOST_CAPS = 50


class CapBody(Body):
    """At most `limit` contacts of one customer within a window. Live claims and confirmed impressions count."""

    of: CapOf = Field(description="What is counted: contacts with one offer, one category, one placement … or all.")
    limit: Limit
    window: Window = Field(
        description="Nm, Nh, Nd slide; calendar_day, calendar_week, calendar_month are in the customer's time zone."
    )
    per: Literal["customer"] = "customer"


class CooldownBody(Body):
    """How long an offer rests for a customer: after it was seen, and, usually longer, after it was closed."""

    impression: Duration | None = None
    dismiss: Duration | None = None

    @model_validator(mode="after")
    def _says_something(self) -> CooldownBody:
        if self.impression is None and self.dismiss is None:
            raise ValueError("needs impression or dismiss")
        return self


class PauseBody(Body):
    """After so many ignored, or rejected, contacts in a row the customer is left alone."""

    ignored: Limit | None = None
    rejected: Limit | None = None
    for_: Duration = Field(alias="for")

    @model_validator(mode="after")
    def _says_something(self) -> PauseBody:
        if self.ignored is None and self.rejected is None:
            raise ValueError("needs ignored or rejected")
        return self


class ContactPolicyBody(Body):
    read_only: ClassVar[frozenset[str]] = frozenset({"policy_id", "version", "updated_at", "warnings"})

    name: Name
    channels: list[Label] = Field([], description="Where it holds, and what it counts. Empty: all.")
    caps: list[CapBody] = Field([], max_length=MOST_CAPS)
    cooldown: CooldownBody | None = None
    pause_after: PauseBody | None = None
    quiet_hours: Annotated[list[TimeOfDay], Field(min_length=2, max_length=2)] | None = Field(
        None, description="From (inclusive) and until (exclusive), in the customer's time zone; may span midnight."
    )


class ContactPolicyOut(ContactPolicyBody, StoredOut):
    """A contact policy as stored."""

    policy_id: str


class ContactPoliciesOut(pydantic.BaseModel):
    contact_policies: list[ContactPolicyOut]
    next_cursor: str | None


@router.put("/{policy_id}", **catalogue.putting(ContactPolicyOut))
def put(
    policy_id: ObjectIdInPath, body: ContactPolicyBody, service: Served, caller: Caller, if_match: IfMatch = None
) -> Response:
    """Replaces the contact policy whole; what is left out gets its default."""
    policy = contact_policy_of(policy_id, body, Known.of(service))
    return catalogue.put(service, caller, policy, if_match, show)


@router.get("/{policy_id}", **catalogue.getting(ContactPolicyOut))
def get(policy_id: ObjectIdInPath, service: Served) -> Response:
    """The contact policy as stored."""
    return catalogue.one(service.facts.get(ContactPolicy, policy_id), show)


@router.delete("/{policy_id}", **catalogue.removing(ContactPolicyOut))
def archive(policy_id: ObjectIdInPath, service: Served, caller: Caller, if_match: IfMatch = None) -> Response:
    """Takes the contact policy out of use; its history stays. The answer is what it was."""
    return catalogue.remove(service, caller, ContactPolicy, policy_id, if_match, show)


@router.get("", **catalogue.listing(ContactPoliciesOut))
def page(asked: PageQuery, service: Served) -> Response:
    """Contact policies ordered by id."""
    return catalogue.page(service, ContactPolicy, asked, show, "contact_policies", "policy_id")


def contact_policy_of(policy_id: str, body: ContactPolicyBody, known: Known) -> ContactPolicy:
    """The contact policy to store, with the checks that no single field can make."""
    catalogue.refuse(_faults(body))
    return catalogue.made(ContactPolicy, body, policy_id=policy_id)


def _faults(body: ContactPolicyBody) -> Iterator[Fault]:
    if body.quiet_hours is not None and body.quiet_hours[0] == body.quiet_hours[1]:
        yield Fault("/quiet_hours", "the hours begin and end at the same time, which says nothing; leave them out")


def show(stored: Stored[ContactPolicy]) -> dict[str, Any]:
    """The contact policy with every field of the contract."""
    return catalogue.shown(stored)
