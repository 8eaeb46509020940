"""The kinds of field that requests are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import unquote

import pydantic
from fastapi import Path
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from features.errors import BadEvent, BadInput
from features.events import MAX_VALUE, has_control_characters, parse_time
from features.profile import CATEGORY
from serving.rules.windows import parse_duration, parse_time_of_day, parse_window

OBJECT_ID = r"^[A-Za-z0-9._:-]{1,128}$"
LONGEST_CUSTOMER_ID = 256
WINDOW = r"^([1-9][0-9]{0,5}[mhd]|calendar_(day|week|month))$"  # for editors; the parser has the last word
DURATION = r"^[1-9][0-9]{0,5}[mhd]$"
TIME_OF_DAY = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


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


def _of_something(key: str) -> str:
    if key == CATEGORY:
        raise ValueError(f"must name a category behind {CATEGORY}")
    return key


def _time(given: Any) -> Any:
    if isinstance(given, datetime):
        return given
    try:
        return parse_time(given, "the time")
    except BadEvent as error:
        raise ValueError(error.detail) from None


def _parsed_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """The text itself, if it parses."""

    def check(text: str) -> str:
        try:
            parse(text)
        except BadInput as error:
            raise ValueError(error.detail) from None
        return text

    return check


def _whole_millionths(amount: float) -> float:
    millionths = amount * 1e6
    if abs(millionths - round(millionths)) > 4 * math.ulp(millionths):  # sums of floats are off by so much
        raise ValueError("must be whole millionths of the currency, 0.000001 at least or 0")
    return amount


ObjectId = Annotated[str, StringConstraints(pattern=OBJECT_ID)]
CustomerId = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_CUSTOMER_ID), AfterValidator(_no_control_characters)
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_no_control_characters)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256), AfterValidator(_no_control_characters)]
ConsentKey = Annotated[  # a channel, or the mark of a category and its name
    str,
    StringConstraints(min_length=1, max_length=256 + len(CATEGORY)),
    AfterValidator(_no_control_characters),
    AfterValidator(_of_something),
]
Token = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Time = Annotated[datetime, BeforeValidator(_time)]
Amount = Annotated[float, Field(ge=-MAX_VALUE, le=MAX_VALUE, allow_inf_nan=False)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Free = dict[str, Any]
Limit = Annotated[int, Field(ge=1, le=1_000_000)]
Units = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
Money = Annotated[float, Field(ge=0, le=MAX_VALUE, allow_inf_nan=False), AfterValidator(_whole_millionths)]
Window = Annotated[str, AfterValidator(_parsed_by(parse_window)), WithJsonSchema({"type": "string", "pattern": WINDOW})]
Duration = Annotated[
    str, AfterValidator(_parsed_by(parse_duration)), WithJsonSchema({"type": "string", "pattern": DURATION})
]
TimeOfDay = Annotated[
    str, AfterValidator(_parsed_by(parse_time_of_day)), WithJsonSchema({"type": "string", "pattern": TIME_OF_DAY})
]
Rule = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1})]  # for editors; its limits are the language's


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
