"""`gates.toml`: the bounds of every gate as data, checked; where it is absent the defaults hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from features.errors import BadSettings
from features.home import Home
from training.gates.passage import Bounds
from training.gates.registry import GATES
from training.toml_file import check_key, check_value, tables_of

FILE = "gates.toml"


def read_bounds(home: Home) -> dict[str, Bounds]:
    """Gate -> its bounds, from `gates.toml` in NBO_HOME. `BadSettings` names the key, and what was expected."""
    return bounds_of(tables_of(home.root / FILE))


def bounds_of(tables: Mapping[str, Any]) -> dict[str, Bounds]:
    """The bounds that these tables of a file give; what they do not name has its default."""
    for name, table in tables.items():
        check_key(FILE, name, "a gate", GATES)
        if not isinstance(table, dict):
            raise BadSettings(f"{FILE}: {name} is {table!r}, expected a table [{name}]", name)
    return {name: _converted(name, gate.bounds, tables.get(name, {})) for name, gate in GATES.items()}


def _converted(name: str, kind: type[Bounds], table: Mapping[str, Any]) -> Bounds:
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        place = f"{name}.{key}"
        check_key(FILE, key, "a bound", known, place)
        check_value(FILE, place, value, known[key].type)
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
