"""`/v1/experiments/{id}/report`: what an experiment has shown, as JSON or to read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, cast

import pydantic
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from serving.api.door import Door, needs, problems
from serving.api.fields import Label, ObjectIdInPath
from serving.api.operations import NOTHING_FROM_ELSEWHERE
from serving.api.service import Served
from serving.report_aside import FRESH_S, Reporter, reportable

router = APIRouter(prefix="/v1/experiments", tags=["experiments"], route_class=Door)
JSON, HTML = "application/json", "text/html"


class VerdictOut(pydantic.BaseModel):
    """What to do, and why, in words."""

    decision: Literal["ship", "stop", "keep running", "do not trust"]
    variant: str | None
    reasons: list[str]
    harm: bool = Field(description="A guardrail rang, or the primary metric is worse for sure.")


class EffectOut(pydantic.BaseModel, extra="allow"):
    """Variant against control. Null is "could not be computed", and `flags` say why; never a zero."""

    variant: str
    n_control: int
    n_variant: int
    estimate_control: float | None
    estimate_variant: float | None
    absolute: float | None
    absolute_low: float | None = Field(description="Of the interval of one look.")
    absolute_high: float | None
    relative: float | None = Field(description="variant ÷ control − 1")
    relative_low: float | None
    relative_high: float | None
    p_value: float | None
    p_adjusted: float | None = Field(description="For the other comparisons of the same family.")
    cuped_reduction: float | None
    method: str
    flags: list[str]


class MetricOut(pydantic.BaseModel):
    metric: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    role: Literal["primary", "secondary", "guardrail"]
    formula: str
    effects: list[EffectOut]


class LookOut(pydantic.BaseModel, extra="allow"):
    """What one look saw."""

    at: datetime
    n: int
    z: float | None
    bound: float | None = Field(description="|z| at which this look decides. Null: it cannot.")
    low: float | None = Field(description="Of the absolute effect, valid at every planned look.")
    high: float | None
    always_low: float | None = Field(description="Of the absolute effect, valid however often one looks.")
    always_high: float | None


class PathOut(pydantic.BaseModel, extra="allow"):
    """All looks at the primary metric of one variant."""

    variant: str
    looks: list[LookOut]
    outcome: Literal["better", "worse", "undecided"]
    decided_at: datetime | None


class SampleRatioOut(pydantic.BaseModel):
    observed: dict[str, int]
    expected: dict[str, float]
    p_chi2: float | None
    p_sequential: float | None = Field(description="Valid at every look.")
    mismatch: bool
    flags: list[str]


class GuardedOut(pydantic.BaseModel, extra="allow"):
    metric: str
    variant: str
    limit: float
    side: Literal["max", "min"]
    state: Literal["alarm", "safe", "open", "unknown"]
    relative: float | None
    alarm_at: datetime | None


class ReportOut(pydantic.BaseModel, extra="allow"):
    """Everything that the report shows; also by segment, by day since exposure, and what it could still find."""

    experiment_id: str
    at: datetime
    control: str
    variants: list[str]
    n_units: int
    planned_units: int | None
    verdict: VerdictOut
    verdicts: list[VerdictOut] = Field(description="By variant.")
    alarmed: bool = Field(description="A guardrail rang, a variant does harm, or the numbers are not to be trusted.")
    metrics: list[MetricOut] = Field(description="The primary first.")
    paths: list[PathOut]
    sample_ratio: SampleRatioOut
    guardrails: list[GuardedOut]
    n_crossed: int
    flags: list[str]
    currency: str


class ReportAsked(pydantic.BaseModel, extra="forbid"):
    segment: list[Label] = Field(
        [], max_length=10, description="Also by this attribute of customers, or `known`; may be given several times."
    )


@router.get(
    "/{experiment_id}/report",
    response_model=ReportOut,
    responses={**problems(401, 403, 404, 409, 422, 503), 200: {"content": {HTML: {"schema": {"type": "string"}}}}},
    **needs("catalogue"),
)
def report(
    experiment_id: ObjectIdInPath, asked: Annotated[ReportAsked, Query()], request: Request, service: Served
) -> Response:
    """Effects, intervals, checks and a verdict in words; `holdout` is the global holdout. `Accept: text/html` gives a
    page to read. It takes seconds to minutes, one is computed at a time, and is given again for a minute.
    """
    experiment = reportable(service.facts, experiment_id)
    made = _reporter(request, service).report(experiment, service.clock(), tuple(dict.fromkeys(asked.segment)))
    headers: dict[str, Any] = {"Cache-Control": f"private, max-age={FRESH_S:.0f}", "Vary": "Accept"}
    if prefers_page(request.headers.get("accept", "")):
        headers |= {"Content-Security-Policy": NOTHING_FROM_ELSEWHERE, "X-Content-Type-Options": "nosniff"}
        return Response(made.html, media_type=HTML, headers=headers)
    return Response(made.json, media_type=JSON, headers=headers)


def prefers_page(accept: str) -> bool:
    """Whether HTML is asked for by name, and more than JSON. Source: RFC 9110, section 12.5.1."""
    weights = dict(_weighed(one) for one in accept.lower().split(","))
    return weights.get(HTML, 0.0) > weights.get(JSON, 0.0)


def _weighed(one: str) -> tuple[str, float]:
    name, *parameters = (part.strip() for part in one.split(";"))
    told = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return name, float(told)
    except ValueError:
        return name, 0.0


def _reporter(request: Request, service: Served) -> Reporter:
    """The one of this worker."""
    state = request.app.state
    if not hasattr(state, "reporter"):
        state.reporter = Reporter(service.settings.home)
    return cast(Reporter, state.reporter)
