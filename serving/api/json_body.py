"""JSON as strict as a contract needs it: what two readers could read differently is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
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


def oddities(value: Any, pointer: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(JSON pointer, what is wrong) of values that are JSON and yet cannot be kept faithfully everywhere."""
    if isinstance(value, str):
        if (fault := _text_fault(value)) is not None:
            yield pointer, fault
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield pointer, "is out of the range of numbers"
    elif isinstance(value, int):
        if abs(value) > LARGEST_INT:
            yield pointer, "is a whole number of more than 64 bits; send it as a string"
    elif isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            yield pointer, f"is nested more than {MAX_DEPTH} levels deep"
            return
        if isinstance(value, list):
            for i, item in enumerate(value):
                yield from oddities(item, f"{pointer}/{i}", depth + 1)
            return
        for key, item in value.items():
            if (fault := _text_fault(key)) is not None:
                yield pointer, f"has a key that {fault}"
            yield from oddities(item, f"{pointer}/{escaped(key)}", depth + 1)


def escaped(part: str) -> str:
    """One part of a JSON pointer. Source: RFC 6901, section 3."""
    return part.replace("~", "~0").replace("/", "~1")


def _text_fault(text: str) -> str | None:
    if text.isascii():
        return "holds the character U+0000" if "\0" in text else None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is not Unicode text"
    return "holds the character U+0000" if "\0" in text else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Malformed(f"the key {twice[:64]!r} is given more than once in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"the body is not JSON: {name} is not a number there")


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else math.inf


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole)
