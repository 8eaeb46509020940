"""What customers have told us or are known by: one feature per attribute found in the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from features.definitions.dsl import Attribute, AttributeKind, Family, Feature
from features.errors import BadEvent
from features.events import parse_time, to_us

MAX_ATTRIBUTES = 200
KINDS: tuple[AttributeKind, ...] = ("number", "time", "boolean", "category")


def profile(attributes: Mapping[str, AttributeKind], taken: Collection[str] = ()) -> Family:
    """One feature per attribute, by name; an attribute named like another feature becomes `profile_<name>`."""
    return Family(
        name="profile",
        description="Profile attributes",
        features=tuple(
            Feature(
                name=f"profile_{name}" if name in taken else name,
                value=Attribute(name, kind),
                unit="days" if kind == "time" else kind,
                description=f"Days since the profile attribute {name!r}"
                if kind == "time"
                else f"Profile attribute {name!r}",
                default=None,
                ttl_days=0.0,
            )
            for name, kind in sorted(attributes.items())
        ),
    )


def kinds_of(profiles: Iterable[Mapping[str, Any]]) -> dict[str, AttributeKind]:
    """The kind of each attribute that any profile has; lists and objects are no features and are left out.

    Of several kinds under one name the most frequent counts.
    """
    seen: dict[str, Counter[AttributeKind]] = {}
    for attributes in profiles:
        for name, value in attributes.items():
            kind = kind_of(value)
            if kind is not None:
                seen.setdefault(name, Counter())[kind] += 1
    kept = sorted(seen)[:MAX_ATTRIBUTES]
    return {name: common_kind(seen[name]) for name in kept}


def attribute_value(kind: AttributeKind, value: Any) -> float | str | None:
    """An attribute as stored: a float (0.0 and 1.0 for booleans, microseconds since 1970 UTC for times) or a text.

    `None` if it is missing or not of its kind: what a customer's record holds is no reason to fail.
    """
    match kind:
        case "category":
            return _category(value)
        case "boolean":
            return float(value) if isinstance(value, bool) else None
        case "number":
            return _number(value)
        case "time":
            return _time(value)


def _category(value: Any) -> str | None:
    """Strings as they are, other scalars as JSON writes them."""
    if value is None or isinstance(value, list | dict):
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _time(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        return float(to_us(parse_time(value)))
    except BadEvent:
        return None


def kind_of(value: Any) -> AttributeKind | None:
    """What one value is; None for lists, objects and nothing."""
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "time" if _is_time(value) else "category"
        case _:
            return None


def _is_time(text: str) -> bool:
    if len(text) < 20 or not text[:4].isdigit():
        return False
    try:
        parse_time(text)
    except BadEvent:
        return False
    return True


def kinds_moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> Counter[tuple[str, AttributeKind]]:
    """One customer more (1) or less (-1) with an attribute of a kind, where this changed."""
    moved: Counter[tuple[str, AttributeKind]] = Counter()
    for attributes, n in ((old, -1), (new, 1)):
        for name, value in attributes.items():
            if (kind := kind_of(value)) is not None:
                moved[name, kind] += n
    return Counter({one: n for one, n in moved.items() if n})


def common_kind(counts: Mapping[AttributeKind, int]) -> AttributeKind:
    """The kind of most values: one customer's odd value changes it for nobody else. A tie: the one that can be compared
    in more ways.
    """
    return max(KINDS, key=lambda kind: counts.get(kind, -1))
