"""Whether a rule can hold at all: every name known, and only what can be compared compared."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, TypeAlias

from features.errors import BadRule
from features.language.names import OFFER_FIELDS, Kind, Names
from features.language.parse import INSTEAD
from features.language.syntax import (
    Compare,
    Condition,
    Entry,
    Expression,
    Holds,
    In,
    Missing,
    Moment,
    Nothing,
    Number,
    Operand,
    Order,
    Text,
    Truth,
    Variable,
    conditions,
    operands,
)
from features.language.values import time_of

MOST_CLOSE = 3  # names that an error suggests
Sort: TypeAlias = Kind | Literal["date"]  # a date is a text that may also be a time
A: dict[Sort, str] = {
    "number": "a number",
    "category": "a text",
    "date": "a date",
    "boolean": "true or false",
    "time": "a time",
    "keyed": "keyed",
}
EQUAL: tuple[frozenset[Sort], ...] = (
    frozenset(("number",)),
    frozenset(("category", "date")),
    frozenset(("boolean",)),
    frozenset(("time", "date")),
)


def check(expression: Expression, names: Names) -> None:
    """`BadRule` names the first fault and where it is; an unknown name is answered with the close ones."""
    for condition in conditions(expression):
        for part in operands(condition):
            if isinstance(part, Variable):
                _known(part, names)
            elif isinstance(part, Entry):
                _entry(part, names)
        _condition(condition, names)


def _known(variable: Variable, names: Names) -> None:
    if names.kind(variable) is not None:
        return
    name = variable.path[0]
    close = _close(name, names.kinds)
    if name in OFFER_FIELDS:
        close.insert(0, f"offer.{name}")
    meant = f"close names are {', '.join(close)}" if close else "no name is close"
    others = (
        ""
        if close
        else "; an attribute is known once one customer has it; offer attributes are offer.x, the request's context is "
        "context.x"
    )
    if name in INSTEAD:
        meant, others = INSTEAD[name], ""
    raise BadRule(f"{_short(name)} is neither a feature nor an attribute of customers; {meant}{others}", variable.at)


def _close(name: str, known: Iterable[str]) -> list[str]:
    """Names that may have been meant, whatever their case."""
    by_lower: dict[str, list[str]] = {}
    for one in known:
        by_lower.setdefault(one.lower(), []).append(one)
    lower = get_close_matches(name.lower(), by_lower, n=MOST_CLOSE, cutoff=0.6)
    return [one for found in lower for one in by_lower[found]][:MOST_CLOSE]


def _entry(found: Entry, names: Names) -> None:
    _known(found.of, names)
    if names.kind(found.of) != "keyed":
        raise BadRule(f"{_short(found.of)} is {A[names.kind(found.of) or 'number']}, it has no entries", found.at)
    if isinstance(found.key, Variable):
        _known(found.key, names)
        if names.kind(found.key) not in ("category", "any"):
            raise BadRule(f"a key is a text, {_short(found.key)} is {A[names.kind(found.key) or 'number']}", found.at)


def _condition(condition: Condition, names: Names) -> None:
    match condition:
        case Compare(left, order, right, at):
            if not isinstance(left, Variable | Entry) and not isinstance(right, Variable | Entry):
                meant = "name what you mean without quotes"
                if isinstance(left, Moment) or isinstance(right, Moment):
                    meant = "from when to when an offer or lever holds is said with starts_at and ends_at"
                raise BadRule(f"two values are compared, and nothing of the customer or offer; {meant}", at)
            _comparable(left, order, right, names, at)
        case In(of, Variable() as among, at):
            if not isinstance(of, Variable | Entry | Text | Number):
                raise BadRule("expected a name, a text or a number before 'in'", at)
            kind = names.kind(among)
            if kind == "keyed" and _sort(of, names) not in ("category", "date", "any"):
                raise BadRule(f"the keys of {_short(among)} are texts", at)
            if kind not in ("keyed", "any"):
                raise BadRule(f"{_short(among)} is {A[kind or 'number']}, not a list", at)
        case In(of, tuple() as among, at):
            if not isinstance(of, Variable | Entry):
                raise BadRule("expected a name before 'in'", at)
            for one in among:
                _comparable(of, "==", one, names, at)
        case Missing(of, at):
            if not isinstance(of, Variable | Entry):
                raise BadRule("only a name can be missing", at)
        case Holds(of, at):
            sort = _sort(of, names)
            if sort not in ("boolean", "any"):
                example = "[…] > 0" if sort == "keyed" else " == …"
                raise BadRule(f"{_name(of)} is {A[sort]}, not a condition; compare it, as in {_name(of)}{example}", at)


def _comparable(left: Operand, order: Order, right: Operand, names: Names, at: int) -> None:
    sorts = {_sort(left, names), _sort(right, names)}
    for side in (left, right):
        if _sort(side, names) == "keyed":
            raise BadRule(f"{_name(side)} is keyed: name an entry, as in {_name(side)}[…]", at)
    if order in ("==", "!="):
        known = sorts - {"any"}
        if any(known <= together for together in EQUAL):
            return
    elif sorts <= {"number", "any"} or (sorts <= {"time", "date", "category", "any"} and sorts & {"time", "date"}):
        return
    if order not in ("==", "!=") and "boolean" in sorts:
        raise BadRule(f"true and false have no order; {order} needs numbers or times", at)
    if order not in ("==", "!=") and sorts <= {"category", "date", "any"}:
        raise BadRule(f'texts have no order; {order} needs numbers, or times such as "2026-01-31" or now - 30d', at)
    first, second = _name(left), _name(right)
    kinds = f"{first} is {A[_sort(left, names)]} and {second} is {A[_sort(right, names)]}"
    raise BadRule(f"{kinds}: they cannot be compared", at)


def _sort(operand: Operand, names: Names) -> Sort:
    match operand:
        case Number() | Entry():
            return "number"
        case Text(value):
            return "category" if time_of(value) is None else "date"
        case Truth():
            return "boolean"
        case Moment():
            return "time"
        case Variable():
            return names.kind(operand) or "any"
        case Nothing():
            return "any"


def _name(operand: Operand) -> str:
    match operand:
        case Number(value):
            return f"{value:g}"
        case Text(value):
            return repr(_short(value))
        case Truth(value):
            return str(value).lower()
        case Moment():
            return "a moment from now"
        case _:
            return _short(operand)


def _short(named: object) -> str:
    text = str(named)
    return text if len(text) <= 60 else f"{text[:60]}…"
