"""What every request passes before its endpoint: a key that may, a body that fits, JSON that everybody reads alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, cast

import pydantic
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from serving.api.json_body import oddities, parse
from serving.arrival import ARRIVED
from serving.cors import ALLOWED_ORIGIN, check_origin_of
from serving.keys import Key, Keys
from serving.problems import Fault, Forbidden, Invalid, TooLarge, Unauthorized, UnsupportedMediaType
from serving.rate_limit import RateLimiter

MIB = 1024 * 1024
BODY_LIMIT = MIB
BATCH_LIMIT = 8 * MIB
LARGE = 64 * 1024  # parsed in another thread
NOTHING = (b"", b"{}")
MOST_FAULTS = 50  # of one body; more do not help anybody

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def needs(*scopes: str, public: bool = False) -> dict[str, Any]:
    """Route settings: a key with one of these scopes; `public` if keys in web pages may call."""
    extra: dict[str, Any] = {"security": [{"key": list(scopes)}]}
    return {"openapi_extra": extra | ({PUBLIC: True} if public else {})}


PUBLIC = "x-public-keys"  # in the description of a route


OPEN: dict[str, Any] = {"openapi_extra": {"security": []}}  # route settings: no key


class ProblemItem(pydantic.BaseModel):
    """One field that is wrong."""

    pointer: str = pydantic.Field(description="JSON pointer of the field; for `query` and `path` the parameter's name")
    detail: str
    code: str
    in_: str = pydantic.Field(alias="in", description="body, query, path or header")


class Problem(pydantic.BaseModel):
    """A fault as RFC 9457 has it; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemItem]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses that a route may give besides its own."""
    return {status: {"model": Problem} for status in sorted({*statuses, 500})}


class _Checked(Request):
    """A request whose body has been read and parsed."""

    parsed: Any

    async def json(self) -> Any:
        return self.parsed


class Door(APIRoute):
    """A route that checks key and scope before it reads the body, and the body before it is validated."""

    body_limit = BODY_LIMIT
    checks_values = True  # false where a fault inside one item must not refuse the others

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        security = (self.openapi_extra or {}).get("security")
        if security is None:
            raise TypeError(f"{self.path} does not say who may call it, see `needs` and `OPEN`")
        scopes = security[0]["key"] if security else ()
        public = bool((self.openapi_extra or {}).get(PUBLIC))

        async def checked(request: Request) -> Response:
            if scopes:
                request.state.key = authorize(request, scopes, public=public)
            if request.url.query and not self.dependant.query_params:
                raise Invalid([_unknown(name, "query") for name in request.query_params])
            if self.body_field is None:
                if request.method == "POST" and (await read_within(request, self.body_limit)).strip() not in NOTHING:
                    raise Invalid([_unknown("", "body")])
                return await handle(request)
            _check_media_type(request)
            body = await read_within(request, self.body_limit)
            request.state.received = getattr(request.state, ARRIVED, 0.0) or time.monotonic()  # deadlines run from here
            inner = _Checked(request.scope, request.receive)
            inner._body = body
            if len(body) <= LARGE:
                inner.parsed = self.value_of(body)
            else:  # others are answered meanwhile
                inner.parsed = await run_in_threadpool(self.value_of, body)
            return await handle(inner)

        return checked

    def value_of(self, body: bytes) -> Any:
        """The body's value; `Malformed` or `Invalid` if it is odd."""
        value = parse(body)
        if self.checks_values and (odd := oddities(value)):
            raise Invalid([Fault(pointer, detail) for pointer, detail in odd[:MOST_FAULTS]])
        return value


class BatchDoor(Door):
    """For a list of items that stand or fall one by one."""

    body_limit = BATCH_LIMIT
    checks_values = False


def _unknown(name: str, where: str) -> Fault:
    detail = f"{name}: there is no such parameter, this takes none" if name else "this takes no body"
    return Fault(name, detail, "unknown_field", where)


async def _key(request: Request) -> Key:
    return cast(Key, request.state.key)


Caller = Annotated[Key, Depends(_key)]


def authorize(request: Request, scopes: Sequence[str], *, public: bool = False) -> Key:
    """The caller's key. `Unauthorized` without a valid one; `Forbidden` if it has none of the scopes, or if it is a
    public key where none may be, or on a page that it is not for; `TooManyRequests`.
    """
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise Unauthorized("this needs a key: send the header `Authorization: Bearer <key>`", tried=False)
    keys: Keys = request.app.state.service.keys
    key = keys.verify(token)
    if key is None:
        raise Unauthorized("this key is unknown or revoked", tried=True)
    if key.kind == "public":
        setattr(request.state, ALLOWED_ORIGIN, check_origin_of(key, request.headers.get("origin")))
        if not public:
            raise Forbidden("a public key may only decide and send events; call with a secret key, from a server")
    if not set(scopes) & set(key.scopes):
        raise Forbidden(f"this needs a key with the scope {' or '.join(scopes)}", scopes)
    limiter_of(request).charge_key(key)
    return key


def limiter_of(request: Request) -> RateLimiter:
    """The one of this worker."""
    state = request.app.state
    if not hasattr(state, "limiter"):
        state.limiter = RateLimiter()
    return cast(RateLimiter, state.limiter)


async def read_within(request: Request, limit: int) -> bytes:
    """The body; `TooLarge` as soon as it is known to be larger, whatever its headers say."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise TooLarge(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _check_media_type(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedMediaType(f"Content-Encoding is {encoding[:40]!r}; send the body as it is")
    given = request.headers.get("content-type")
    if given is None:
        return
    name, _, parameters = given.partition(";")
    kind, _, subtype = name.strip().lower().partition("/")
    if kind != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise UnsupportedMediaType(f"Content-Type is {given[:80]!r}, expected application/json")
    charset = parameters.strip().lower().replace('"', "").replace(" ", "")
    if charset.startswith("charset=") and charset not in ("charset=utf-8", "charset=utf8", "charset=us-ascii"):
        raise UnsupportedMediaType(f"Content-Type is {given[:80]!r}, expected UTF-8")
