"""Is it alive, is it ready, and what does it offer: `/livez`, `/readyz`, `/openapi.json`, `/docs`."""

from __future__ import annotations

from typing import Any

import orjson
import pydantic
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from serving.api.door import OPEN, Door, problems
from serving.api.reference import page
from serving.api.service import Served
from serving.problems import problem

router = APIRouter(tags=["operations"], route_class=Door)
NOTHING_FROM_ELSEWHERE = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class AliveOut(pydantic.BaseModel):
    status: str


class CheckOut(pydantic.BaseModel):
    name: str
    ok: bool
    detail: str
    needed: bool = Field(description="Whether the service cannot answer without it.")


class ReadyOut(pydantic.BaseModel):
    status: str = Field(description="ready, or degraded: it answers, without something it could use.")
    checks: list[CheckOut]


@router.head("/livez", include_in_schema=False, **OPEN)
@router.get("/livez", response_model=AliveOut, responses=problems(), **OPEN)
async def livez() -> Response:
    """The process answers."""
    return _json({"status": "alive"})


@router.head("/readyz", include_in_schema=False, **OPEN)
@router.get("/readyz", response_model=ReadyOut, responses=problems(503), **OPEN)
def readyz(request: Request, service: Served) -> Response:
    """Each dependency, and whether the service can answer without it; 503 when it cannot."""
    checks = service.readiness()
    shown = [{"name": c.name, "ok": c.ok, "detail": c.detail, "needed": c.needed} for c in checks]
    missing = [check.name for check in checks if check.needed and not check.ok]
    if missing:
        detail = f"the service cannot answer without {', '.join(missing)}"
        headers = {"Retry-After": "1"}
        return problem(503, "not_ready", detail, request.state.request_id, headers=headers, checks=shown)
    return _json({"status": "ready" if all(check.ok for check in checks) else "degraded", "checks": shown})


@router.get("/openapi.json", include_in_schema=False, **OPEN)
async def openapi(request: Request) -> Response:
    """This API, as OpenAPI 3.1."""
    return _json(request.app.openapi())


@router.get("/docs", include_in_schema=False, **OPEN)
async def docs(request: Request) -> Response:
    """This API, to read."""
    headers = {"Content-Security-Policy": NOTHING_FROM_ELSEWHERE, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(page(request.app.openapi()), headers=headers)


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
