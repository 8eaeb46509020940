"""What a rule saw: the values of its names, as an explanation shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from features.catalogue import Offer
from features.events import from_us
from features.language.interpret import value_of
from features.language.names import Names, Scope
from features.language.syntax import Entry, Expression, Moment, Variable, conditions, operands
from features.language.values import Instant, Value


def values_seen(expression: Expression, scope: Scope, offer: Offer | None, names: Names) -> dict[str, Any]:
    """Plain JSON values by name, None for what is missing; entries of keyed features rather than all of them."""
    found: dict[str, Any] = {}
    for condition in conditions(expression):
        parts = operands(condition)
        keyed = {part.of for part in parts if isinstance(part, Entry)}
        for part in parts:
            if (isinstance(part, Variable) and part not in keyed) or isinstance(part, Entry):
                found[str(part)] = _json(value_of(part, scope, offer, names))
            elif isinstance(part, Moment):
                found["now"] = _json(Instant(float(scope.now_us)))
    return found


def _json(value: Value | object) -> Any:
    match value:
        case Instant(us):
            return from_us(int(us)).isoformat()
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {str(key): _json(one) for key, one in value.items()}
        case list() | tuple():
            return [_json(one) for one in value]
        case _:
            return value
