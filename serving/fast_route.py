"""The plain question, answered without the framework: `POST /v1/decisions` beside the FastAPI application.

Only what is certainly fine is taken here. Anything else, a fault above all, goes to the application as it came, so
that every error is the application's own; a test holds the answers of both ways equal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.errors import NboError
from features.events import has_control_characters, visitor_key
from serving.api.answers import answer_bytes, submit
from serving.api.door import BODY_LIMIT
from serving.api.fields import LONGEST_CUSTOMER_ID, OBJECT_ID
from serving.api.json_body import oddities
from serving.api.service import Service
from serving.arrival import ARRIVED
from serving.decision import DecisionRequest, PlacementRequest
from serving.ids import new_request_id
from serving.middleware import GIVEN_ID

logger = logging.getLogger(__name__)
PATH = b"/v1/decisions"
MOST_CONTEXT_KEYS = 64
MOST_CONTEXT_BYTES = 16 * 1024
LONGER_ANEW = 8
DEADLINE_MS = 100  # where none is said
LARGEST = 16 * 1024  # of a body; larger ones are rare, and may hold up others while they are parsed

ObjectId = Annotated[str, msgspec.Meta(pattern=OBJECT_ID)]
CustomerId = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_CUSTOMER_ID)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class PlacementAsked(msgspec.Struct, forbid_unknown_fields=True):
    placement_id: ObjectId
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] | UnsetType = UNSET


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """`DecisionIn` without what is not plain; what was not said is unset, so that keys can be counted."""

    placements: Annotated[list[PlacementAsked], msgspec.Meta(min_length=1, max_length=20)]
    customer_id: CustomerId | UnsetType | None = UNSET
    anonymous_id: CustomerId | UnsetType | None = UNSET
    channel: Label | UnsetType | None = UNSET
    context: dict[str, Any] | UnsetType = UNSET
    exclude_offer_ids: Annotated[list[ObjectId], msgspec.Meta(max_length=1000)] | UnsetType = UNSET
    deadline_ms: Annotated[int, msgspec.Meta(ge=5, le=5000)] | UnsetType = UNSET


_MATTER = frozenset(
    (b"authorization", b"content-type", b"content-length", b"x-request-id", b"content-encoding", b"origin")
)
_decoder = msgspec.json.Decoder(Asked)


class FastDecisions:
    """ASGI: answers plain decisions itself, and hands everything else to `app`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("raw_path") != PATH:
            await self.app(scope, receive, send)
            return
        request_id = None if scope.get("query_string") else self._may_ask(scope)  # no parameter is plain
        if request_id is None:
            await self.app(scope, receive, send)
            return
        message = await receive()
        if message["type"] != "http.request" or message.get("more_body") or len(message["body"]) > LARGEST:
            await self.app(scope, _again(message, receive), send)
            return
        received = scope.get("state", {}).get(ARRIVED) or time.monotonic()  # finer than the clock of a loop
        answer = await self._answered(message["body"], received)
        if answer is None:
            await self.app(scope, _again(message, receive), send)
            return
        headers = [
            (b"content-length", b"%d" % len(answer)),
            (b"content-type", b"application/json"),
            (b"x-request-id", request_id),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _may_ask(self, scope: Scope) -> bytes | None:
        """The request's id if its headers are plain and its key is a secret one that may decide."""
        token, request_id = b"", b""
        for name, value in scope["headers"]:
            if name not in _MATTER:
                continue
            if name == b"authorization":
                if token:
                    return None
                token = value
            elif name == b"content-type":
                if value != b"application/json":
                    return None
            elif name == b"content-length":
                if not value.isdigit() or len(value) > 7 or int(value) > BODY_LIMIT:
                    return None
            elif name == b"x-request-id":
                if not GIVEN_ID.match(value.decode("latin-1")):
                    return None
                request_id = value
            else:  # another encoding, or a page's question
                return None
        if not token.startswith(b"Bearer sk_"):
            return None
        try:
            key = self.service.keys.verify(token[7:].decode("ascii"))
        except (NboError, UnicodeDecodeError):
            return None
        if key is None or key.kind != "secret" or "decide" not in key.scopes or key.limits.per_s is not None:
            return None
        return request_id or new_request_id().encode()

    async def _answered(self, body: bytes, received: float) -> bytes | None:
        """None: this is not for us. Nothing was decided then."""
        request = plain_request(body)
        if request is None:
            return None
        try:
            decision = await self.service.answering.decide(request, received)
        except NboError:  # such as an unknown placement
            return None
        answer = answer_bytes(self.service, decision)
        written = submit(self.service, decision)
        if written is not None:
            await asyncio.wrap_future(written)
        self.service.meter.answered(decision, request, time.monotonic() - received)
        return answer


def plain_request(body: bytes) -> DecisionRequest | None:
    """The question of a plain body; None if anything about it is unusual, wrong or not."""
    if b"\t" in body or b"\n" in body or b"\r" in body or b"  " in body:
        return None  # so that keys can be counted
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    customer_id, anonymous_id, channel = asked.customer_id or None, asked.anonymous_id or None, asked.channel or None
    who = customer_id if anonymous_id is None else anonymous_id
    if who is None or (customer_id is None) == (anonymous_id is None):
        return None
    if has_control_characters(who) or (channel is not None and has_control_characters(channel)):
        return None
    context: dict[str, Any] = asked.context or {}
    placements = tuple([PlacementRequest(p.placement_id, p.limit or 1) for p in asked.placements])
    if len(placements) > 1 and len({one.placement_id for one in placements}) != len(placements):
        return None
    if not _fine(context, len(body)) or not _keys_stand_once(body, asked, context):
        return None
    return DecisionRequest(
        customer_id=visitor_key(customer_id, anonymous_id),
        placements=placements,
        channel=channel,
        context=context,
        exclude_offer_ids=frozenset(asked.exclude_offer_ids or ()),
        deadline_ms=asked.deadline_ms or DEADLINE_MS,
    )


def _fine(context: dict[str, Any], n_bytes: int) -> bool:
    """`n_bytes` is the length of the body; written anew, with all digits, the context may be some times longer."""
    if not context:
        return True
    small = n_bytes * LONGER_ANEW <= MOST_CONTEXT_BYTES or len(msgspec.json.encode(context)) <= MOST_CONTEXT_BYTES
    return small and len(context) <= MOST_CONTEXT_KEYS and (_all_ascii(context) or not oddities(context))


def _all_ascii(context: dict[str, Any]) -> bool:
    """Whether it is nothing but short words, the usual case: nothing can be odd about it."""
    for key, value in context.items():
        if type(value) is not str or not ((said := key + value).isascii() and said.isprintable()):
            return False
    return True


def _keys_stand_once(body: bytes, asked: Asked, context: dict[str, Any]) -> bool:
    """Whether as many keys were written as were read; a colon within a string counts as a doubt."""
    n_said = 1 + sum([getattr(asked, name) is not UNSET for name in _MAY_BE_LEFT_OUT])
    n_of_placements = len(asked.placements) + sum([one.limit is not UNSET for one in asked.placements])
    return n_said + n_of_placements + _n_keys(context) == body.count(b'":') + body.count(b'" :')


_MAY_BE_LEFT_OUT = Asked.__struct_fields__[1:]  # all but the placements


def _n_keys(value: dict[str, Any] | list[Any]) -> int:
    n, items = (len(value), value.values()) if isinstance(value, dict) else (0, value)
    for item in items:
        if isinstance(item, _NESTED):
            n += _n_keys(item)
    return n


_NESTED = (dict, list)


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives this message first."""
    first: list[Message] = [message]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed
