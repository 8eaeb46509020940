"""YAML whose values know their line, so that a fault is found where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from features.errors import BadInput

MERGE = "tag:yaml.org,2002:merge"


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, if PyYAML has it


class _Loader(_Base):  # type: ignore[misc]
    """The core schema of YAML 1.2, as editors read it, in which a key that stands twice is an error.

    PyYAML's own is that of YAML 1.1: there NO, 22:00 and 2026-06-01 are no texts. Source: YAML 1.2.2, section 10.3.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != MERGE]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made

    def construct_whole(self, node: Any) -> int:
        return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


_Loader.yaml_implicit_resolvers = {}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        list("-+0123456789."),
    ),
    ("merge", r"<<\Z", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    path: Path
    value: Any
    _node: Any

    def line(self, *parts: str | int) -> int:
        """Of a place inside, from 1; of the nearest one above, where nothing stands there."""
        node, line = self._node, self._node.start_mark.line
        for part in parts:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return int(line) + 1

    def at(self, *parts: str | int) -> str:
        """`file:line` of a place inside."""
        return f"{self.path}:{self.line(*parts)}"


def documents(path: Path) -> Iterator[Document]:
    """Those of a file that are not empty; `BadInput` if it is not YAML."""
    try:
        yield from (Document(path, value, node) for value, node in _loaded(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        told = str(error).replace('"<unicode string>"', str(path))  # as PyYAML calls what came as a text
        raise BadInput(f"{path} is not valid YAML: {told}") from None


def loaded(text: str) -> Iterator[Any]:
    """The documents of a text, as plain values."""
    return (value for value, _ in _loaded(text))


def _loaded(text: str) -> Iterator[tuple[Any, Any]]:
    loader = _Loader(text)
    while loader.check_node():
        node = loader.get_node()
        value = loader.construct_document(node)
        if value is not None:
            yield value, node


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    """The line and node of an item, if there is one."""
    if isinstance(node, yaml.MappingNode):
        fits = (pair for pair in node.value if pair[0].value == str(part))
        return next(((key.start_mark.line, value) for key, value in fits), None)
    if isinstance(node, yaml.SequenceNode) and str(part).isdigit() and int(part) < len(node.value):
        item = node.value[int(part)]
        return item.start_mark.line, item
    return None
