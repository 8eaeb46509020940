"""Ranges that leave no room: `age > 65 and age < 18` holds for nobody."""

from __future__ import annotations

import math
from collections.abc import Iterator

from features.language.syntax import (
    FLIPPED,
    And,
    Compare,
    Entry,
    Expression,
    Moment,
    Not,
    Number,
    Operand,
    Or,
    Variable,
)


def empty_ranges(expression: Expression) -> Iterator[str]:
    """The names that are asked, at one place, for what no number or time can be."""
    if isinstance(expression, Or):
        for part in expression.parts:
            yield from empty_ranges(part)
        return
    parts = list(_parts(expression))
    rooms: dict[tuple[str, type], tuple[tuple[float, int], tuple[float, int]]] = {}
    for part in parts:
        if isinstance(part, Compare) and (asked := _asked(part)) is not None:
            name, order, value, kind = asked
            low, high = rooms.get((name, kind), ((-math.inf, 0), (math.inf, 0)))
            if order in (">", ">=", "=="):
                low = max(low, (value, int(order == ">")))  # 1 and -1: the bound itself is outside
            if order in ("<", "<=", "=="):
                high = min(high, (value, -int(order == "<")))
            rooms[name, kind] = low, high
        elif isinstance(part, Or):
            yield from empty_ranges(part)
    yield from (name for (name, _), (low, high) in rooms.items() if low > high)


def _parts(expression: Expression) -> Iterator[Expression]:
    """What must all hold together."""
    if isinstance(expression, And):
        for part in expression.parts:
            yield from _parts(part)
    elif not isinstance(expression, Not):
        yield expression


def _asked(one: Compare) -> tuple[str, str, float, type] | None:
    """What is compared, how, with which value of which kind; None if it is no comparison with a constant."""
    left, order, right = one.left, one.order, one.right
    if isinstance(right, Variable | Entry):
        left, order, right = right, FLIPPED[order], left
    value = _value(right)
    if not isinstance(left, Variable | Entry) or value is None:
        return None
    return str(left), order, value, type(right)


def _value(operand: Operand) -> float | None:
    match operand:
        case Number(value):
            return value
        case Moment(us, relative=True):
            return float(us)
        case _:
            return None
