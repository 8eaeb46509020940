"""The HTTP application: routers, and the one table that turns errors into problems."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from features.errors import (
    BadInput,
    Conflict,
    ExperimentRefused,
    InputsExpired,
    NboError,
    NotFound,
    StaleVersion,
    StoreUnavailable,
)
from serving.api import (
    batch,
    contact_policies,
    customers,
    decisions,
    events,
    experiment_reports,
    experiments,
    identities,
    levers,
    offers,
    operations,
    placements,
    preferences,
    replays,
)
from serving.api.door import MOST_FAULTS
from serving.api.faults import fault_of
from serving.api.not_built import is_promised
from serving.api.service import Service
from serving.cors import Cors
from serving.fast_route import FastDecisions
from serving.middleware import Envelope
from serving.problems import (
    MEDIA_TYPE,
    Busy,
    Fault,
    Forbidden,
    Invalid,
    Malformed,
    NotImplementedYet,
    Refused,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
    problem,
)

logger = logging.getLogger(__name__)
ROUTERS = (
    decisions.router, batch.router, replays.router, events.router, preferences.router, identities.router,
    customers.router, offers.router, placements.router, contact_policies.router, levers.router, experiments.router,
    experiment_reports.router, operations.router,
)  # fmt: skip
STATUS: Mapping[type[NboError], int] = {  # the nearest class in the error's tree counts
    Malformed: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    NotImplementedYet: 404,
    Conflict: 409,
    InputsExpired: 410,
    StaleVersion: 412,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    BadInput: 422,
    Invalid: 422,
    TooManyRequests: 429,
    StoreUnavailable: 503,
    Busy: 503,
    NboError: 500,
}
CODES = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
STORE_UNAVAILABLE = "a store did not answer; nothing was acknowledged; try again"
SEGMENT = re.compile(r"\{\w+\}")
FIRST_SENTENCE = re.compile(r"(?<=\.)\s|\n\s*\n")
DESCRIPTION = (
    "Which offer to show which customer, with the probability it was chosen with. Errors are RFC 9457 problems with a "
    "stable code."
)


def create_app(service: Service) -> FastAPI:
    """The application over a service that it starts and closes."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        service.answering.start()
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="Next best offer",
        version=version("next-best-offer"),
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=False,  # the door has looked
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(Cors)
    app.add_middleware(Envelope)  # the last one added is the outermost
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(NboError, _error)
    app.add_exception_handler(sqlite3.OperationalError, _store)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def from_settings() -> ASGIApp:
    """For uvicorn's workers: the application of the settings in the environment."""
    from serving.parent import end_with_parent
    from serving.settings import load_settings
    from serving.wiring import build

    end_with_parent()
    service = build(load_settings(), alone=True)
    return FastDecisions(create_app(service), service)


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NboError)
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if status == 500:
        raise error
    faults: Sequence[Fault] = ()
    headers: dict[str, str] = {}
    if isinstance(error, Refused):
        faults, headers = error.faults, dict(error.headers)
    elif isinstance(error, BadInput):
        faults = [Fault(error.field or "", error.detail)]
    elif isinstance(error, ExperimentRefused):
        faults = [Fault(pointer, error.detail, error.code) for pointer in error.fields]
    detail = str(error)
    if isinstance(error, StoreUnavailable):  # which store, and where it lies, is for the log and not for callers
        logger.error("request %s: %s", request.state.request_id, error)
        detail, headers["Retry-After"] = STORE_UNAVAILABLE, "1"
    return problem(status, error.code, detail, request.state.request_id, faults=faults, headers=headers)


async def _store(request: Request, error: Exception) -> Response:
    """A SQLite file that is locked, full or gone."""
    return await _error(request, StoreUnavailable(f"a store did not answer: {error}"))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault(one) for one in error.errors()[:MOST_FAULTS]]
    return await _error(request, Invalid(faults))


def _fault(error: Mapping[str, Any]) -> Fault:
    where, *parts = error["loc"]
    return fault_of(error, str(where), parts)


async def _http(request: Request, error: Exception) -> Response:
    """What the router itself says: there is no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.scope["path"]
    if error.status_code in (404, 405) and is_promised(method, path):
        return await _error(request, NotImplementedYet(f"{method} {path} is part of the contract and not built yet"))
    code = CODES.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
    detail = f"there is no {method} {path}" if error.status_code in (404, 405) else str(error.detail)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request.app, path))  # the router knows of one only
    return problem(error.status_code, code, detail, request.state.request_id, headers=headers)


def _methods(app: FastAPI, path: str) -> list[str]:
    templates: dict[str, dict[str, Any]] = app.openapi()["paths"]
    fits = [methods for template, methods in templates.items() if re.fullmatch(SEGMENT.sub("[^/]+", template), path)]
    return sorted({method.upper() for methods in fits for method in methods})


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Made once: FastAPI's description, with summaries, problems under their own media type, and the keys."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for operation in (operation for path in found["paths"].values() for operation in path.values()):
            if description := operation.get("description"):
                operation["summary"] = FIRST_SENTENCE.split(description, maxsplit=1)[0].replace("\n", " ").rstrip(".")
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    response["content"] = {MEDIA_TYPE: response["content"].pop("application/json")}
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = found
    return app.openapi_schema
