"""How often one customer was contacted: counts of what counts, by window and by what is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache
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


@lru_cache(maxsize=4096)  # a catalogue has few different caps, and is made ready anew with every change
def capping(cap: Cap, channels: tuple[str, ...] = (), policy_id: str | None = None) -> Capping:
    return Capping(cap.of, parse_window(cap.window), cap.limit, frozenset(channels) or None, policy_id)


def counts(contact: Contact, now_us: int) -> bool:
    """It was seen, or its claim has not lapsed."""
    return contact.seen_us is not None or contact.lapses_us > now_us


class Tally:
    """Counts of one customer's contacts at one instant, each worked out when it is first asked for.

    What is not known of a contact counts as if it were what is asked about: a contact without a channel on every
    channel, one without a placement in every placement.
    """

    __slots__ = ("_categories", "_chosen", "_counted", "_decided", "_live", "_now_us", "_offers", "_zone")

    def __init__(
        self, contacts: Sequence[Contact], now_us: int, zone: tzinfo, categories: Mapping[str, str | None]
    ) -> None:
        """`contacts` oldest first; `categories` by offer id, for contacts that do not know theirs."""
        self._live = [c for c in contacts if c.seen_us is not None or c.lapses_us > now_us]
        self._decided: list[int] | None = None
        self._offers: list[str] | None = None
        self._now_us, self._zone, self._categories = now_us, zone, categories
        self._chosen: dict[tuple[str, Channels], list[Contact]] = {}
        self._counted: dict[tuple[str, str, Channels], Counts] = {}

    def __len__(self) -> int:
        """How many contacts count at all."""
        return len(self._live)

    def with_offer(self, offer_id: str) -> int:
        """How many of them were with one offer."""
        if self._offers is None:
            self._offers = list(map(SCOPE["offer"], self._live))
        return self._offers.count(offer_id)

    def by(self, cap: Capping) -> Counts:
        """How many contacts there were, by what the cap is of."""
        if len(self._live) == 0:
            return NOTHING
        key = (cap.of, cap.window.text, cap.channels)
        found = self._counted.get(key)
        if found is None:
            found = self._counted[key] = self._count(cap)
        return found

    def reaching(self, cap: Capping, least: int) -> list[tuple[str | None, int]]:
        """What was contacted at least so often, and how often; `least` is at least 1."""
        if len(self._live) < least:
            return []
        if cap.of == "offer":
            names = list(map(SCOPE["offer"], self._inside(cap)))
            if len(names) - len(set(names)) + 1 < least:
                return []  # so many different ones leave no room for one that often
        return [(name, n) for name, n in self.by(cap).items() if n >= least]

    def of(self, cap: Capping, offer_id: str, category: str | None, placement_id: str, channel: str) -> int:
        """How many contacts count when this offer is asked about."""
        if len(self._live) == 0:
            return 0
        chosen = self._inside(cap)
        if cap.of == "all":
            return len(chosen)
        if cap.of == "offer":
            return list(map(SCOPE["offer"], chosen)).count(offer_id)
        if cap.of == "category":
            return 0 if category is None else self.by(cap).get(category, 0)
        of_each = list(map(SCOPE[cap.of], chosen))
        return of_each.count(placement_id if cap.of == "placement" else channel) + of_each.count(None)

    def _inside(self, cap: Capping) -> list[Contact]:
        """The contacts within the window, on the cap's channels."""
        key = (cap.window.text, cap.channels)
        chosen = self._chosen.get(key)
        if chosen is None:
            if self._decided is None:
                self._decided = list(map(DECIDED, self._live))
            chosen = self._live[bisect_left(self._decided, cap.window.since_us(self._now_us, self._zone)) :]
            if cap.channels is not None:
                chosen = [c for c in chosen if c.channel is None or c.channel in cap.channels]
            self._chosen[key] = chosen
        return chosen

    def _count(self, cap: Capping) -> Counts:
        chosen = self._inside(cap)
        if cap.of == "all":
            return {None: len(chosen)}
        if cap.of == "category":
            known = self._categories
            return Counter(c.category if c.category is not None else known.get(c.offer_id) for c in chosen)
        return Counter(map(SCOPE[cap.of], chosen))
