"""The compiled form of rules says what the slow and obvious interpreter says."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalogue import Offer
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

NOW_US = 1_785_000_000_000_000  # 2026-07-25
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
requests = st.sampled_from([Variable("context", ("x",)), Variable("context", ("x", "y")), Variable("consent", ("web",))])
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
    lambda part: st.builds(Not, part)
    | st.builds(And, st.lists(part, min_size=1, max_size=4).map(tuple))
    | st.builds(Or, st.lists(part, min_size=1, max_size=4).map(tuple)),
    max_leaves=8,
)


def scope(features=None, attributes=None, consent=None, context=None, now_us=NOW_US):
    return SimpleNamespace(
        features=features or {}, attributes=attributes or {}, consent=consent or {}, context=context or {}, now_us=now_us
    )


def offer(**changes):
    known = {"offer_id": "o", "name": "n", "value": 1.0, "currency": "EUR", "treatments": ()}
    return Offer(**{**known, **changes})


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
    ends_at=st.none() | st.datetimes(timezones=st.just(__import__("datetime").UTC)),
    attributes=st.dictionaries(st.sampled_from(["brand", "to"]), ODD),
)
CODES = {True: 1, False: 0, None: -1}


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(st.none() | expressions, offers), min_size=1, max_size=6), st.lists(scopes, min_size=1, max_size=3))
def test_compiled_rules_say_what_the_interpreter_says(catalogue, asking):
    rules = [rule for rule, _ in catalogue]
    program = Program(rules, [one for _, one in catalogue], NAMES)
    for one in asking:
        expected = [1 if rule is None else CODES[interpret(rule, one, about, NAMES)] for rule, about in catalogue]
        assert program.evaluate(one).tolist() == expected
