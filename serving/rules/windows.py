"""Spans of time as the catalogue writes them: "2h" and "7d" slide, a calendar day, week or month begins locally."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple

from features.errors import BadInput
from features.events import to_us

Calendar = Literal["day", "week", "month"]

UNITS_US = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
LONGEST_DAYS = 366
LONGEST_US = LONGEST_DAYS * UNITS_US["d"]
CALENDARS: dict[str, tuple[Calendar, int]] = {  # the longest there is, daylight saving included
    "calendar_day": ("day", 25 * UNITS_US["h"]),
    "calendar_week": ("week", 7 * UNITS_US["d"] + UNITS_US["h"]),
    "calendar_month": ("month", 31 * UNITS_US["d"] + UNITS_US["h"]),
}
SPAN = re.compile(r"([1-9][0-9]{0,5})([mhd])\Z")
TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
QUARTER_US = 15 * UNITS_US["m"]  # zones differ from UTC by whole quarters, so local midnights fall on them


class Window(NamedTuple):
    """A window that ends now."""

    text: str
    longest_us: int
    calendar: Calendar | None  # None: it slides

    def since_us(self, now_us: int, zone: tzinfo) -> int:
        """The first instant that is inside: a contact exactly one sliding length ago is no longer counted."""
        if self.calendar is None:
            return now_us - self.longest_us + 1
        return _began_us(self.calendar, zone, now_us // QUARTER_US)


def parse_window(text: str, field: str | None = None) -> Window:
    """The window of a cap; `BadInput` if it is none."""
    if text in CALENDARS:
        calendar, longest_us = CALENDARS[text]
        return Window(text, longest_us, calendar)
    try:
        return Window(text, parse_duration(text), None)
    except BadInput:
        expected = f"Nm, Nh or Nd (up to {LONGEST_DAYS}d), or one of {', '.join(CALENDARS)}"
        raise BadInput(f"{text[:40]!r} is not a window, expected {expected}", field) from None


def parse_duration(text: str, field: str | None = None) -> int:
    """Microseconds; `BadInput` if it is not a whole number of minutes, hours or days."""
    match = SPAN.match(text)
    us = int(match[1]) * UNITS_US[match[2]] if match else 0
    if not 0 < us <= LONGEST_US:
        raise BadInput(f"{text[:40]!r} is not a duration, expected Nm, Nh or Nd (up to {LONGEST_DAYS}d)", field)
    return us


def parse_time_of_day(text: str, field: str | None = None) -> int:
    """Minutes since midnight; `BadInput` if it is not HH:MM."""
    match = TIME_OF_DAY.match(text)
    if match is None:
        raise BadInput(f"{text[:40]!r} is not a time of day, expected HH:MM from 00:00 to 23:59", field)
    return int(match[1]) * 60 + int(match[2])


def day_of(now_us: int, zone: tzinfo) -> tuple[str, int, int]:
    """The local day as YYYY-MM-DD, its first instant, and that of the next day."""
    return _day_of(now_us // QUARTER_US, zone)


def minute_of_day(now_us: int, zone: tzinfo) -> int:
    """The local time, in whole minutes since midnight."""
    quarter, rest_us = divmod(now_us, QUARTER_US)
    return _minute_of(quarter, zone) + rest_us // UNITS_US["m"]


@lru_cache(maxsize=4096)
def _began_us(calendar: Calendar, zone: tzinfo, quarter: int) -> int:
    begun = _midnight(quarter, zone)
    if calendar == "week":
        begun -= timedelta(days=begun.weekday())  # weeks begin on Monday, as in ISO 8601
    elif calendar == "month":
        begun = begun.replace(day=1)
    return to_us(begun)


@lru_cache(maxsize=4096)
def _day_of(quarter: int, zone: tzinfo) -> tuple[str, int, int]:
    begun = _midnight(quarter, zone)
    return begun.date().isoformat(), to_us(begun), to_us(begun + timedelta(days=1))


@lru_cache(maxsize=4096)
def _minute_of(quarter: int, zone: tzinfo) -> int:
    local = _local(quarter, zone)
    return local.hour * 60 + local.minute


def _midnight(quarter: int, zone: tzinfo) -> datetime:
    return _local(quarter, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _local(quarter: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(quarter * QUARTER_US // 1_000_000, zone)
