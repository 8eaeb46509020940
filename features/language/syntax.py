"""What a rule is made of: operands, and the conditions on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Root = Literal["", "offer", "context", "consent"]  # "": a feature or attribute of the customer
Order = Literal["<", "<=", ">", ">=", "==", "!="]
FLIPPED: dict[Order, Order] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}

# Operands. Number, Text and Truth are classes of their own because in Python 1.0 == True.


@dataclass(frozen=True, slots=True)
class Number:
    value: float  # finite


@dataclass(frozen=True, slots=True)
class Text:
    value: str  # a date where it is compared with a time


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant: microseconds since 1970 UTC, or, if relative, from now."""

    us: int
    relative: bool = True


@dataclass(frozen=True, slots=True)
class Nothing:
    """What is missing, or has no kind that a rule knows. Never written; found in offers."""

    missing: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """A name: `age`, `offer.brand`, `context.page.kind`, `consent.email`."""

    root: Root
    path: tuple[str, ...]
    at: int = field(default=0, compare=False)  # position in the text

    def __str__(self) -> str:
        return ".".join((self.root, *self.path) if self.root else self.path)


@dataclass(frozen=True, slots=True)
class Entry:
    """The number that a keyed feature has under a key; 0 under a key that it does not have."""

    of: Variable
    key: Text | Variable | Nothing

    @property
    def at(self) -> int:
        return self.of.at

    def __str__(self) -> str:
        return f"{self.of}[{self.key.value!r}]" if isinstance(self.key, Text) else f"{self.of}[{self.key}]"


Constant: TypeAlias = Number | Text | Truth | Moment | Nothing
Operand: TypeAlias = Constant | Variable | Entry

# Conditions. They can be referred to weakly, so that `parse` may know those that are in use.


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Compare:
    left: Operand
    order: Order
    right: Operand
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class In:
    """`of in (…)`; or, of one variable, `of in offer.countries`: a list, or the keys of a keyed feature."""

    of: Operand
    among: tuple[Operand, ...] | Variable
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Missing:
    of: Operand
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Holds:
    """A boolean by itself: `consent.email`, `true`."""

    of: Operand
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Not:
    part: Expression


@dataclass(frozen=True, slots=True, weakref_slot=True)
class And:
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Or:
    parts: tuple[Expression, ...]


Condition: TypeAlias = Compare | In | Missing | Holds
Expression: TypeAlias = Condition | Not | And | Or


def conditions(expression: Expression) -> Iterator[Condition]:
    """From left to right."""
    match expression:
        case Not(part):
            yield from conditions(part)
        case And(parts) | Or(parts):
            for part in parts:
                yield from conditions(part)
        case _:
            yield expression


def operands(condition: Condition) -> tuple[Operand, ...]:
    """From left to right; an `Entry` before its parts."""
    match condition:
        case Compare(left, _, right):
            found: tuple[Operand, ...] = (left, right)
        case In(of, among):
            found = (of, *among) if isinstance(among, tuple) else (of, among)
        case Missing(of) | Holds(of):
            found = (of,)
    return tuple(part for one in found for part in ((one, one.of, one.key) if isinstance(one, Entry) else (one,)))


def variables(expression: Expression) -> tuple[Variable, ...]:
    """Every variable once, in the order of first mention."""
    found = {part: None for one in conditions(expression) for part in operands(one) if isinstance(part, Variable)}
    return tuple(found)
