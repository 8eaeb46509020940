"""The compiled form of rules says what the slow and obvious interpreter says."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
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


@settings(max_examples=200, deadline=None)
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
    assert program._n_table == 3 + 2 + 1  # the constants, two conditions, one `and`


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
