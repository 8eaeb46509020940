"""Around every request: an id, a path that is matched as it was sent, and no answer that shows a stack trace."""

from __future__ import annotations

import logging
import os
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.problems import problem

GIVEN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
HEADER = "X-Request-Id"


class Envelope:
    """Outermost: whatever happens inside, the caller gets an answer that names its request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if GIVEN_ID.match(given) else os.urandom(12).hex()
        scope.setdefault("state", {})["request_id"] = request_id
        scope["path"] = _as_sent(scope)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            return
        except Exception:
            logging.getLogger(__name__).exception("request %s failed: %s", request_id, scope["method"])
            if started:
                raise
            detail = "something broke on our side; the log has the request's id"
            await problem(500, "internal", detail, request_id)(scope, receive, send_with_id)


def _as_sent(scope: Scope) -> str:
    """The path with its percent-encoding, so that an id that holds a slash stays one segment."""
    raw: bytes | None = scope.get("raw_path")
    return str(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
