"""The site's word for a customer: who may sign, for whom, and for how long."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from serving.customer_token import CustomerTokenRefused, check, sign
from serving.keys import Key
from tests.conftest import NOW

SECRET = "ss_test"
KEY = Key("pk_1", "public", ("decide",), "", NOW, signing_secret=SECRET)
S = 1_700_000_000


def test_the_token_is_what_any_language_makes_of_the_recipe():
    """The recipe as written in docs/how-to/call-from-a-browser.md, with the standard library alone."""
    by_hand = f"{S}." + hmac.new(SECRET.encode(), f"{S}.c-1ü".encode(), hashlib.sha256).hexdigest()
    assert sign(SECRET, "c-1ü", S + 0.9) == by_hand
    check(KEY, "c-1ü", by_hand, S)


@pytest.mark.parametrize("age_s", [-300, 0, 1, 3600])
def test_it_is_good_for_an_hour_and_clocks_may_differ_by_minutes(age_s):
    check(KEY, "c-1", sign(SECRET, "c-1", S), S + age_s)


@pytest.mark.parametrize(("age_s", "said"), [(3601, "over an hour"), (-301, "ahead"), (-(10**9), "ahead")])
def test_an_old_or_an_early_token_is_refused(age_s, said):
    with pytest.raises(CustomerTokenRefused, match=said):
        check(KEY, "c-1", sign(SECRET, "c-1", S), S + age_s)


GOOD = sign(SECRET, "c-1", S)
STAMP, MAC = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "", ".", STAMP, f"{STAMP}.", f".{MAC}", f"{int(STAMP) + 1}.{MAC}", GOOD[:-1], GOOD + "0", GOOD.upper(),
        f" {GOOD}", f"0{GOOD}", f"+{GOOD}", f"{STAMP}.{MAC}.{MAC}", "x" * 5000, "9" * 5000, "²." + MAC, "\udcff." + MAC,
        sign(SECRET, "c-2", S), sign("ss_other", "c-1", S), f"-1.{MAC}",
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_a_word_on_why(token):
    with pytest.raises(CustomerTokenRefused, match="is not this customer's"):
        check(KEY, "c-1", token, S)


def test_a_time_cannot_be_moved_into_the_customer_id():
    """ "1.2.c" signed for customer "2.c" at 1 must not pass for "c" at 1.2."""
    token = sign(SECRET, f"{S}.c-1", S)
    with pytest.raises(CustomerTokenRefused):
        check(KEY, "c-1", token, S)


def test_without_a_token_or_without_a_signing_secret_the_way_out_is_named():
    with pytest.raises(CustomerTokenRefused, match="anonymous_id"):
        check(KEY, "c-1", None, S)
    with pytest.raises(CustomerTokenRefused, match="nbo keys create"):
        check(Key("pk_1", "public", ("decide",), "", NOW), "c-1", GOOD, S)
