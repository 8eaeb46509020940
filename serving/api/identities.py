"""`/v1/customers/{id}/identities`: an anonymous visitor turns out to be a customer."""

from __future__ import annotations

import orjson
import pydantic
from fastapi import APIRouter, Response
from pydantic import Field

from features.events import visitor_key
from features.identities import join
from serving.api.door import Door, needs, problems
from serving.api.fields import Body, CustomerId, CustomerIdInPath
from serving.api.service import Served

router = APIRouter(prefix="/v1/customers/{customer_id}/identities", tags=["customers"], route_class=Door)


class IdentityBody(Body):
    anonymous_id: CustomerId = Field(description="As it was sent with decisions and events.")


class IdentityOut(pydantic.BaseModel):
    customer_id: str
    anonymous_ids: list[str] = Field(description="All that are joined to this customer, the first joined first.")
    joined: bool = Field(description="False if they were one before; nothing changed then.")
    contacts_added: int = Field(description="Contacts of the visitor that count for the customer's caps from now on.")


@router.post(
    "",
    response_model=IdentityOut,
    responses=problems(400, 401, 403, 409, 413, 415, 422, 503),
    **needs("events", "admin"),
)
def create(customer_id: CustomerIdInPath, body: IdentityBody, service: Served) -> Response:
    """Joins an anonymous visitor to this customer: events, profile, refusals and caps of both count from now on."""
    alias = visitor_key(None, body.anonymous_id)
    service.log.submit((), service.clock()).result()  # what the visitor has met a moment ago is on its way
    found = join(service.facts, alias, customer_id, service.clock(), service.log_store.exposed)
    # also when they were one before: a crash may have come between the two files
    added = service.contacts.join(alias, customer_id) if service.contacts is not None else 0
    shown = {
        "customer_id": customer_id,
        "anonymous_ids": [one[1:] for one in service.facts.aliases_of(customer_id)],
        "joined": found.new,
        "contacts_added": added,
    }
    return Response(orjson.dumps(shown), media_type="application/json")
