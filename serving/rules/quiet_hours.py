"""Nothing is shown in the quiet hours of the customer's day."""

from __future__ import annotations

from datetime import tzinfo
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.rules.tally import Channels
from serving.rules.windows import UNITS_US, minute_of_day, parse_time_of_day

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class Quiet(NamedTuple):
    """From one minute of the day, inclusive, until another, exclusive; over midnight if it is the smaller one."""

    policy_id: str
    channels: Channels
    from_minute: int
    until_minute: int

    def at(self, now_us: int, zone: tzinfo) -> bool:
        minute = minute_of_day(now_us, zone)
        if self.from_minute <= self.until_minute:
            return self.from_minute <= minute < self.until_minute
        return minute >= self.from_minute or minute < self.until_minute


class QuietHoursRule:
    name: ClassVar[str] = "quiet_hours"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._quiet = tuple(
            Quiet(policy.policy_id, frozenset(policy.channels) or None, *map(parse_time_of_day, policy.quiet_hours))
            for policy in view.contact_policies
            if policy.quiet_hours is not None
        )
        self._last: tuple[tuple[int, str, tzinfo], Quiet | None] | None = None  # of one minute

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return np.zeros(len(self._view), dtype=bool) if self._at(asked) is not None else None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        quiet = self._at(asked)
        if quiet is None:
            return {}
        minute = minute_of_day(asked.now_us, asked.time_zone)
        return {
            "contact_policy": quiet.policy_id,
            "local_time": _clock(minute),
            "quiet_hours": [_clock(quiet.from_minute), _clock(quiet.until_minute)],
            "time_zone": str(asked.time_zone),
        }

    def _at(self, asked: Asked) -> Quiet | None:
        if not self._quiet:
            return None
        key, last = (asked.now_us // UNITS_US["m"], asked.channel, asked.time_zone), self._last
        if last is None or last[0] != key:
            found = [quiet for quiet in self._quiet if quiet.channels is None or asked.channel in quiet.channels]
            at_once = next((quiet for quiet in found if quiet.at(asked.now_us, asked.time_zone)), None)
            last = self._last = key, at_once
        return last[1]


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
