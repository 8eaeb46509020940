"""How often a key, and each visitor with it, may call: token buckets, of this worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from serving.keys import Key
from serving.problems import TooManyRequests

KEY_BURST_S, VISITOR_BURST_S = 2.0, 6.0  # so many seconds' worth may come at once
MOST_BUCKETS = 100_000


class RateLimiter:
    """Buckets that fill with time. The least recently used are dropped, and so are full again.

    For the event loop's thread; each worker counts for itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = MOST_BUCKETS) -> None:
        self._clock, self._most = clock, most
        self._left: dict[tuple[str, str], tuple[float, float]] = {}  # tokens, and when

    def charge_key(self, key: Key) -> None:
        """One request. `TooManyRequests` if the key has used up what it may."""
        if key.limits.per_s is not None:
            self._take((key.key_id, ""), key.limits.per_s, KEY_BURST_S, 1)

    def charge_visitor(self, key: Key, visitor: str, n: int = 1) -> None:
        """`n` requests, or events, of one visitor. `TooManyRequests` if that is more than there is."""
        self.charge_visitors(key, {visitor: n})

    def charge_visitors(self, key: Key, counts: Mapping[str, int]) -> None:
        """The events of several visitors: all are charged, or none is."""
        per_s = key.limits.visitor_per_s
        if per_s is None:
            return
        for visitor, n in counts.items():
            self._check((key.key_id, visitor), per_s, VISITOR_BURST_S, n)
        for visitor, n in counts.items():
            self._take((key.key_id, visitor), per_s, VISITOR_BURST_S, n)

    def _take(self, name: tuple[str, str], per_s: float, burst_s: float, n: int) -> None:
        left = self._check(name, per_s, burst_s, n)
        self._left.pop(name, None)
        self._left[name] = (left - n, self._clock())  # now last: the order is by use
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]

    def _check(self, name: tuple[str, str], per_s: float, burst_s: float, n: int) -> float:
        """What is left; `TooManyRequests` if `n` is more."""
        now, most = self._clock(), max(per_s * burst_s, 1.0)
        left, since = self._left.get(name, (most, now))
        left = min(left + max(now - since, 0.0) * per_s, most)
        if n > most:  # would never pass, however long one waits
            raise TooManyRequests(math.ceil(most / per_s), f"of one visitor, at most {int(most)} in one request")
        if n > left:
            raise TooManyRequests(math.ceil((n - left) / per_s))
        return left
