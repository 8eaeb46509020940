"""`POST /v1/decisions/{decision_id}/replay`: a logged decision made again, and what differs."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from fastapi import APIRouter, Query, Response
from pydantic import Field

from serving.api.answers import answer_dict, encoded
from serving.api.decisions import DecisionOut
from serving.api.door import Door, needs, problems
from serving.api.fields import ObjectIdInPath
from serving.api.service import Served

router = APIRouter(prefix="/v1/decisions", tags=["decisions"], route_class=Door)


class ReplayQuery(pydantic.BaseModel):
    """How to replay."""

    model_config = pydantic.ConfigDict(extra="forbid")
    explain: bool = Field(False, description="Also say why each offer was chosen, and why not.")


class DifferenceOut(pydantic.BaseModel):
    at: str = Field(description="JSON pointer into the logged decision.")
    was: Any
    now: Any


class ReplayOut(pydantic.BaseModel):
    """The decision made again from its row of the log."""

    decision_id: str
    equal: bool = Field(description="Whether it came out the same to the last bit, with all that was logged.")
    diff: list[DifferenceOut] = Field(description="Where it did not, at most 100 values; empty if equal.")
    decision: DecisionOut


@router.post(
    "/{decision_id}/replay",
    response_model=ReplayOut,
    responses=problems(401, 403, 404, 410, 422, 503),
    **needs("decide", "admin"),
)
def replay(
    decision_id: ObjectIdInPath,
    service: Served,
    asked: Annotated[ReplayQuery, Query()],
) -> Response:
    """Make a logged decision again. With the inputs, release, catalogue, beliefs, levers, counters and seed of then;
    nothing is logged or used up. 410 `inputs_expired` when they are no longer kept.
    """
    again = service.replayer.replay(decision_id, explain=asked.explain)
    answer = {
        "decision_id": decision_id,
        "equal": again.equal,
        "diff": [one._asdict() for one in again.diff],
        "decision": {**answer_dict(service, again.decision), "degraded": again.decision.degraded},  # as of then
    }
    return Response(encoded(answer), media_type="application/json")
