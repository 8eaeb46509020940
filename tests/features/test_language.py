"""What a rule may say, what it means, and how it is refused."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import feature_set
from features.language import BadRule, Names, check, empty_ranges, interpret, parse, values_seen, variables
from features.language.parse import MAX_CHARACTERS, MAX_DEPTH, MAX_PARTS
from tests.conftest import ROOT
from tests.features.rules import NOW_US, offer, scope

NAMES = Names.of(
    feature_set(), {"age": "number", "country": "category", "member": "boolean", "since": "time", "seen_1d": "number"}
)
KNOWN = {
    "features": {
        "days_since_purchase": 3.0,
        "days_since_seen": math.nan,
        "interest_by_category_90d": {"running": 4.0},
        "favourite_category_90d": "running",
    },
    "attributes": {"age": 30, "country": "DE", "member": True, "since": "2026-07-01T00:00:00Z"},
    "consent": {"email": True, "sms": False},
    "context": {
        "device": "mobile",
        "page": {"kind": "shop"},
        "cart": 120,
        "tags": ["new", "sale"],
        "day": "2026-08-01",
    },
}
OFFER = offer(
    value=12.5,
    category="running",
    retention=True,
    ends_at=datetime(2026, 8, 1, tzinfo=UTC),
    attributes={"brand": "Acme", "countries": ["DE", "FR"], "min_age": 18, "spec": {"size": 42}, "odd": None},
)


def holds(text, about=OFFER, **changes):
    check(parse(text), NAMES)
    return interpret(parse(text), scope(**{**KNOWN, **changes}), about, NAMES)


def fault(text):
    with pytest.raises(BadRule) as refused:
        check(parse(text), NAMES)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # NOW is 2026-07-25 17:20 UTC; the customer is 30, from Germany, a member since July 1st
        ("age >= 18", True),
        ("age < 30", False),
        ("age != 31", True),
        ("18 <= age < 30", False),
        ("age between 18 and 30", True),
        ("age not between 18 and 30", False),
        ('country in ("DE", "FR")', True),
        ('country not in ("DE", "FR",)', False),
        ("age in (29, 30)", True),
        ("member", True),
        ("member == false", False),
        ("not member or age > 18", True),
        ("true", True),
        ("consent.email and not consent.sms", True),
        ("days_since_purchase < 30", True),
        ('context.device != "tv"', True),
        ('context.page.kind == "shop"', True),
        ("context.cart > 99.99", True),
        ('"sale" in context.tags', True),
        ('"old" in context.tags', False),
        ('context.day > "2026-07-31"', True),
        ('since < "2026-07-02"', True),
        ('since == "2026-07-01"', True),
        ('since == "2026-07-01T02:00:00+02:00"', True),
        ("since < now - 30d", False),
        ("now - since < 30d", True),
        ("20d < now - since <= 4w", True),
        ("offer.ends_at < now + 7d", True),
        ("offer.ends_at < now + 12h", False),
        ('offer.brand == "Acme"', True),
        ("offer.min_age <= age", True),
        ("country in offer.countries", True),
        ("offer.value >= 10 and offer.retention", True),
        ("offer.spec.size == 42", True),
        ("favourite_category_90d == offer.category", True),
        ('interest_by_category_90d["running"] > 3', True),
        ('interest_by_category_90d["golf"] == 0', True),
        ("interest_by_category_90d[offer.category] >= 4", True),
        ("offer.category in interest_by_category_90d", True),
        ('"golf" in interest_by_category_90d', False),
        ("days_since_seen is missing", True),
        ("offer.odd is missing", True),
        ("age is not missing", True),
        ('country == "D\\u0045"', True),
        ("`age` > 18", True),
    ],
)
def test_a_rule_says_what_it_reads_like(text, expected):
    assert holds(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "days_since_seen < 30",  # NaN: never
        "days_since_seen != 30",
        "not days_since_seen < 30",
        "context.gone == 1",
        'context.cart == "120"',  # a number and a text
        "context.device > 3",
        "context.device",  # a text is not a condition
        "consent.push",  # was not asked
        "offer.gone == 1",
        "offer.odd == 1",
        "age > offer.brand",
        'context.device < "2026-01-01"',  # no date
        "context.page == context.page",  # an object is not compared
        "context.gone in (1, 2)",
        "age in context.device",
        "context.gone in offer.countries",
        "days_since_seen < 30 or context.gone",
        "days_since_seen < 30 and age > 18",
    ],
)
def test_what_is_missing_or_of_another_kind_is_unknown(text):
    assert holds(text) is None
    assert holds(f"not ({text})") is None


def test_unknown_spreads_by_three_valued_logic():
    # Kleene's tables: true or unknown is true, false and unknown is false; all else with unknown is unknown.
    truth = {"true": True, "false": False, "context.gone": None}
    for left, a in truth.items():
        for right, b in truth.items():
            both = False if False in (a, b) else None if None in (a, b) else True
            one = True if True in (a, b) else None if None in (a, b) else False
            assert holds(f"{left} and {right}") is both
            assert holds(f"{left} or {right}") is one


def test_a_value_is_what_its_own_type_says_whatever_the_others_have():
    # One customer whose age is a text must not change what the rule means for the rest.
    assert holds("age >= 18", attributes={"age": "thirty"}) is None
    assert holds("age >= 18", attributes={"age": 18}) is True


def test_numbers_beyond_floats_are_missing_and_infinities_are_not():
    assert holds("context.n is missing", context={"n": 10**400}) is True
    assert holds("context.n > 1e300", context={"n": math.inf}) is True


def test_an_attribute_named_like_a_feature_is_read_under_its_longer_name():
    assert holds("profile_seen_1d > 5", attributes={"seen_1d": 6}, features={"seen_1d": 0.0}) is True


def test_an_attribute_that_came_after_the_features_were_built_can_be_read():
    old = Names.of(feature_set())
    asking = scope(attributes={"vip": True, "seen_1d": 6})
    assert interpret(parse("vip and profile_seen_1d == 6"), asking, None, old) is True


def test_equal_texts_are_parsed_once():
    assert parse("age >= 21") is parse("age >= 21")


def test_variables_come_in_the_order_of_mention_each_once():
    names = [str(v) for v in variables(parse("a > 1 and context.b.c and (a < 3 or d[offer.x] > 0 or d['k'] > 1)"))]
    assert names == ["a", "context.b.c", "d", "offer.x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agee > 3", "at character 1: agee is neither a feature nor an attribute of customers; close names are age"),
        ("age > 18 and contry == 'DE'", "at character 14: contry is neither .* close names are country"),
        ('category == "x"', "close names are offer.category"),
        ("zzz > 1", "no name is close; an attribute is known once one customer has it; offer attributes are offer.x"),
        ('age == "x"', "at character 5: age is a number and 'x' is a text"),
        ("age", "age is a number, not a condition"),
        ("country and member", "country is a text, not a condition"),
        ("interest_by_category_90d > 3", "is keyed: name an entry"),
        ("interest_by_category_90d[age] > 3", "a key is a text, age is a number"),
        ("age['x'] > 3", "age is a number, it has no entries"),
        ("offer.x['x'] > 3", "only keyed features of the customer have entries"),
        ('"age" > 18', "two values are compared, .*; name what you mean without quotes"),
        ('now > "2026-01-01"', "from when to when an offer or lever holds is said with starts_at and ends_at"),
        ("AGE > 1", "close names are age"),
        ("`` > 1", "at character 1: there is no name between the backticks"),
        ('country < "b"', "texts have no order"),
        ("member > false", "true and false have no order"),
        ("since > 3", "since is a time and 3 is a number"),
        ('since == "soon"', "since is a time and 'soon' is a text"),
        ("country in age", "age is a number, not a list"),
        ("18 in (18, 19)", "expected a name before 'in'"),
        ("3 is missing", "only a name can be missing"),
        ("age = 3", "at character 5: expected 'and', 'or', or the end of the rule; found '=' \\('==' compares\\)"),
        ("age > 3 && member", "write 'and'"),
        ("country == null", "write 'is missing'"),
        ("not", "expected a name or a value; the rule ends here"),
        ("(age > 3", "expected '\\)'; the rule ends here"),
        ("age > 3)", "expected 'and', 'or', or the end"),
        ("age > ", "at character 7: expected a name or a value; the rule ends here"),
        ("age not 3", "expected 'in' or 'between'"),
        ("country in ()", "expected a name or a value"),
        ("age > 30d", "a duration stands after now"),
        ("now - since > 30", "an age \\(now - name\\) is compared with a duration"),
        ("since < now - 30", "expected a duration such as 30d"),
        ("since < now + age", "expected a duration such as 30d"),
        ("since < now - 40000d", "a duration is at most 36,525 days"),
        ("foo.bar > 2", "foo. leads nowhere; expected one of offer., context., consent."),
        ("offer > 2", "offer is neither"),
        ("consent.email.x", "consent has no parts that deep"),
        ("offer.", "expected a name after the dot"),
        ("age > 1e999", "the number is too large"),
        ("country == 'DE", "at character 12: the ' that opens here is not closed"),
        ("country == '\\x41'", "is no escape"),
        ("country == '\\ud800'", "half a character"),
        ("age > 3; drop", "at character 8: ';' means nothing here"),
        ("__import__('os')", "expected 'and', 'or', or the end of the rule; found '\\('"),
        ("", "the rule is empty"),
        ("  \n", "at character 1: the rule is empty; leave it out, or write null, to mean everybody"),
    ],
)
def test_a_fault_is_named_with_its_place_and_what_was_expected(text, message):
    assert re.search(message, fault(text)), fault(text)


def test_a_bad_rule_carries_its_position_and_a_code():
    with pytest.raises(BadRule) as refused:
        parse("age > > 3")
    assert (refused.value.at, refused.value.code) == (6, "bad_rule")


def test_what_is_too_long_too_deep_or_too_much_is_refused():
    assert "characters" in fault("x" * (MAX_CHARACTERS + 1))
    assert "levels" in fault("(" * (MAX_DEPTH + 1) + "age > 1" + ")" * (MAX_DEPTH + 1))
    assert "levels" in fault("not " * (MAX_DEPTH + 1) + "member")
    assert "names and values" in fault("age in (" + "1," * (MAX_PARTS + 1) + "1)")
    assert holds("(" * MAX_DEPTH + "age > 1" + ")" * MAX_DEPTH) is True


def test_what_a_rule_saw_is_shown_by_name():
    rule = parse('age >= 18 and offer.ends_at < now + 7d and interest_by_category_90d["golf"] > 1 and context.gone')
    assert values_seen(rule, scope(**KNOWN), OFFER, NAMES) == {
        "age": 30.0,
        "offer.ends_at": "2026-08-01T00:00:00+00:00",
        "now": "2026-07-25T17:20:00+00:00",
        "interest_by_category_90d['golf']": 0.0,
        "context.gone": None,
    }


PIECES = """
age country member since context.x offer.x consent.x and or not in is missing between true false now ( ) [ ] , .
< <= > >= == != = + - 1 2.5 30d 1e9 '' "a" `x` " ' ` \\ é 名 __class__ lambda: 99999999999
"""
WORDS = st.sampled_from([*PIECES.split(), "\ud800", "\x00", "\u2028"])


@settings(max_examples=700, deadline=None)
@given(st.text(max_size=60) | st.lists(WORDS, max_size=25).map(" ".join) | st.lists(WORDS, max_size=40).map("".join))
def test_whatever_the_text_only_a_bad_rule_comes_out(text):
    refused, result = None, None
    try:
        rule = parse(text)
        check(rule, NAMES)
        result = interpret(rule, scope(**KNOWN), OFFER, NAMES)
    except BadRule as error:
        refused = error
    assert result in (True, False, None)
    assert refused is None or (0 <= refused.at <= len(text) and f"at character {refused.at + 1}: " in str(refused))


@pytest.mark.parametrize(
    "piece",
    ["(", "not ", "-", '"', "'a", "`", "\\", "1", "1e", "a.", "a and ", "a in (", "now - ", "a < ", "a[", " ", "\x00"],
)
def test_no_text_takes_long(piece):
    text = (piece * MAX_CHARACTERS)[:MAX_CHARACTERS]
    started = time.thread_time()
    with suppress(BadRule):
        check(parse(text), NAMES)
    assert time.thread_time() - started < 1.0  # generous: it is a few milliseconds


def test_every_rule_on_the_page_is_read_as_it_says():
    page = (ROOT / "docs/reference/rule-language.md").read_text()
    rules = [line for block in re.findall(r"```rule\n(.*?)```", page, re.DOTALL) for line in block.splitlines() if line]
    rules += re.findall(r"^\| `([^`|]+)` \|", page, re.MULTILINE)
    assert len(rules) > 20
    for rule in rules:
        check(parse(rule), NAMES)
    assert NOW_US == 1_785_000_000_000_000


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("age > 65 and age < 18", ["age"]),
        ("65 < age < 18", ["age"]),
        ("age > 18 and (country == 'DE' and age == 18)", ["age"]),
        ("country == 'DE' or age < 1 and age > 2", ["age"]),
        ("since < now - 30d and since > now - 7d", ["since"]),
        ("age >= 18 and age <= 18", []),
        ("age < 1 or age > 2", []),
        ("age > 2 and not age < 1", []),
        ("not (age > 2 and age < 1)", []),
        ("age > 1 and since < now", []),
    ],
)
def test_ranges_that_leave_no_room_are_found(text, names):
    assert list(empty_ranges(parse(text))) == names
