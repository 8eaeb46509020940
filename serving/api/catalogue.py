"""What offers and placements share over HTTP: versions as ETags, and pages by cursor."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
import pydantic
from fastapi import Header, Query, Response
from pydantic import Field

from features.catalogue import OBJECT_ID, Offer, Placement
from features.facts import Facts, Stored
from serving.problems import Fault, Invalid

T = TypeVar("T", Offer, Placement)
Show = Callable[[Stored[T]], dict[str, Any]]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag that is to be replaced, or *.")]
ETAG = {"headers": {"ETag": {"schema": {"type": "string"}, "description": "Send it back as If-Match."}}}


class Page(pydantic.BaseModel):
    """Which part of a list."""

    model_config = pydantic.ConfigDict(extra="forbid")
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Field(description="`next_cursor` of the page before.")] = None


PageQuery = Annotated[Page, Query()]


class StoredOut(pydantic.BaseModel):
    """What every stored object says of itself; ignored when sent back."""

    version: int = Field(description="The catalogue version that brought this state.")
    updated_at: datetime


def one(stored: Stored[T], show: Show[T], status: int = 200) -> Response:
    """One object, with its ETag."""
    return _json(show(stored), status, {"ETag": stored.etag})


def put(stored: Stored[T], show: Show[T]) -> Response:
    return one(stored, show, 201 if stored.created else 200)


def page(facts: Facts, of: type[T], asked: Page, show: Show[T], name: str, key: str) -> Response:
    """One page, ordered by id; one more row is read to know whether there is another."""
    found = facts.objects(of, asked.limit + 1, _after(asked.cursor))
    shown = [show(stored) for stored in found[: asked.limit]]
    more = len(found) > asked.limit
    return _json({name: shown, "next_cursor": _cursor(shown[-1][key]) if more else None})


def _cursor(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def _after(cursor: str | None) -> str:
    if not cursor:  # the contract writes the first page as `cursor=`
        return ""
    try:
        found = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        found = ""
    if not re.match(OBJECT_ID, found):
        raise Invalid([Fault("/cursor", "is not a next_cursor that a list gave", where="query")])
    return found


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_UTC_Z), status, headers, "application/json")
