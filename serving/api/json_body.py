"""JSON as strict as a contract needs it: what two readers could read differently is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from serving.problems import Malformed

MAX_DEPTH = 32
MAX_DIGITS = 64  # of a whole number; longer ones are refused as out of range, without the quadratic conversion
LARGEST_INT = 2**63 - 1  # what SQLite, Parquet and most languages hold


def parse(body: bytes) -> Any:
    """The body's value; `Malformed` for anything that is not one JSON text in UTF-8 with unique keys."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 (byte {error.start})") from None
    if not text.strip(" \t\r\n"):
        raise Malformed("the body is empty, expected a JSON object")
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None


def oddities(value: Any, pointer: str = "") -> list[tuple[str, str]]:
    """(JSON pointer, what is wrong) of values that are JSON and yet cannot be kept faithfully everywhere."""
    found: list[tuple[str, str]] = []
    _look_into(value, pointer, 0, found)
    return found


def _look_into(value: Any, pointer: str, depth: int, found: list[tuple[str, str]]) -> None:
    if depth > MAX_DEPTH:
        found.append((pointer, f"is nested more than {MAX_DEPTH} levels deep"))
    elif isinstance(value, dict):
        for key, item in value.items():
            if (fault := _fault(key)) is not None:
                found.append((pointer, f"has a key that {fault}"))
            if isinstance(item, dict | list) or _fault(item) is not None:
                _look_into(item, f"{pointer}/{escaped(key)}", depth + 1, found)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            if isinstance(item, dict | list) or _fault(item) is not None:
                _look_into(item, f"{pointer}/{i}", depth + 1, found)
    elif (fault := _fault(value)) is not None:
        found.append((pointer, fault))


def escaped(part: str) -> str:
    """One part of a JSON pointer. Source: RFC 6901, section 3."""
    return part.replace("~", "~0").replace("/", "~1")


def _fault(value: Any) -> str | None:
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "is out of the range of numbers"
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        return "is a whole number of more than 64 bits; send it as a string"
    return None


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "holds the character U+0000"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not Unicode text"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Malformed(f"the key {name[:64]!r} is given more than once in one object")
            seen.add(name)
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"the body is not JSON: {name} is not a number there")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole)
