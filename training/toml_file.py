"""Numbers that somebody keeps in a file of the home: what is wrong is one error, with file, key and what is meant."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from features.errors import BadSettings


def tables_of(path: Path) -> dict[str, Any]:
    """What the file holds, nothing where there is none. `BadSettings` names the file where it is no TOML."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{path} is not valid TOML, expected lines of key = value: {error}", path.name) from None
    except (UnicodeDecodeError, OSError) as error:
        raise BadSettings(f"{path} cannot be read, expected a TOML file: {error}", path.name) from None


def check_key(file: str, key: str, what: str, known: Collection[str], place: str | None = None) -> None:
    """`BadSettings` for a key that is none; `what` is such as "a bound", `place` where it stands, such as "size.p"."""
    if key not in known:
        place = key if place is None else place
        raise BadSettings(f"{file}: {place} is not {what}, expected one of {', '.join(known)}", place)


def check_value(file: str, place: str, value: Any, kind: Any) -> None:
    """`BadSettings` for a value that is not of this type, or out of its range; nan is of none."""
    if isinstance(value, float) and math.isnan(value):
        raise BadSettings(f"{file}: {place} is nan, expected a number", place)
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        words = str(error).partition(", got")[0]
        if get_origin(kind) is Literal:
            words = f"expected one of {', '.join(get_args(kind))}"
        raise BadSettings(f"{file}: {place} is {value!r}, {words[:1].lower()}{words[1:]}", place) from None
