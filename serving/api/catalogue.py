"""What the kinds of the catalogue share over HTTP: versions as ETags, pages by cursor, and who changed what."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
import pydantic
from fastapi import Depends, Header, Query, Response
from pydantic import Field

from features.catalogue import OBJECT_ID, ContactPolicy, Lever, Offer, Placement
from features.experiment import Experiment
from features.facts import ABSENT, Stored
from serving.api.door import needs, problems
from serving.api.fields import Body
from serving.api.loose_ends import loose_ends
from serving.api.service import Service
from serving.experiment_lifecycle import untouched
from serving.keys import Key
from serving.problems import Fault, Invalid

T = TypeVar("T", bound=Offer | Placement | ContactPolicy | Lever | Experiment)
Show = Callable[[Stored[T]], dict[str, Any]]


async def _if_match(
    lines: Annotated[
        list[str] | None, Header(alias="If-Match", description="The ETag that is to be replaced, several, or *.")
    ] = None,
    none: Annotated[
        str | None, Header(alias="If-None-Match", description="Only *: the object must not be there yet.")
    ] = None,
) -> str | None:
    """A list may be spread over several lines. Source: RFC 9110, section 5.3."""
    if none is None:
        return ", ".join(lines) if lines else None
    if none.strip() != "*" or lines:
        detail = "If-None-Match may be * here, which stores only what is not there yet, and stands without If-Match"
        raise Invalid([Fault("If-None-Match", detail, where="header")])
    return ABSENT


IfMatch = Annotated[str | None, Depends(_if_match)]
ETAG = {"headers": {"ETag": {"schema": {"type": "string"}, "description": "Send it back as If-Match."}}}


def putting(shown: type[pydantic.BaseModel]) -> dict[str, Any]:
    """What every route that stores an object says of itself."""
    return {
        "response_model": shown,
        "responses": {
            **problems(400, 401, 403, 412, 413, 415, 422, 503),
            200: {"description": "Replaced.", **ETAG},
            201: {"description": "Created.", "model": shown, **ETAG},
        },
        **needs("catalogue"),
    }


def getting(shown: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The same of routes that show one object."""
    responses = {**problems(401, 403, 404, 422, 503), 200: ETAG}
    return {"response_model": shown, "responses": responses, **needs("catalogue")}


def removing(shown: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The same of routes that take an object out of use."""
    responses = {**problems(401, 403, 404, 412, 422, 503), 200: ETAG}
    return {"response_model": shown, "responses": responses, **needs("catalogue")}


def listing(shown: type[pydantic.BaseModel]) -> dict[str, Any]:
    """The same of routes that show a page."""
    return {"response_model": shown, "responses": problems(401, 403, 422, 503), **needs("catalogue")}


class Page(pydantic.BaseModel):
    """Which part of a list."""

    model_config = pydantic.ConfigDict(extra="forbid")
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str | None, Field(description="`next_cursor` of the page before.")] = None


PageQuery = Annotated[Page, Query()]


class StoredOut(pydantic.BaseModel):
    """What every stored object says of itself; ignored when sent back."""

    version: int = Field(description="The catalogue version that brought this state.")
    updated_at: datetime = Field(description="When it was last changed.")
    warnings: list[str] | None = Field(
        None, description="In the answer to PUT: names that lead nowhere, ranges that leave no room. Absent: none."
    )


def one(stored: Stored[T], show: Show[T], status: int = 200) -> Response:
    """One object, with its ETag."""
    return _json(show(stored), status, {"ETag": stored.etag})


def put(service: Service, caller: Key, item: T, if_match: str | None, show: Show[T]) -> Response:
    """Store the object whole, and show it."""
    return changed(service, caller, lambda: item, if_match, show)


def changed(service: Service, caller: Key, make: Callable[[], T], if_match: str | None, show: Show[T]) -> Response:
    """Store what `make` makes of what is stored, nobody else changing it meanwhile, and show it."""
    with service.facts.transaction():
        item = make()
        untouched(service.facts.stored_like(item), item, service.facts.catalogue().experiments)
        stored = service.facts.put(item, service.clock(), if_match, author(caller))
    service.catalogue_changed()
    warnings = [told for _, told in loose_ends([stored.body], service.facts.catalogue())]
    shown = {**show(stored), **({"warnings": warnings} if warnings else {})}
    return _json(shown, 201 if stored.created else 200, {"ETag": stored.etag})


def remove(service: Service, caller: Key, of: type[T], name: str, if_match: str | None, show: Show[T]) -> Response:
    """Take the object out of use, and show what it was."""
    with service.facts.transaction():
        stored = service.facts.get(of, name)
        untouched(stored.body, None, service.facts.catalogue().experiments)
        service.facts.remove(of, name, service.clock(), if_match, author(caller))
    service.catalogue_changed()
    return one(stored, show)


def page(
    service: Service, of: type[T], asked: Page, show: Show[T], name: str, key: str, *, removed: bool = False
) -> Response:
    """One page, ordered by id; one more row is read to know whether there is another."""
    objects = service.facts.removed if removed else service.facts.objects
    found = objects(of, asked.limit + 1, _after(asked.cursor))
    shown = [show(stored) for stored in found[: asked.limit]]
    more = len(found) > asked.limit
    return _json({name: shown, "next_cursor": _cursor(shown[-1][key]) if more else None})


def made(of: type[T], body: Body, **more: Any) -> T:
    """The object of a body that was checked; `more` is what the body does not hold."""
    return msgspec.convert({**body.model_dump(by_alias=True), **more}, of)


def plain(item: T) -> dict[str, Any]:
    """Every field of an object, times as they are."""
    found: dict[str, Any] = msgspec.to_builtins(item, builtin_types=(datetime,))
    return found


def shown(stored: Stored[T]) -> dict[str, Any]:
    """The object as stored, with what every stored object says of itself."""
    return {**plain(stored.body), "version": stored.version, "updated_at": stored.updated_at}


def refuse(faults: Iterable[Fault]) -> None:
    """`Invalid` if there are any."""
    if found := list(faults):
        raise Invalid(found)


def date_faults(starts_at: datetime | None, ends_at: datetime | None) -> Iterator[Fault]:
    if starts_at is not None and ends_at is not None and starts_at >= ends_at:
        yield Fault("/ends_at", "ends_at must be later than starts_at")


def author(caller: Key) -> str:
    """Who changes something, as it is kept with the change."""
    return f"key {caller.key_id}"


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
