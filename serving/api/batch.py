"""`POST /v1/decisions/batch`: many questions in one request, each answered or refused for itself."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Annotated, Any

import msgspec
import pydantic
from fastapi import APIRouter, Request, Response
from pydantic import Field

from features.errors import BadInput, NboError
from serving.api.decisions import JSON, DecisionIn, DecisionOut, Question, answered, request_of
from serving.api.door import MOST_FAULTS, BatchDoor, Caller, Problem, needs, problems
from serving.api.faults import fault_of
from serving.api.fields import Body
from serving.api.json_body import oddities
from serving.api.service import Served
from serving.problems import Fault, Invalid, problem

MOST_REQUESTS = 1000
AT_ONCE = 2  # measured: with 4, single decisions take twice as long while a batch runs; with 2, a sixth longer

router = APIRouter(prefix="/v1/decisions", tags=["decisions"], route_class=BatchDoor)
logger = logging.getLogger(__name__)


class BatchIn(Body):
    requests: Annotated[
        list[Annotated[Any, pydantic.WithJsonSchema({"$ref": "#/components/schemas/DecisionIn"})]],
        Field(min_length=1, max_length=MOST_REQUESTS),
    ]


class BatchResultOut(pydantic.BaseModel):
    index: int = Field(description="Place in the request, from 0.")
    decision: DecisionOut | None = None
    problem: Problem | None = Field(None, description="What the single route would have answered.")


class BatchOut(pydantic.BaseModel):
    results: list[BatchResultOut] = Field(description="One per request, in their order.")


@router.post("/batch", response_model=BatchOut, responses=problems(400, 401, 403, 413, 415, 422), **needs("decide"))
async def decide_many(body: BatchIn, caller: Caller, service: Served, http: Request) -> Response:
    """Up to 1,000 decisions. Each stands for itself: its deadline runs from when its turn comes, its idempotency key
    counts, and a fault is a problem in its place. Single decisions go first: a batch takes its turns between them.
    """
    results: list[dict[str, Any]] = [{} for _ in body.requests]
    todo = iter(_in_turns(body.requests))

    async def take_turns() -> None:
        for index in chain.from_iterable(todo):
            raw = body.requests[index]
            try:
                question = _question(raw)
                asked = Question(request_of(question), time.monotonic(), public=False)
                answer = await answered(service, caller.key_id, question, asked)
                results[index] = {"index": index, "decision": msgspec.Raw(answer)}
            except Exception as error:
                results[index] = {"index": index, "problem": msgspec.Raw(await _problem(http, error))}
            await asyncio.sleep(0)

    await asyncio.gather(*(take_turns() for _ in range(AT_ONCE)))
    return Response(msgspec.json.encode({"results": results}), media_type=JSON)


def _in_turns(requests: Sequence[Any]) -> list[list[int]]:
    """Which requests follow each other: those with one idempotency key, so that the first of them counts."""
    turns: dict[Any, list[int]] = {}
    for index, raw in enumerate(requests):
        key = raw.get("idempotency_key") if isinstance(raw, dict) else None
        turns.setdefault(key if isinstance(key, str) else index, []).append(index)
    return list(turns.values())


def _question(raw: Any) -> DecisionIn:
    """One item as the single route reads it."""
    if odd := oddities(raw):
        raise Invalid([Fault(pointer, detail) for pointer, detail in odd[:MOST_FAULTS]])
    try:
        body = DecisionIn.model_validate(raw, from_attributes=True)  # as the framework reads a body
    except pydantic.ValidationError as error:
        raise Invalid(_faults(error)) from None
    if body.explain:
        raise BadInput("explain is for one decision at a time", "/explain")
    return body


def _faults(error: pydantic.ValidationError) -> Sequence[Fault]:
    return [fault_of(one, "body", one["loc"]) for one in error.errors()[:MOST_FAULTS]]


async def _problem(http: Request, error: Exception) -> bytes:
    """The body that the application answers an error with."""
    for kind in (NboError, sqlite3.OperationalError):
        if isinstance(error, kind):
            with suppress(NboError):  # one that is a fault of ours
                answer: Response = await http.app.exception_handlers[kind](http, error)
                return bytes(answer.body)
    request_id = http.state.request_id
    logger.error("request %s: one of a batch failed", request_id, exc_info=error)
    detail = "something broke on our side; the log has the request's id"
    return bytes(problem(500, "internal", detail, request_id).body)
