"""The meaning of a rule, slow and obvious: what the compiled form is tested against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.catalogue import Offer
from features.language.names import Names, Scope, offer_value
from features.language.syntax import (
    And,
    Compare,
    Entry,
    Expression,
    Holds,
    In,
    Missing,
    Moment,
    Not,
    Nothing,
    Number,
    Operand,
    Or,
    Text,
    Truth,
    Variable,
)
from features.language.values import Instant, Value, compare, either, entry, every, opposite, plain


def interpret(
    expression: Expression, scope: Scope, offer: Offer | None = None, names: Names | None = None
) -> bool | None:
    """Whether the rule holds; None: unknown. Without an offer, its values are missing."""
    names = names or Names()
    match expression:
        case Not(part):
            return opposite(interpret(part, scope, offer, names))
        case And(parts):
            return every([interpret(part, scope, offer, names) for part in parts])
        case Or(parts):
            return either([interpret(part, scope, offer, names) for part in parts])
        case Compare(left, order, right):
            return compare(value_of(left, scope, offer, names), order, value_of(right, scope, offer, names))
        case In(of, Variable() as among):
            held = value_of(among, scope, offer, names)
            keyed_by_others = isinstance(held, Mapping) and among.root != ""  # only customers have keyed features
            return None if keyed_by_others else contains(held, value_of(of, scope, offer, names))
        case In(of, tuple() as among):
            return contains([value_of(one, scope, offer, names) for one in among], value_of(of, scope, offer, names))
        case Missing(of):
            return value_of(of, scope, offer, names) is None
        case Holds(of):
            held = value_of(of, scope, offer, names)
            return held if isinstance(held, bool) else None
        case _:
            raise TypeError(f"not an expression: {expression!r}")


def value_of(operand: Operand, scope: Scope, offer: Offer | None, names: Names) -> Value:
    match operand:
        case Number(value) | Text(value) | Truth(value):
            return value
        case Moment(us, relative):
            return Instant(float(us + scope.now_us if relative else us))
        case Nothing(missing):
            return None if missing else ()
        case Entry(of, key):
            return entry(value_of(of, scope, offer, names), value_of(key, scope, offer, names))
        case Variable(root="offer"):
            return None if offer is None else offer_value(offer, operand)
        case Variable():
            return names.reader(operand)(scope)


def contains(among: Value, value: Value) -> bool | None:
    """Whether a list has the value, or a keyed feature a count under it; None where one of them is missing."""
    if value is None:
        return None
    if isinstance(among, Mapping):
        return compare(entry(among, value), ">", 0.0)
    if isinstance(among, Sequence) and not isinstance(among, str):
        return either([compare(value, "==", plain(one)) for one in among])
    return None
