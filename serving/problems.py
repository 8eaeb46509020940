"""What went wrong, as callers see it: RFC 9457 problem+json with a code that stays.

NboError
└── Refused                    the door's own errors; each names its code, the table in serving/app.py its status
    ├── Malformed              not JSON at all, or not such that everybody reads the same
    ├── Unauthorized           no key, or none that we know
    ├── Forbidden              a key that may not do this
    │   └── CustomerTokenRefused   a customer_id without the site's word for it; serving/customer_token.py
    ├── NotImplementedYet      promised by the contract, not built
    ├── TooLarge               a body above its limit
    ├── TooManyRequests        more calls than a key, or a visitor with it, may make
    ├── Busy                   something that is done one at a time; later it may
    ├── UnsupportedMediaType   a body that does not say it is JSON
    └── Invalid                one or more fields that we cannot take
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from fastapi import Response

from features.errors import NboError

MEDIA_TYPE = "application/problem+json"
LONGEST_DETAIL = 600


class Fault(NamedTuple):
    """One field that is wrong; `pointer` is a JSON pointer into the body, or names the parameter."""

    pointer: str
    detail: str
    code: str = "invalid"
    where: str = "body"  # body, query, path, header


class Refused(NboError):
    """Anything that the door itself refuses."""

    headers: Mapping[str, str] = {}
    faults: Sequence[Fault] = ()


class Malformed(Refused):
    code = "malformed"


class Unauthorized(Refused):
    code = "unauthorized"

    def __init__(self, detail: str, *, tried: bool) -> None:
        super().__init__(detail)
        self.headers = {"WWW-Authenticate": 'Bearer realm="nbo"' + (', error="invalid_token"' if tried else "")}


class Forbidden(Refused):
    code = "forbidden"

    def __init__(self, detail: str, scopes: Sequence[str] = ()) -> None:
        super().__init__(detail)
        if scopes:
            challenge = f'Bearer realm="nbo", error="insufficient_scope", scope="{" ".join(scopes)}"'
            self.headers = {"WWW-Authenticate": challenge}


class NotImplementedYet(Refused):
    code = "not_implemented"


class TooLarge(Refused):
    code = "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit:,} bytes")
        self.limit = limit
        self.headers = {"Connection": "close"}  # what is still on its way is not read


class TooManyRequests(Refused):
    code = "too_many_requests"

    def __init__(self, wait_s: int, of_what: str = "") -> None:
        """`of_what`: the limit that no waiting helps against."""
        super().__init__(f"too many requests; {of_what or f'try again in {wait_s} s'}")
        self.wait_s = wait_s
        self.headers = {"Retry-After": str(wait_s)}


class Busy(Refused):
    code = "busy"

    def __init__(self, detail: str, wait_s: int) -> None:
        super().__init__(f"{detail}; try again in {wait_s} s")
        self.wait_s = wait_s
        self.headers = {"Retry-After": str(wait_s)}


class UnsupportedMediaType(Refused):
    code = "unsupported_media_type"


class Invalid(Refused):
    code = "invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        n = len(faults)
        super().__init__(faults[0].detail if n == 1 else f"{n} fields are not as they should be, see errors")
        self.faults = faults


def problem(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Response:
    """The answer for one fault. Source: RFC 9457, section 3."""
    body = {
        "type": f"urn:nbo:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": readable(detail),
        "code": code,
        "request_id": request_id,
        "errors": [
            {"pointer": readable(f.pointer), "detail": readable(f.detail), "code": f.code, "in": f.where}
            for f in faults
        ],
        **extra,
    }
    return Response(orjson.dumps(body), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def readable(text: str) -> str:
    """Text that any JSON reader takes, whatever it quotes, cut to a length that fits a log line."""
    if len(text) > LONGEST_DETAIL:
        text = text[: LONGEST_DETAIL - 1] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
