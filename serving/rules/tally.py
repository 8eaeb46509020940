"""How often one customer was contacted: counts of what counts, by window and by what is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from operator import attrgetter
from typing import Any, NamedTuple

from features.catalogue import Cap, CapOf
from serving.rules.windows import Window, parse_window
from serving.state.contacts import Contact

Channels = frozenset[str] | None  # None: all
Counts = Mapping[str | None, int]  # by offer id, category, placement id or channel; of "all" by None

NOTHING: Counts = Counter()
DECIDED: Callable[[Contact], int] = attrgetter("decided_us")
SCOPE: dict[str, Callable[[Contact], Any]] = {
    "offer": attrgetter("offer_id"),
    "placement": attrgetter("placement_id"),
    "channel": attrgetter("channel"),
}


class Capping(NamedTuple):
    """A cap made ready: contacts on `channels` within `window` count."""

    of: CapOf
    window: Window
    limit: int
    channels: Channels = None
    policy_id: str | None = None  # None: the offer's own


def capping(cap: Cap, channels: Sequence[str] = (), policy_id: str | None = None) -> Capping:
    return Capping(cap.of, parse_window(cap.window), cap.limit, frozenset(channels) or None, policy_id)


def counts(contact: Contact, now_us: int) -> bool:
    """It was seen, or its claim has not lapsed."""
    return contact.seen_us is not None or contact.lapses_us > now_us


class Tally:
    """Counts of one customer's contacts at one instant, each worked out when it is first asked for.

    What is not known of a contact counts as if it were what is asked about: a contact without a channel on every
    channel, one without a placement in every placement.
    """

    __slots__ = ("_categories", "_counted", "_decided", "_live", "_now_us", "_zone")

    def __init__(
        self, contacts: Sequence[Contact], now_us: int, zone: tzinfo, categories: Mapping[str, str | None]
    ) -> None:
        """`contacts` oldest first; `categories` by offer id, for contacts that do not know theirs."""
        self._live = [c for c in contacts if c.seen_us is not None or c.lapses_us > now_us]
        self._decided = list(map(DECIDED, self._live))
        self._now_us, self._zone, self._categories = now_us, zone, categories
        self._counted: dict[tuple[str, str, Channels], Counts] = {}

    def by(self, cap: Capping) -> Counts:
        """How many contacts there were, by what the cap is of."""
        key = (cap.of, cap.window.text, cap.channels)
        found = self._counted.get(key)
        if found is None:
            found = self._counted[key] = self._count(cap) if self._live else NOTHING
        return found

    def of(self, cap: Capping, offer_id: str, category: str | None, placement_id: str, channel: str) -> int:
        """How many contacts count when this offer is asked about."""
        found = self.by(cap)
        if not found:
            return 0
        if cap.of == "offer":
            return found.get(offer_id, 0)
        if cap.of == "category":
            return 0 if category is None else found.get(category, 0)
        if cap.of == "placement":
            return found.get(placement_id, 0) + found.get(None, 0)
        if cap.of == "channel":
            return found.get(channel, 0) + found.get(None, 0)
        return found.get(None, 0)

    def _count(self, cap: Capping) -> Counts:
        chosen = self._live[bisect_left(self._decided, cap.window.since_us(self._now_us, self._zone)) :]
        if cap.channels is not None:
            chosen = [c for c in chosen if c.channel is None or c.channel in cap.channels]
        if cap.of == "all":
            return {None: len(chosen)}
        if cap.of == "category":
            known = self._categories
            return Counter(c.category if c.category is not None else known.get(c.offer_id) for c in chosen)
        return Counter(map(SCOPE[cap.of], chosen))
