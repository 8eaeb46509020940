"""Cross-origin calls: a page may read an answer only if its origin is one of its key's.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.keys import Key, Keys
from serving.problems import Forbidden

PATHS = frozenset({"/v1/decisions", "/v1/events"})  # where public keys may call
ALLOWED_ORIGIN = "allowed_origin"  # in the request's state: of the page that may read the answer
PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "authorization, content-type, x-request-id",
    "Access-Control-Max-Age": "600",
}
READABLE = "Retry-After, X-Request-Id"


class Cors:
    """Inside of `Envelope`: answers preflights, and lets the key's own origins read what comes back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if scope["method"] == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
            keys: Keys = scope["app"].state.service.keys
            await _preflight(origin, keys)(scope, receive, send)
            return

        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added.add_vary_header("Origin")
                allowed = scope.get("state", {}).get(ALLOWED_ORIGIN)
                if allowed is not None:
                    added["Access-Control-Allow-Origin"] = allowed
                    added["Access-Control-Expose-Headers"] = READABLE
            await send(message)

        await self.app(scope, receive, send_with_origin)


def _preflight(origin: str, keys: Keys) -> Response:
    """A preflight names no key, so it passes if any lists the origin. The call itself is held to its own key's."""
    if origin not in keys.origins():
        return Response(status_code=403, headers={"Vary": "Origin"})
    return Response(status_code=204, headers={"Access-Control-Allow-Origin": origin, "Vary": "Origin", **PREFLIGHT})


def check_origin_of(key: Key, origin: str | None) -> str | None:
    """The origin that may read the answer; `Forbidden` for a page that is not one of the key's. None: no page asks."""
    if origin is None or key.kind != "public":
        return None
    if origin not in key.limits.origins:
        raise Forbidden("this key is not for pages of this origin; `nbo keys create --origin` makes one that is")
    return origin
