"""A calendar week of ISO 8601 in a time zone: Monday 00:00 to the next one, as instants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from features.errors import BadInput

DAYS = 7


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days of a zone's calendar; 167 or 169 hours where clocks are changed."""

    monday: date
    zone: ZoneInfo

    @property
    def name(self) -> str:
        """Such as 2026-W09; the year is the one that the week's Thursday is in."""
        year, number, _ = self.monday.isocalendar()
        return f"{year}-W{number:02d}"

    @property
    def since(self) -> datetime:
        return self.midnight(0)

    @property
    def until(self) -> datetime:
        """Exclusive."""
        return self.midnight(DAYS)

    @property
    def before(self) -> Week:
        """The week before it."""
        return Week(self.monday - timedelta(days=DAYS), self.zone)

    def midnight(self, day: int) -> datetime:
        """The beginning of the n-th day of the week, from 0, or of a day before it or after; in UTC."""
        return start_of(self.monday + timedelta(days=day), self.zone)


def start_of(day: date, zone: ZoneInfo) -> datetime:
    """Midnight of a day of the zone, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def last_whole_week(now: datetime, zone: ZoneInfo) -> Week:
    """The newest week that has ended."""
    today = now.astimezone(zone).date()
    return Week(today - timedelta(days=today.weekday() + DAYS), zone)


def week_named(name: str | None, now: datetime, zone: ZoneInfo) -> Week:
    """The week of that name, None for the last whole one; `BadInput` if there is none, or it has not ended by `now`."""
    last = last_whole_week(now, zone)
    if name is None:
        return last
    parts = re.fullmatch(r"(\d{4})-W(\d\d)", name)
    if parts is None:
        raise BadInput(f"--week is {name[:40]!r}, expected a week such as {last.name}", "week")
    try:
        week = Week(date.fromisocalendar(int(parts[1]), int(parts[2]), 1), zone)
    except ValueError:
        raise BadInput(f"--week is {name!r}, but that year has no such week", "week") from None
    if week.monday > last.monday:
        raise BadInput(f"--week is {name}, which has not ended; the last whole week is {last.name}", "week")
    return week
