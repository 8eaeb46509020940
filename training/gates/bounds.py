"""`gates.toml`: the bounds of every gate as data, checked; where it is absent the defaults hold."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from features.errors import BadSettings
from features.home import Home
from training.gates.passage import Bounds
from training.gates.registry import GATES

FILE = "gates.toml"


def read_bounds(home: Home) -> dict[str, Bounds]:
    """Gate -> its bounds, from `gates.toml` in NBO_HOME. `BadSettings` names the key, and what was expected."""
    path = home.root / FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        return bounds_of({})
    except (UnicodeDecodeError, OSError) as error:
        raise BadSettings(f"{path} cannot be read: {error}", FILE) from None
    try:
        return bounds_of(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{path} is not valid TOML: {error}", FILE) from None


def bounds_of(tables: Mapping[str, Any]) -> dict[str, Bounds]:
    """The bounds that these tables of a file give; what they do not name has its default."""
    for name, table in tables.items():
        if name not in GATES:
            raise BadSettings(f"{FILE}: {name} is not a gate; expected one of {', '.join(GATES)}", name)
        if not isinstance(table, dict):
            raise BadSettings(f"{FILE}: {name} is {table!r}, expected a table [{name}]", name)
    return {name: _converted(name, gate.bounds, tables.get(name, {})) for name, gate in GATES.items()}


def _converted(name: str, kind: type[Bounds], table: Mapping[str, Any]) -> Bounds:
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        place = f"{name}.{key}"
        if key not in known:
            raise BadSettings(f"{FILE}: {place} is not a bound; expected one of {', '.join(known)}", place)
        if isinstance(value, float) and math.isnan(value):
            raise BadSettings(f"{FILE}: {place} is nan, expected a number", place)
        try:
            msgspec.convert(value, known[key].type)
        except msgspec.ValidationError as error:
            raise BadSettings(f"{FILE}: {place} is {value!r}: {error}", place) from None
    return msgspec.convert(dict(table), kind)


def as_toml(bounds: Mapping[str, Bounds]) -> str:
    """The file that gives these bounds, each gate with what it holds."""
    parts = []
    for name, of in bounds.items():
        first = (type(of).__doc__ or "").splitlines()[0]
        lines = [f"# {first}", f"[{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in msgspec.structs.asdict(of).items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return repr(value)
