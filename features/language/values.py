"""The values that rules compare, and how two of them compare: the meaning of the language, one value at a time.

A value is a number, a text, a boolean, an instant, a mapping of a keyed feature, a list, or None for missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias

import msgspec

from features.errors import BadEvent
from features.events import parse_time, to_us
from features.language.syntax import Order


@dataclass(frozen=True, slots=True)
class Instant:
    us: float  # microseconds since 1970 UTC


Value: TypeAlias = float | str | bool | Instant | Mapping[str, object] | Sequence[object] | None


def plain(raw: object) -> Value:
    """What is stored or sent, as a rule sees it. NaN is missing, and so is a number beyond floats."""
    if raw is None or isinstance(raw, bool | str | Instant):
        return raw
    if isinstance(raw, int | float):
        try:
            number = float(raw)
        except OverflowError:
            return None
        return None if math.isnan(number) else number
    if isinstance(raw, datetime):
        return Instant(float(to_us(raw))) if raw.tzinfo is not None else None
    return raw if isinstance(raw, Mapping | list | tuple) else None


def instant_of(value: Value) -> Instant | None:
    """An instant as it is, a text if it is an RFC 3339 time or a date (midnight UTC); else None."""
    if isinstance(value, str):
        us = time_of(value)
        return None if us is None else Instant(us)
    return value if isinstance(value, Instant) else None


def time_of(text: str) -> float | None:
    """Microseconds since 1970 UTC of an RFC 3339 time, or of a date's midnight in UTC; None if it is neither."""
    if not 10 <= len(text) <= 40 or text[4] != "-" or text[7] != "-" or not text.isascii():
        return None
    try:
        if len(text) == 10:
            text = f"{msgspec.convert(text, date).isoformat()}T00:00:00Z"
        return float(to_us(parse_time(text)))
    except (BadEvent, msgspec.ValidationError):
        return None


def compare(left: Value, order: Order, right: Value) -> bool | None:
    """None where one is missing, or the two have no such order: another kind, or no order at all."""
    if isinstance(left, bool) or isinstance(right, bool):
        if isinstance(left, bool) and isinstance(right, bool) and order in ("==", "!="):
            return (left == right) is (order == "==")
        return None
    if isinstance(left, float) and isinstance(right, float):
        return _ordered(left, order, right)
    if isinstance(left, str) and isinstance(right, str) and order in ("==", "!="):
        return (left == right) is (order == "==")
    earlier, later = instant_of(left), instant_of(right)
    if earlier is None or later is None:
        return None
    return _ordered(earlier.us, order, later.us)


def _ordered(left: float, order: Order, right: float) -> bool:
    match order:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "==":
            return left == right
        case "!=":
            return left != right


def entry(of: Value, key: Value) -> Value:
    """The number under a key: 0 where the mapping has no such key; None unless it is a mapping and a text."""
    if not isinstance(of, Mapping) or not isinstance(key, str):
        return None
    return plain(of.get(key, 0.0))


def either(parts: Sequence[bool | None]) -> bool | None:
    """Kleene's or: true if one is true, else unknown if one is unknown."""
    return True if True in parts else None if None in parts else False


def every(parts: Sequence[bool | None]) -> bool | None:
    """Kleene's and: false if one is false, else unknown if one is unknown."""
    return False if False in parts else None if None in parts else True


def opposite(part: bool | None) -> bool | None:
    return None if part is None else not part
