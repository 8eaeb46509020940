"""YAML whose values know their line, so that a fault is found where it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from features.errors import BadInput


class _Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not the last one's silent win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


# Times stay text, so that they are checked as in the API.
_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    path: Path
    value: Any
    _node: Any

    def at(self, *parts: str | int) -> str:
        """`file:line` of a place inside; of the nearest one above, where nothing stands there."""
        node, line = self._node, self._node.start_mark.line
        for part in parts:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return f"{self.path}:{line + 1}"


def documents(path: Path) -> Iterator[Document]:
    """Those of a file that are not empty; `BadInput` if it is not YAML."""
    try:
        yield from (Document(path, value, node) for value, node in _loaded(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not valid YAML: {error}") from None


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
