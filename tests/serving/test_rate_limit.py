"""Token buckets: what fills, what is taken, and what a flood cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.keys import Key, KeyLimits
from serving.problems import TooManyRequests
from serving.rate_limit import RateLimiter
from tests.conftest import NOW


def key(per_s=None, visitor_per_s=None, key_id="pk_1"):
    return Key(key_id, "public", ("decide",), "", NOW, limits=KeyLimits((), per_s, visitor_per_s))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def passes(call, *arguments):
    try:
        call(*arguments)
    except TooManyRequests:
        return False
    return True


def test_a_burst_passes_then_the_rate_and_the_refusal_says_how_long_to_wait(clock):
    limiter, slow = RateLimiter(clock), key(per_s=2.0)
    assert [passes(limiter.charge_key, slow) for _ in range(5)] == [True] * 4 + [False]  # two seconds' worth
    clock.now += 0.5
    assert [passes(limiter.charge_key, slow) for _ in range(2)] == [True, False]
    limiter.charge_visitor(key(visitor_per_s=0.01), "v")
    with pytest.raises(TooManyRequests) as refused:
        limiter.charge_visitor(key(visitor_per_s=0.01), "v")
    assert refused.value.headers == {"Retry-After": "100"}


def test_keys_and_visitors_have_their_own_buckets(clock):
    limiter, one = RateLimiter(clock), key(visitor_per_s=1.0)
    assert passes(limiter.charge_visitor, one, "v", 6)
    assert not passes(limiter.charge_visitor, one, "v")
    assert passes(limiter.charge_visitor, one, "w")
    assert passes(limiter.charge_visitor, key(visitor_per_s=1.0, key_id="pk_2"), "v")


def test_without_a_rate_there_is_no_limit(clock):
    limiter = RateLimiter(clock)
    for _ in range(10_000):
        limiter.charge_key(key())
        limiter.charge_visitor(key(), "v")


def test_a_batch_beyond_what_is_left_is_refused_and_takes_nothing(clock):
    limiter, one = RateLimiter(clock), key(visitor_per_s=10.0)
    with pytest.raises(TooManyRequests, match="at most 60 in one request"):  # six seconds' worth
        limiter.charge_visitor(one, "v", 61)
    assert passes(limiter.charge_visitor, one, "v", 50)
    with pytest.raises(TooManyRequests, match="1 s"):
        limiter.charge_visitor(one, "v", 20)
    assert passes(limiter.charge_visitor, one, "v", 10)


def test_of_several_visitors_all_are_charged_or_none(clock):
    limiter, one = RateLimiter(clock), key(visitor_per_s=1.0)
    assert not passes(limiter.charge_visitors, one, {"v": 6, "w": 7})
    assert passes(limiter.charge_visitors, one, {"v": 6, "w": 6})
    assert not passes(limiter.charge_visitors, one, {"v": 1})


def test_a_flood_of_visitors_does_not_grow_without_end(clock):
    limiter, one = RateLimiter(clock, most=100), key(visitor_per_s=1.0)
    for n in range(1000):
        limiter.charge_visitor(one, f"v{n}")
    assert len(limiter._left) == 100


@given(
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(-1, 5), st.integers(1, 50)), max_size=60),
)
def test_over_any_span_no_more_passes_than_the_burst_and_the_rate(per_s, calls):
    clock = Clock()
    limiter, one = RateLimiter(clock), key(visitor_per_s=per_s)
    began, most, n_passed = clock.now, max(per_s * 6.0, 1.0), 0.0
    latest = began
    for wait_s, n in calls:  # a clock that steps back gives nothing
        clock.now += wait_s
        latest = max(latest, clock.now)
        if passes(limiter.charge_visitor, one, "v", n):
            n_passed += n
    stepped_back = sum(-wait for wait, _ in calls if wait < 0)
    assert n_passed <= most + per_s * (latest - began + stepped_back) + 1e-6
