"""Calendar weeks; expected dates from the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.digest.week import Week, last_whole_week, week_named
from features.errors import BadInput

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC)


def test_the_last_whole_week_has_ended_in_the_deployments_time_zone():
    """Monday 2026-03-02 00:30 in Berlin is still Sunday in UTC."""
    now = at("2026-03-02T00:30:00+01:00")
    assert last_whole_week(now, BERLIN).name == "2026-W09"
    assert last_whole_week(now, UTC_ZONE).name == "2026-W08"


def test_a_week_in_which_clocks_go_forward_has_an_hour_less():
    week = week_named("2026-W13", at("2026-04-01T00:00:00+00:00"), BERLIN)
    assert (week.since, week.until) == (at("2026-03-22T23:00:00+00:00"), at("2026-03-29T22:00:00+00:00"))
    assert week.until - week.since == timedelta(hours=167)


def test_the_year_of_a_week_is_that_of_its_thursday():
    """ISO 8601's own example: 2008-12-29 is the Monday of 2009-W01; 2020 has 53 weeks."""
    assert Week(date(2008, 12, 29), UTC_ZONE).name == "2009-W01"
    assert Week(date(2021, 1, 4), UTC_ZONE).before.name == "2020-W53"


@pytest.mark.parametrize(
    ("name", "why"),
    [("2026-9", "expected a week such as 2026-W08"), ("2026-W00", "no such week"), ("2026-W54", "no such week"),
     ("2025-W53", "no such week"), ("0000-W01", "no such week"), ("2026-W09", "has not ended"),
     ("9999-W52", "has not ended"), ("", "expected a week"), ("2026-W09\n", "expected a week")],
)  # fmt: skip
def test_weeks_that_are_none_are_refused_by_name(name, why):
    with pytest.raises(BadInput, match=why):
        week_named(name, at("2026-03-01T12:00:00+00:00"), UTC_ZONE)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo",
       "America/New_York", "Pacific/Kiritimati", "Australia/Lord_Howe"]))  # fmt: skip
def test_the_last_week_ends_at_most_a_week_ago_and_its_name_leads_back_to_it(now, name):
    zone, now = ZoneInfo(name), now.replace(tzinfo=UTC)
    week = last_whole_week(now, zone)
    assert week.until <= now < Week(week.monday + timedelta(days=7), zone).until
    assert week.before.until == week.since
    assert week_named(week.name, now, zone) == week
