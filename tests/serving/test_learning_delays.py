"""What an impression was expected to bring counts as its time goes by; expected values by hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import US_PER_DAY
from serving.learning.delays import AT_ONCE, BEGINS_US, REMEMBERED, nothing_arrived, one_more, parts_of
from tests.serving.learning_log import NOW, folded, open_shop, sums

NOTHING = (0, pytest.approx(0.0, abs=1e-4), 0.0)  # but for a minute's fading
DAY, WEEK_US = timedelta(days=1), 7 * US_PER_DAY
MINUTE_US = 60_000_000


@pytest.fixture
def shop(tmp_path):
    yield from open_shop(tmp_path)


def test_before_anything_came_all_counts_at_once():
    assert parts_of(0.1, nothing_arrived(), WEEK_US) == (0.1, [])


def test_an_outcome_is_counted_in_the_stage_of_its_delay():
    arrived = nothing_arrived()
    for minutes in (0, 9.9, 10, 59, 60, 6 * 60, 24 * 60, 3 * 24 * 60, 6 * 24 * 60):
        arrived = one_more(arrived, int(minutes * MINUTE_US))
    assert arrived == [AT_ONCE + 2, 2, 1, 1, 1, 2]


def test_what_is_expected_is_split_by_what_came_when():
    """Of 100 outcomes 60 came at once, 30 after a day, 10 after three; half a percent in between is not waited for."""
    now, later = parts_of(0.5, [600, 5, 0, 0, 300, 95], WEEK_US)
    assert now == pytest.approx(0.5 * 605 / 1_000)
    assert later == [(US_PER_DAY, pytest.approx(0.15)), (3 * US_PER_DAY, pytest.approx(0.0475))]


def test_nothing_counts_after_the_window():
    assert parts_of(0.5, [60, 0, 0, 0, 30, 10], US_PER_DAY // 2) == (0.5, [])


def test_what_came_long_ago_is_forgotten_by_halves():
    arrived = nothing_arrived()
    for _ in range(REMEMBERED):
        arrived = one_more(arrived, 2 * US_PER_DAY)
    assert sum(arrived) < REMEMBERED
    assert arrived[4] / sum(arrived) > 0.99


@given(
    st.floats(0, 1),
    st.lists(st.integers(0, 5_000), min_size=len(BEGINS_US), max_size=len(BEGINS_US)),
    st.integers(0, 30 * US_PER_DAY),
)
def test_the_parts_always_add_up(expected, came, window_us):
    arrived = [came[0] + 1, *came[1:]]
    now, later = parts_of(expected, arrived, window_us)
    assert now + sum(part for _, part in later) == pytest.approx(expected)
    assert now >= -1e-12
    assert all(part >= 0 and 0 < delay <= window_us for delay, part in later)


def live_slowly(shop, n_days):
    """Ten customers a day see an offer, four take it, two days later."""
    for day in range(n_days):
        shop.now = NOW + day * DAY
        for n in range(10):
            shop.shown(f"d-{day}-{n}", customer=f"c-{day}-{n}")
        for n in range(4 if day >= 2 else 0):
            shop.event("accept", f"d-{day - 2}-{n}", customer=f"c-{day - 2}-{n}")


def test_where_outcomes_take_days_a_new_offer_is_not_blamed_for_the_first_of_them(shop, tmp_path):
    live_slowly(shop, 16)
    for n in range(50):
        shop.shown(f"new-{n}", customer=f"n-{n}", offers={"o-2": 0.1})
    fresh = sums(folded(tmp_path, shop.log))["7", "web", "o-2"]
    assert fresh[0] == 50
    assert fresh[1] < 50 * 0.1 / 2  # more than half of all outcomes took two days
    shop.now += 2 * DAY
    shop.event("visit", None, None)  # time passes by what the log receives
    later = sums(folded(tmp_path, shop.log))["7", "web", "o-2"]
    assert later == (50, pytest.approx(5.0), 0.0)
