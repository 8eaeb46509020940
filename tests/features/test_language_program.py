"""The compiled form of rules says what the slow and obvious interpreter says."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from features.language import Names, Program, interpret, parse
from features.language.syntax import (
    And,
    Compare,
    Entry,
    Holds,
    In,
    Missing,
    Moment,
    Not,
    Number,
    Or,
    Text,
    Truth,
    Variable,
)
from tests.features.rules import NOW_US, offer, scope

DAY_US = 86_400_000_000
NAMES = Names(
    kinds={"age": "number", "spent": "number", "country": "category", "taste": "keyed", "member": "boolean",
           "since": "time", "told": "category"},
    attribute={"member": "member", "since": "since", "told": "told"},
)  # fmt: skip

TEXTS = st.sampled_from(["", "DE", "FR", "running", "ü\x00\u2028", "2026-07-01", "2026-07-25T12:00:00+02:00", "nan"])
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 17.0, 18.0, 65.0, 1e308, -1e308, 0.1]) | st.floats(
    allow_nan=False, allow_infinity=False, width=16
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TEXTS,
    st.sampled_from([math.nan, math.inf, -math.inf, 10**400, 18, 2**60, [], {}, ["DE", 18.0, None], {"DE": 2.0}]),
    st.dictionaries(TEXTS, NUMBERS | st.none() | TEXTS, max_size=3),
    st.lists(TEXTS | NUMBERS | st.none() | st.booleans(), max_size=3),
    st.text(max_size=5),
)

customers = st.sampled_from([Variable("", (name,)) for name in [*NAMES.kinds, "gone", "now"]])
requests = st.sampled_from(
    [Variable("context", ("x",)), Variable("context", ("x", "y")), Variable("consent", ("web",))]
)
of_offers = st.sampled_from(
    [Variable("offer", (name,)) for name in ("category", "value", "priority", "retention", "brand", "ends_at", "to")]
)
named = customers | requests | of_offers
entries = st.builds(Entry, customers, st.builds(Text, TEXTS) | named)
moments = st.builds(Moment, st.integers(-40, 40).map(lambda days: days * DAY_US))
constants = st.builds(Number, NUMBERS) | st.builds(Text, TEXTS) | st.builds(Truth, st.booleans()) | moments
operands = named | entries | constants
conditions = st.one_of(
    st.builds(Compare, operands, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), operands),
    st.builds(In, operands, st.lists(operands, min_size=1, max_size=12).map(tuple) | named),
    st.builds(Missing, named | entries),
    st.builds(Holds, named | st.builds(Truth, st.booleans())),
)
expressions = st.recursive(
    conditions,
    lambda part: (
        st.builds(Not, part)
        | st.builds(And, st.lists(part, min_size=1, max_size=4).map(tuple))
        | st.builds(Or, st.lists(part, min_size=1, max_size=4).map(tuple))
    ),
    max_leaves=8,
)


scopes = st.builds(
    scope,
    st.dictionaries(st.sampled_from([*NAMES.kinds, "gone"]), ODD),
    st.dictionaries(st.sampled_from(["member", "since", "told", "gone", "now"]), ODD),
    st.dictionaries(st.just("web"), st.booleans()),
    st.dictionaries(st.just("x"), ODD | st.dictionaries(st.just("y"), ODD)),
    st.sampled_from([0, NOW_US, NOW_US + 12_345]),
)
offers = st.builds(
    offer,
    value=NUMBERS,
    category=st.none() | TEXTS,
    priority=st.integers(-1, 1),
    retention=st.booleans(),
    ends_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    attributes=st.dictionaries(st.sampled_from(["brand", "to"]), ODD),
)
CODES = {True: 1, False: 0, None: -1}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.none() | expressions, offers), min_size=1, max_size=6),
    st.lists(scopes, min_size=1, max_size=3),
)
def test_compiled_rules_say_what_the_interpreter_says(catalogue, asking):
    rules = [rule for rule, _ in catalogue]
    program = Program(rules, [one for _, one in catalogue], NAMES)
    for one in asking:
        expected = [1 if rule is None else CODES[interpret(rule, one, about, NAMES)] for rule, about in catalogue]
        assert program.evaluate(one).tolist() == expected
        assert program.settled is None or program.settled.tolist() == expected


class Dice:
    """Rules and customers that fit each other most of the time, so that most conditions are true or false."""

    numbers = (0.0, 1.0, 2.0, 17.0, 18.0, 18.5, 65.0, -3.0, 1e308)
    texts = ("DE", "FR", "running", "", "ü")
    times = ("2026-07-01", "2026-07-25T17:20:00Z", "2026-07-25T19:20:00+02:00", "2026-08-01T00:00:00Z", "1999-12-31")
    odd = (
        None,
        math.nan,
        math.inf,
        -math.inf,
        True,
        3,
        10**400,
        "x",
        "2026-13-01",
        [],
        {},
        ["DE", 1.0, None],
        {"DE": 2},
    )

    def __init__(self, seed):
        self.rng = Random(seed)
        self.one = self.rng.choice

    def scope(self):
        known = {"age": self.number, "spent": self.number, "country": self.text, "taste": self.taste}
        told = {
            "member": self.truth,
            "since": self.time,
            "told": lambda: self.one((self.text, self.time))(),
            "gone": self.number,
        }
        context = self.one((self.number, self.text, self.truth, self.time, self.some_list))
        return scope(
            {name: self.mostly(make) for name, make in known.items() if self.rng.random() < 0.9},
            {name: self.mostly(make) for name, make in told.items() if self.rng.random() < 0.9},
            {"web": self.truth()} if self.rng.random() < 0.8 else {},
            {"x": self.mostly(context), "y": {"z": self.mostly(context)}} if self.rng.random() < 0.9 else {},
        )

    def offer(self):
        attributes = {"most": self.number, "brand": self.text, "to": self.some_list, "until": self.time}
        return offer(
            value=self.number(),
            category=self.one((None, *self.texts)),
            retention=self.truth(),
            ends_at=self.one((None, datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 7, 25, 17, 20, tzinfo=UTC))),
            attributes={name: self.mostly(make) for name, make in attributes.items() if self.rng.random() < 0.9},
        )

    def number(self):
        return self.one(self.numbers)

    def text(self):
        return self.one(self.texts)

    def time(self):
        return self.one(self.times)

    def truth(self):
        return self.rng.random() < 0.5

    def taste(self):
        return {self.text(): self.number() for _ in range(self.rng.randrange(4))}

    def some_list(self):
        return [self.one((self.number, self.text, self.time))() for _ in range(self.rng.randrange(4))]

    def mostly(self, make):
        return make() if self.rng.random() < 0.9 else self.one(self.odd)

    def rule(self, depth=3):
        if depth == 0 or self.rng.random() < 0.4:
            return self.condition()
        if self.rng.random() < 0.25:
            return Not(self.rule(depth - 1))
        parts = tuple(self.rule(depth - 1) for _ in range(self.rng.randrange(1, 4)))
        return self.one((And, Or))(parts)

    def condition(self):
        of, value = self.one((self.of_numbers, self.of_texts, self.of_times, self.of_truths))()
        kind = self.rng.randrange(10)
        if kind == 0:
            return Missing(self.one((of, Variable("offer", ("to",)))))
        if kind == 1:
            return Holds(of)
        if kind == 2:
            return In(of, self.one((Variable("offer", ("to",)), Variable("context", ("x",)), Variable("", ("taste",)))))
        if kind in (3, 4):
            return In(of, tuple(value() for _ in range(self.rng.randrange(1, 14))))
        order = self.one(("<", "<=", ">", ">=", "==", "!="))
        return Compare(of, order, value()) if self.truth() else Compare(value(), order, of)

    def of_numbers(self):
        key = self.one((Text(self.text()), Variable("offer", ("category",)), Variable("", ("country",))))
        names = (
            *self.named("", "age", "spent", "gone"),
            *self.named("offer", "value", "most"),
            Entry(Variable("", ("taste",)), key),
        )
        return self.one((*names, *self.in_context())), lambda: self.one(
            (Number(self.number()), Number(self.number()), self.one(names))
        )

    def of_texts(self):
        names = (*self.named("", "country", "told"), *self.named("offer", "category", "brand"), *self.in_context())
        return self.one(names), lambda: self.one((Text(self.text()), Text(self.text()), self.one(names)))

    def of_times(self):
        names = (
            *self.named("", "since", "told"),
            *self.named("offer", "ends_at", "until"),
            *self.in_context(),
            Moment(0),
        )
        moment = Moment(self.rng.randrange(-30, 30) * DAY_US)
        return self.one(names), lambda: self.one((Text(self.time()), moment, self.one(names)))

    def of_truths(self):
        names = (
            *self.named("", "member"),
            *self.named("offer", "retention"),
            *self.in_context(),
            Variable("consent", ("web",)),
        )
        return self.one(names), lambda: self.one((Truth(self.truth()), self.one(names)))

    def in_context(self):
        return Variable("context", ("x",)), Variable("context", ("y", "z"))

    def named(self, root, *names):
        return [Variable(root, (name,)) for name in names]


@settings(max_examples=25, deadline=None, phases=(Phase.generate,))
@given(st.integers(0, 2**32))
def test_of_thousands_of_ordinary_rules_each_says_what_the_interpreter_says(seed):
    dice = Dice(seed)
    catalogue = [(dice.rule(), dice.offer()) for _ in range(60)]
    program = Program([rule for rule, _ in catalogue], [about for _, about in catalogue], NAMES)
    found, known = [], 0
    for _ in range(15):
        asking = dice.scope()
        codes = program.evaluate(asking).tolist()
        for (rule, about), code in zip(catalogue, codes, strict=True):
            if code != CODES[interpret(rule, asking, about, NAMES)]:
                found.append((rule, about, asking, code))
        known += sum(code >= 0 for code in codes)
    assert found == []
    assert known > 300  # of 900: the rest is unknown


@pytest.mark.parametrize("n", [2, 8, 9, 100, 1_000])
def test_a_list_is_searched_to_its_ends(n):
    # Longer lists are halved first: every member, and what lies between two, must be told apart.
    numbers = [float(3 * k) for k in range(n)]
    texts = [f"t{k:04}" for k in range(n)]
    either = Or(
        (
            In(Variable("", ("age",)), tuple(map(Number, numbers))),
            In(Variable("", ("country",)), tuple(map(Text, texts))),
        )
    )
    program = Program([either, Not(either)], [offer(), offer()], NAMES)
    for k in range(n):
        assert program.evaluate(scope({"age": numbers[k], "country": "x"})).tolist() == [1, 0]
        assert program.evaluate(scope({"age": numbers[k] + 1, "country": "x"})).tolist() == [0, 1]
        assert program.evaluate(scope({"age": -1.0, "country": texts[k]})).tolist() == [1, 0]


def test_conditions_and_rules_that_offers_share_are_kept_once():
    same = [parse('age >= 18 and country in ("DE", "FR")') for _ in range(50)]
    alike = [parse('country in ("FR", "DE") and not age < 18') for _ in range(50)]
    program = Program(same + alike, [offer()] * 100, NAMES)
    _, n_conditions, _, n_nodes, _ = program._whole[:5]
    assert (n_conditions, n_nodes) == (2, 1)  # one `and`


def test_what_only_the_offer_decides_is_settled_beforehand():
    rules = [parse(text) for text in ('offer.brand == "Acme"', "offer.brand == 3", "offer.brand is missing", "true")]
    program = Program(rules, [offer(attributes={"brand": "Acme"})] * 4, NAMES)
    assert program.settled.tolist() == [1, -1, 0, 1]


def test_an_offer_that_ends_soon_is_found_by_the_clock():
    ending = [offer(ends_at=datetime(2026, 7, day, tzinfo=UTC)) for day in range(1, 31)]
    program = Program([parse("now <= offer.ends_at < now + 3d")] * 30, ending, NAMES)
    shown = [day for day, code in enumerate(program.evaluate(scope()), start=1) if code == 1]
    assert shown == [26, 27, 28]  # now is July 25th, 17:20


def test_a_program_of_nothing_says_nothing():
    assert Program([], [], NAMES).evaluate(scope()).tolist() == []
    assert np.array_equal(Program([None], [offer()], NAMES).evaluate(scope()), [1])
