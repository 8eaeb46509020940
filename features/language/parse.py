"""From the text of a rule to an expression. Nothing is evaluated, and no text takes long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from weakref import WeakValueDictionary

from features.errors import BadRule
from features.language.syntax import (
    FLIPPED,
    And,
    Compare,
    Entry,
    Expression,
    Holds,
    In,
    Missing,
    Moment,
    Not,
    Number,
    Operand,
    Or,
    Order,
    Root,
    Text,
    Truth,
    Variable,
)
from features.language.tokens import Token, duration_us, is_name, number_of, plain_name, text_of, tokens_of

MAX_CHARACTERS = 10_000
MAX_DEPTH = 40  # of parentheses and `not`
MAX_PARTS = 1_000  # operands of one rule
ORDERS = frozenset(FLIPPED)
ROOTS = ("offer", "context", "consent")
INSTEAD = {
    "=": "'==' compares",
    "&&": "write 'and'",
    "||": "write 'or'",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "<>": "write '!='",
    "null": "write 'is missing'",
    "None": "write 'is missing'",
    "True": "write 'true'",
    "False": "write 'false'",
    "AND": "write 'and'",
    "OR": "write 'or'",
    "NOT": "write 'not'",
    "IN": "write 'in'",
    "IS": "write 'is'",
}


@dataclass(frozen=True, slots=True)
class _Duration:
    us: int


@dataclass(frozen=True, slots=True)
class _Age:
    """`now - name`: may stand only beside a duration, and becomes a comparison of instants."""

    of: Variable | Entry


_Side = Operand | _Duration | _Age


def parse(text: str) -> Expression:
    """The expression; `BadRule` says where the text cannot be read. Equal texts give the same object while it lives."""
    found = _in_use.get(text)
    if found is None:
        found = _in_use[text] = _Parser(text).rule()
    return found


_in_use: WeakValueDictionary[str, Expression] = WeakValueDictionary()  # a new edition reuses what the old one parsed


class _Parser:
    """Recursive descent; each method reads one form and leaves the position behind it."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_CHARACTERS:
            raise BadRule(f"the rule has {len(text):,} characters, at most {MAX_CHARACTERS:,} are read", MAX_CHARACTERS)
        self._tokens = tokens_of(text)
        self._next = 0
        self._depth = 0
        self._parts = 0

    def rule(self) -> Expression:
        if self._now.kind == "end":
            raise BadRule("the rule is empty; leave it out, or write null, to mean everybody", 0)
        found = self._any_of()
        if self._now.kind != "end":
            raise self._fault("expected 'and', 'or', or the end of the rule")
        return found

    # Forms, the loosest first

    def _any_of(self) -> Expression:
        parts = [self._all_of()]
        while self._accept("or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self) -> Expression:
        parts = [self._negated()]
        while self._accept("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _negated(self) -> Expression:
        if self._now.text != "not" or self._now.kind != "name":
            return self._condition()
        self._deeper()
        self._next += 1
        found = Not(self._negated())
        self._depth -= 1
        return found

    def _condition(self) -> Expression:
        if self._now.text == "(":
            self._deeper()
            self._next += 1
            inner = self._any_of()
            self._expect(")")
            self._depth -= 1
            return inner
        at = self._now.at
        side = self._side()
        if self._now.kind == "sign" and self._now.text in ORDERS:
            return self._chain(side)
        if self._accept("is"):
            negated = self._accept("not")
            self._expect("missing")
            missing = Missing(self._operand(side, at), at)
            return Not(missing) if negated else missing
        negated = self._accept("not")
        if self._accept("in"):
            among: Expression = In(self._operand(side, at), self._among(), at)
        elif self._accept("between"):
            low_at = self._now.at
            low = self._side()
            self._expect("and")
            among = And((self._compare(low, "<=", side, low_at), self._compare(side, "<=", self._side(), at)))
        elif negated:
            raise self._fault("expected 'in' or 'between'")
        else:
            holds = self._operand(side, at)
            if not isinstance(holds, Variable | Entry | Truth):
                raise self._fault("expected a comparison, such as <, ==, in, between or is missing")
            return Holds(holds, at)
        return Not(among) if negated else among

    def _chain(self, left: _Side) -> Expression:
        """`a < b`, and `a < b <= c`, which is `a < b and b <= c`."""
        found = []
        while self._now.kind == "sign" and self._now.text in ORDERS:
            order, at = self._now.text, self._now.at
            self._next += 1
            right = self._side()
            found.append(self._compare(left, order, right, at))
            left = right
        return found[0] if len(found) == 1 else And(tuple(found))

    def _among(self) -> tuple[Operand, ...] | Variable:
        if self._now.text != "(":
            at = self._now.at
            one = self._side()
            if not isinstance(one, Variable):
                raise self._fault("expected a list in parentheses, or a name", at)
            return one
        self._next += 1
        items = []
        while True:
            at = self._now.at
            items.append(self._operand(self._side(), at))
            if not self._accept(","):
                break
            if self._now.text == ")":  # a comma may end the list
                break
        self._expect(")")
        return tuple(items)

    # Operands

    def _side(self) -> _Side:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise self._fault(f"the rule has more than {MAX_PARTS:,} names and values")
        token = self._now
        self._next += 1
        if token.kind == "number":
            return number_of(token)
        if token.text == "-" and self._now.kind == "number":
            self._next += 1
            return Number(-number_of(self._tokens[self._next - 1]).value)
        if token.kind == "duration":
            return _Duration(duration_us(token))
        if token.kind == "text":
            return Text(text_of(token))
        if is_name(token):
            return self._named(token)
        if token.kind == "name" and token.text in ("true", "false"):
            return Truth(token.text == "true")
        if token.kind == "name" and token.text == "now":
            return self._from_now()
        self._next -= 1
        raise self._fault("expected a name or a value")

    def _from_now(self) -> _Side:
        if self._now.text not in ("+", "-") or self._now.kind != "sign":
            return Moment(0)
        sign = -1 if self._now.text == "-" else 1
        self._next += 1
        token = self._now
        self._next += 1
        if token.kind == "duration":
            return Moment(sign * duration_us(token))
        if sign < 0 and is_name(token):
            return _Age(self._named(token))
        self._next -= 1
        raise self._fault("expected a duration such as 30d, 12h or 45m")

    def _named(self, first: Token) -> Variable | Entry:
        found = self._variable(first)
        if self._now.text != "[" or self._now.kind != "sign":
            return found
        if found.root:
            raise self._fault(f"only keyed features of the customer have entries; write {found}.name")
        self._next += 1
        token = self._now
        self._next += 1
        key: Text | Variable
        if token.kind == "text":
            key = Text(text_of(token))
        elif is_name(token):
            key = self._variable(token)
        else:
            self._next -= 1
            raise self._fault("expected a text or a name as the key")
        self._expect("]")
        return Entry(found, key)

    def _variable(self, first: Token) -> Variable:
        root: Root = ""
        path = []
        if first.kind == "name" and self._now.text == ".":
            if first.text not in ROOTS:
                expected = ", ".join(f"{root}." for root in ROOTS)
                raise self._fault(f"{first.text}. leads nowhere; expected one of {expected} or a name alone", first.at)
            root = cast(Root, first.text)
        else:
            path.append(plain_name(first))
        while self._accept("."):
            if self._now.kind not in ("name", "quoted"):
                raise self._fault("expected a name after the dot")
            path.append(plain_name(self._now))
            self._next += 1
        if len(path) > (1 if root in ("", "consent") else MAX_DEPTH):
            raise self._fault(f"{root or path[0]} has no parts that deep", first.at)
        return Variable(root, tuple(path), first.at)

    # Combining

    def _compare(self, left: _Side, order: Order, right: _Side, at: int) -> Compare:
        """An age beside a duration becomes a comparison of instants: `now - x > 30d` is `x < now - 30d`."""
        if isinstance(left, _Duration) and isinstance(right, _Age):
            left, order, right = right, FLIPPED[order], left
        if isinstance(left, _Age) and isinstance(right, _Duration):
            return Compare(left.of, FLIPPED[order], Moment(-right.us), at)
        return Compare(self._operand(left, at), order, self._operand(right, at), at)

    def _operand(self, side: _Side, at: int) -> Operand:
        if isinstance(side, _Duration):
            raise self._fault("a duration stands after now (now - 30d), or beside an age (now - name > 30d)", at)
        if isinstance(side, _Age):
            raise self._fault("an age (now - name) is compared with a duration such as 30d", at)
        return side

    # Moving

    @property
    def _now(self) -> Token:
        return self._tokens[self._next]

    def _accept(self, text: str) -> bool:
        found = self._now.text == text and self._now.kind in ("name", "sign")
        self._next += found
        return found

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._fault(f"expected {text!r}")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fault(f"more than {MAX_DEPTH} levels of parentheses and 'not'")

    def _fault(self, expected: str, at: int | None = None) -> BadRule:
        token = self._now
        if at is None and token.kind != "end":
            hint = INSTEAD.get(token.text)
            expected = f"{expected}; found {_shown(token.text)}" + (f" ({hint})" if hint else "")
        elif at is None:
            expected = f"{expected}; the rule ends here"
        return BadRule(expected, token.at if at is None else at)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
