"""What pydantic finds wrong, as faults that point at the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.api.json_body import escaped
from serving.problems import Fault

FIELD_CODES = {"missing": "missing_field", "extra_forbidden": "unknown_field"}


def fault_of(error: Mapping[str, Any], where: str, parts: Sequence[str | int]) -> Fault:
    """One of pydantic's errors; `parts` is its place below `where`."""
    named = [str(part) for part in parts if part != "[key]"]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "is not a field that we know"
    shown = f"{_name(parts)}: {message}" if parts else message
    pointer = "".join(f"/{escaped(part)}" for part in named)
    return Fault(pointer, shown, FIELD_CODES.get(error["type"], "invalid_field"), where)


def _name(parts: Sequence[str | int]) -> str:
    """The field as a sentence names it: without where it stands, items of a list by their number."""
    if parts[-1] == "[key]":  # what stands before it is the key itself
        return f"a key of {_name(parts[:-2])}" if len(parts) > 2 else "a key"
    at = len(parts) - 1
    while at > 0 and isinstance(parts[at], int):
        at -= 1
    return str(parts[at]) + "".join(f"[{number}]" for number in parts[at + 1 :])
