"""What was read of customers a moment ago, kept for exactly as long as reading it again would give the same.

A visit asks for the same customer again and again. To learn that nothing changed takes one statement for all who are
asked about together; to read it again takes one for each.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from features.errors import StoreUnavailable
from features.log import Log, LogEvent

MOST_KEPT = 20_000  # customers
MOST_NEW = 500  # events at once, beyond which everything is read again

A = TypeVar("A")


class KeptUntilCommit(Generic[A]):
    """Answers by customer, until the store they came from has another stamp."""

    def __init__(self) -> None:
        self._kept: dict[str, A] = {}
        self._stamp: Hashable = None
        self._lock = threading.Lock()

    def of(
        self,
        customer_ids: Sequence[str],
        stamp: Callable[[], Hashable],
        read: Callable[[Sequence[str]], Sequence[A]],
    ) -> list[A]:
        """One answer each. `stamp` is asked before `read`, so that nothing is kept longer than it holds."""
        with self._lock:
            now = stamp()
            if now != self._stamp or len(self._kept) > MOST_KEPT:
                self._kept, self._stamp = {}, now
            kept = self._kept
            missing = [one for one in dict.fromkeys(customer_ids) if one not in kept]
            if missing:
                kept.update(zip(missing, read(missing), strict=True))
            return [kept[one] for one in customer_ids]


class KeptEvents:
    """Recent events by customer, until the log has another event of theirs.

    An erasure leaves nothing in the log to be noticed by: who holds this drops it then, as editions do.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Sequence[LogEvent]]] = {}
        self._position: int | None = None  # of the log: what came up to here is known; None: nothing is
        self._lock = threading.Lock()

    def catch_up(self, log: Log) -> None:
        """Forget the customers of whom there is something new. Never raises: without a log nothing is kept."""
        with self._lock:
            try:
                if self._position is None or len(self._kept) > MOST_KEPT:
                    self._begin_anew(log)
                    return
                new = log.events_after(self._position, MOST_NEW)
                if len(new) == MOST_NEW:
                    self._begin_anew(log)
                    return
            except (sqlite3.Error, StoreUnavailable):
                self._kept, self._position = {}, None
                return
            for event in new:
                self._kept.pop(event.customer_id, None)
                self._position = event.position

    def of(self, customer_id: str, since_us: int, read: Callable[[], Sequence[LogEvent]]) -> Sequence[LogEvent]:
        """As of the last `catch_up`, or newer."""
        since, events = self._kept.get(customer_id, (None, ()))
        if since == since_us:
            return events
        with self._lock:
            position = self._position
        events = read()
        with self._lock:
            if position is not None and position == self._position:
                self._kept[customer_id] = since_us, events
        return events

    def _begin_anew(self, log: Log) -> None:
        self._kept, self._position = {}, None
        self._position = log.last_position()
