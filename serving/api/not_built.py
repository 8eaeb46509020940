"""The routes that the contract names and nobody has built yet: a clear answer instead of a puzzle."""

from __future__ import annotations

import re

_ROUTES: tuple[tuple[str, str], ...] = (  # methods, path with its segments still percent-encoded
    ("GET", "/nbo.js"),
    ("GET", "/"),
)
NOT_BUILT = tuple(
    (frozenset(methods.split()), re.compile(re.escape(path).replace(re.escape("{id}"), "[^/]+") + r"\Z"))
    for methods, path in _ROUTES
)


def is_promised(method: str, path: str) -> bool:
    """Whether the contract names this route. Ask only where no route was found."""
    return any(method in methods and pattern.match(path) for methods, pattern in NOT_BUILT)
