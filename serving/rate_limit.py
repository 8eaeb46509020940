"""How often a key, and each visitor with it, may call: token buckets, of this worker."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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
        if key.limits.visitor_per_s is not None:
            self._take((key.key_id, visitor), key.limits.visitor_per_s, VISITOR_BURST_S, n)

    def _take(self, name: tuple[str, str], per_s: float, burst_s: float, n: int) -> None:
        now, most = self._clock(), max(per_s * burst_s, 1.0)
        left, since = self._left.pop(name, (most, now))
        left = min(left + max(now - since, 0.0) * per_s, most)
        needed = min(float(n), most)  # a batch above the burst takes all there is; else it could never pass
        allowed = left >= needed
        self._left[name] = (left - needed if allowed else left, now)  # now last: the order is by use
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]
        if not allowed:
            raise TooManyRequests(math.ceil((needed - left) / per_s))
