"""The kinds of field that requests are made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import unquote

import pydantic
from fastapi import Path
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from features.errors import BadEvent
from features.events import MAX_VALUE, has_control_characters, parse_time

OBJECT_ID = r"^[A-Za-z0-9._:-]{1,128}$"
LONGEST_CUSTOMER_ID = 256


class Body(pydantic.BaseModel):
    """A request body: no field we do not know, no value of another type; what a GET added may come back."""

    model_config = ConfigDict(extra="forbid", strict=True)
    read_only: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_read_only(cls, given: Any) -> Any:
        if not isinstance(given, dict) or cls.read_only.isdisjoint(given):
            return given
        return {name: value for name, value in given.items() if name not in cls.read_only}


def _no_control_characters(text: str) -> str:
    if has_control_characters(text):
        raise ValueError("must not hold control characters")
    return text


def _time(given: Any) -> Any:
    if isinstance(given, datetime):
        return given
    try:
        return parse_time(given, "the time")
    except BadEvent as error:
        raise ValueError(error.detail) from None


def _only(default: Any, shown: str) -> Callable[[Any], Any]:
    """For a field of the contract that is not built: any other value would be ignored in silence."""

    def check(given: Any) -> Any:
        if type(given) is not type(default) or given != default:
            raise ValueError(f"is not built yet: only {shown} is taken, as another value would have no effect")
        return given

    return check


ObjectId = Annotated[str, StringConstraints(pattern=OBJECT_ID)]
CustomerId = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_CUSTOMER_ID), AfterValidator(_no_control_characters)
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_no_control_characters)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_no_control_characters)]
Time = Annotated[datetime, BeforeValidator(_time)]
Amount = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE, allow_inf_nan=False)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Free = dict[str, Any]
NullForNow = Annotated[None, BeforeValidator(_only(None, "null"))]
FalseForNow = Annotated[bool, BeforeValidator(_only(False, "false"))]
EmptyForNow = Annotated[list[Any], BeforeValidator(_only([], "[]")), Field(max_length=0)]


def _segment(raw: Any) -> Any:
    """A part of the path as it was before percent-encoding; the path is matched while still encoded."""
    if not isinstance(raw, str) or "%" not in raw:
        return raw
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw):
        raise ValueError("is not percent-encoded as a path must be")
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 under its percent-encoding") from None


ObjectIdInPath = Annotated[ObjectId, BeforeValidator(_segment), Path()]
CustomerIdInPath = Annotated[CustomerId, BeforeValidator(_segment), Path(description="Percent-encoded.")]
