"""How late the event loop comes round and how long a decision works there: what a deadline must leave room for."""

from __future__ import annotations

import asyncio
import time

TRUSTED_S = 0.1  # what was measured longer ago says nothing about now
GAIN, GAIN_OF_DEVIATION, DEVIATIONS = 1 / 8, 1 / 4, 4.0  # as TCP judges a round trip: RFC 6298


class Pace:
    """Of one event loop, measured by the decisions on it."""

    def __init__(self) -> None:
        self._usual_s = self._deviation_s = self._each_s = 0.0
        self._asked_at: float | None = None
        self._lag_s, self._lag_at = 0.0, 0.0

    @property
    def lag_s(self) -> float:
        """How long the loop took to come round the last time: what was due in that time had to wait."""
        return self._lag_s if time.monotonic() - self._lag_at < TRUSTED_S else 0.0

    @property
    def work_s(self) -> float:
        """How long a decision keeps the loop, waiting not counted, with few taking longer; 0.0 before the first."""
        return self._usual_s + DEVIATIONS * self._deviation_s

    @property
    def each_s(self) -> float:
        """How long whoever is next waits for each that is before; 0.0 before the first."""
        return self._each_s

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measures how long the loop takes to come round from here."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            loop.call_soon(self._came_round)

    def spared(self) -> None:
        """A decision was not made for lack of time: what was measured before fades, so that one is tried again."""
        self._usual_s -= GAIN * self._usual_s
        self._deviation_s -= GAIN * self._deviation_s
        self._each_s -= GAIN * self._each_s

    def turned(self, seconds: float) -> None:
        """One decision was made, of some at once or alone, and the next one's turn came so much later."""
        self._each_s += GAIN * (seconds - self._each_s)

    def worked(self, seconds: float) -> None:
        """One decision kept the loop for so long."""
        if not self._usual_s:
            self._usual_s, self._deviation_s = seconds, seconds / 2
            return
        self._deviation_s += GAIN_OF_DEVIATION * (abs(seconds - self._usual_s) - self._deviation_s)
        self._usual_s += GAIN * (seconds - self._usual_s)

    def _came_round(self) -> None:
        assert self._asked_at is not None
        self._lag_at = time.monotonic()
        self._lag_s, self._asked_at = self._lag_at - self._asked_at, None
