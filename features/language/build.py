"""From expressions to the conditions and nodes of a program, each kept once.

The offer's own values are known beforehand, so they become constants of its rule; `not` is pushed down to the
conditions (De Morgan's laws hold in Kleene's logic); what is constant is folded away.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from features.catalogue import Offer
from features.language import kernel
from features.language.kernel import FALSE, N_CONSTANTS, TRUE, UNKNOWN
from features.language.names import offer_value
from features.language.syntax import (
    FLIPPED,
    And,
    Compare,
    Constant,
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
    Order,
    Text,
    Truth,
    Variable,
    variables,
)
from features.language.values import Instant, Value, compare, plain, time_of

Slot: TypeAlias = Variable | Entry  # what a customer or a request must be asked for
NOW = Variable("", ())  # no rule can name it
NUMBER_ORDER: dict[Order, int] = {
    "<": kernel.LESS,
    "<=": kernel.AT_MOST,
    ">": kernel.MORE,
    ">=": kernel.AT_LEAST,
}
TIME_ORDER: dict[Order, int] = {
    "<": kernel.BEFORE,
    "<=": kernel.UNTIL,
    ">": kernel.AFTER,
    ">=": kernel.SINCE,
    "==": kernel.SAME_TIME,
}
OPPOSITE: dict[Order, Order] = {"<": ">=", "<=": ">", ">": "<=", ">=": "<"}  # values have no NaN
OF_TRUTH = {False: FALSE, None: UNKNOWN, True: TRUE}
Among: TypeAlias = tuple[float, ...] | tuple[str, ...]


class Atom(NamedTuple):
    """One condition on one slot."""

    op: int
    slot: int
    negated: bool
    relative: bool = False  # the literal counts from now
    literal: float = 0.0
    among: Among = ()  # distinct, ascending


class Node(NamedTuple):
    is_and: bool
    parts: tuple[int, ...]  # codes


class Build:
    """What was met so far, each with its code: constants are 0 to 2, conditions odd and nodes even from there on."""

    def __init__(self) -> None:
        self.slots: dict[Slot, int] = {}
        self.atoms: dict[Atom, int] = {}
        self.nodes: dict[Node, int] = {}
        self.given: dict[Compare | In, int] = {}  # conditions without an operation of their own
        self._rules: dict[int, tuple[Variable, ...]] = {}  # by identity: the offer values that a rule names
        self._done: dict[tuple[object, ...], int] = {}
        self._offer_mattered = False

    def rule(self, rule: Expression | None, offer: Offer) -> int:
        """The code of a rule. The same object, as `parse` gives for equal texts, is done once per offer value."""
        if rule is None:
            return TRUE
        named = self._rules.get(id(rule))
        if named == ():
            return self._done[id(rule),]
        if named is None:
            self._offer_mattered = False
            code = self._code(rule, offer, False)
            named = tuple(v for v in variables(rule) if v.root == "offer") if self._offer_mattered else ()
            self._rules[id(rule)] = named
            return self._done.setdefault(_key(rule, named, offer), code)
        key = _key(rule, named, offer)
        if key not in self._done:
            self._done[key] = self._code(rule, offer, False)
        return self._done[key]

    def _code(self, expression: Expression, offer: Offer, negated: bool) -> int:
        match expression:
            case Not(part):
                return self._code(part, offer, not negated)
            case And(parts):
                return self._node(not negated, [self._code(part, offer, negated) for part in parts])
            case Or(parts):
                return self._node(negated, [self._code(part, offer, negated) for part in parts])
            case Compare(left, order, right):
                return self._compare(self._known(left, offer), order, self._known(right, offer), negated)
            case In(of, among):
                return self._in(self._known(of, offer), among, offer, negated)
            case Missing(of):
                known = self._known(of, offer)
                if isinstance(known, Slot):
                    return self._atom(Atom(kernel.IS_MISSING, self._slot(known), negated))
                return _truth(isinstance(known, Nothing) and known.missing, negated)
            case Holds(of):
                known = self._known(of, offer)
                if isinstance(known, Slot):
                    return self._atom(Atom(kernel.IS_TRUTH, self._slot(known), negated, literal=1.0))
                return _truth(known.value if isinstance(known, Truth) else None, negated)

    def _node(self, is_and: bool, codes: Iterable[int]) -> int:
        settles, settles_nothing = (FALSE, TRUE) if is_and else (TRUE, FALSE)
        parts = {code for code in codes if code != settles_nothing}
        if settles in parts:
            return settles
        if len(parts) < 2:
            return parts.pop() if parts else settles_nothing
        node = Node(is_and, tuple(sorted(parts)))
        return self.nodes.setdefault(node, N_CONSTANTS + 1 + 2 * len(self.nodes))

    def _atom(self, atom: Atom) -> int:
        return self.atoms.setdefault(atom, N_CONSTANTS + 2 * len(self.atoms))

    def _slot(self, slot: Slot) -> int:
        return self.slots.setdefault(slot, len(self.slots))

    def _given(self, condition: Compare | In, negated: bool) -> int:
        at = self.given.setdefault(condition, len(self.given))
        return self._atom(Atom(kernel.GIVEN, 0, negated, literal=float(at)))

    # Conditions; offer values are constants by now

    def _compare(self, left: Operand, order: Order, right: Operand, negated: bool) -> int:
        if isinstance(left, Slot):
            if isinstance(right, Slot):
                return self._given(Compare(left, order, right), negated)
            return self._with_constant(left, order, right, negated)
        if isinstance(right, Slot):
            return self._with_constant(right, FLIPPED[order], left, negated)
        match left, right:
            case Moment(relative=True), Moment(relative=True):
                pass  # both count from now, so that now does not matter
            case Moment(relative=True), _:
                return self._with_now(left, order, right, negated)
            case _, Moment(relative=True):
                return self._with_now(right, FLIPPED[order], left, negated)
        return _truth(compare(_value(left), order, _value(right)), negated)

    def _with_constant(self, slot: Slot, order: Order, constant: Constant, negated: bool) -> int:
        at = self._slot(slot)
        equal = order in ("==", "!=")
        if equal:
            negated ^= order == "!="
        elif negated:
            order, negated = OPPOSITE[order], False
        match constant:
            case Number(value) if equal:
                return self._atom(Atom(kernel.IN_NUMBERS, at, negated, among=(value,)))
            case Number(value):
                return self._atom(Atom(NUMBER_ORDER[order], at, negated, literal=value))
            case Text(text) if equal:
                return self._atom(Atom(kernel.IN_TEXTS, at, negated, among=(text,)))
            case Text(text):
                us = time_of(text)
                return UNKNOWN if us is None else self._atom(Atom(TIME_ORDER[order], at, negated, literal=us))
            case Truth(holds) if equal:
                return self._atom(Atom(kernel.IS_TRUTH, at, negated, literal=float(holds)))
            case Moment(us, relative):
                op = TIME_ORDER["==" if equal else order]
                return self._atom(Atom(op, at, negated, relative, float(us)))
            case _:
                return UNKNOWN

    def _with_now(self, left: Moment, order: Order, right: Constant, negated: bool) -> int:
        """`now + offset < instant` as `now < instant - offset`, so that all offers share one slot."""
        us = right.us if isinstance(right, Moment) else time_of(right.value) if isinstance(right, Text) else None
        if us is None:
            return UNKNOWN
        return self._with_constant(NOW, order, Moment(int(us) - left.us, relative=False), negated)

    def _in(self, of: Operand, among: tuple[Operand, ...] | Variable, offer: Offer, negated: bool) -> int:
        if isinstance(among, Variable):
            if among.root != "offer":
                return self._given(In(of, among), negated)
            self._offer_mattered = True
            held = _bound(offer_value(offer, among))
            if not isinstance(held, tuple):
                return UNKNOWN
            items: tuple[Operand, ...] = held
        else:
            items = tuple(self._known(one, offer) for one in among)
        if not isinstance(of, Slot):
            if not items:
                return UNKNOWN if of == Nothing(True) else _truth(False, negated)
            return self._node(negated, [self._compare(of, "==", one, negated) for one in items])
        if not items:
            return self._atom(Atom(kernel.IN_NOTHING, self._slot(of), negated))
        texts: set[str] = set()
        numbers: set[float] = set()
        codes = []
        for one in items:
            if isinstance(one, Text):
                texts.add(one.value)
            elif isinstance(one, Number):
                numbers.add(one.value)
            else:
                codes.append(self._compare(of, "==", one, negated))
        if texts:
            codes.append(self._atom(Atom(kernel.IN_TEXTS, self._slot(of), negated, among=tuple(sorted(texts)))))
        if numbers:
            codes.append(self._atom(Atom(kernel.IN_NUMBERS, self._slot(of), negated, among=tuple(sorted(numbers)))))
        return self._node(negated, codes)

    def _known(self, operand: Operand, offer: Offer) -> Operand:
        """The operand with the offer's values put in; what is left to be asked for is a slot."""
        if isinstance(operand, Variable) and operand.root == "offer":
            self._offer_mattered = True
            held = _bound(offer_value(offer, operand))
            return Nothing(missing=False) if isinstance(held, tuple) else held
        if isinstance(operand, Entry) and isinstance(operand.key, Variable) and operand.key.root == "offer":
            known = self._known(operand.key, offer)
            return Entry(operand.of, known) if isinstance(known, Text) else Nothing(missing=True)
        return operand


def _key(rule: Expression, named: tuple[Variable, ...], offer: Offer) -> tuple[object, ...]:
    return (id(rule), *(_bound(offer_value(offer, variable)) for variable in named))


def _truth(holds: bool | None, negated: bool) -> int:
    code = OF_TRUTH[holds]
    return TRUE - code if negated else code


def _bound(value: Value) -> Constant | tuple[Constant, ...]:
    """An offer's value as a constant; a list as the constants in it."""
    if isinstance(value, list | tuple):
        items = [_bound(plain(one)) for one in value]
        return tuple(Nothing(missing=False) if isinstance(one, tuple) else one for one in items)
    match value:
        case None:
            return Nothing(missing=True)
        case bool():
            return Truth(value)
        case float():
            return Number(value)
        case str():
            return Text(value)
        case Instant(us):
            return Moment(int(us), relative=False)
        case _:
            return Nothing(missing=False)


def _value(constant: Constant) -> Value:
    match constant:
        case Number(value) | Text(value) | Truth(value):
            return value
        case Moment(us):
            return Instant(float(us))
        case Nothing(missing):
            return None if missing else ()
