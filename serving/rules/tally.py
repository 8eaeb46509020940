"""How often one customer was contacted: counts of what counts, by window and by what is counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from functools import lru_cache
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple

from features.catalogue import Cap, CapOf
from serving.rules.windows import Window, parse_window
from serving.state.contacts import Contact, ContactHistory

Channels = frozenset[str] | None  # None: all
Counts = Mapping[str | None, int]  # by offer id, category, placement id or channel; of "all" by None

NOTHING: Counts = Counter()
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


class Tally:
    """Counts of one customer's contacts at one instant, each worked out when it is first asked for.

    What is not known of a contact counts as if it were what is asked about: a contact without a channel on every
    channel, one without a placement in every placement.
    """

    __slots__ = ("_all", "_categories", "_chosen", "_counted", "_decided", "_live", "_now_us", "_offers", "_zone")

    def __init__(
        self, history: ContactHistory, now_us: int, zone: tzinfo, categories: Mapping[str, str | None]
    ) -> None:
        """`categories` by offer id, for contacts that do not know theirs."""
        self._all, self._now_us, self._zone, self._categories = history, now_us, zone, categories
        self._live: Sequence[Contact] | None = None  # and of these alone:
        self._decided: Sequence[int] = ()
        self._offers: Sequence[str] = ()
        self._chosen: dict[tuple[str, Channels], Sequence[Contact]] = {}
        self._counted: dict[tuple[str, str, Channels], Counts] = {}

    def by(self, cap: Capping) -> Counts:
        """How many contacts there were, by what the cap is of."""
        if not self._all.contacts:
            return NOTHING
        key = (cap.of, cap.window.text, cap.channels)
        found = self._counted.get(key)
        if found is None:
            found = self._counted[key] = self._count(cap)
        return found

    def reaching(self, cap: Capping, least: int) -> list[tuple[str | None, int]]:
        """What was contacted at least so often, and how often; `least` is at least 1."""
        if not self.may_reach(cap, least):
            return []
        if cap.of == "offer" and cap.channels is None:
            first = self._first(cap)
            offers = self._offers[first:]
            if len(offers) - len(set(offers)) + 1 < least:
                return []
        return [(name, n) for name, n in self.by(cap).items() if n >= least]

    def may_reach(self, cap: Capping, least: int) -> bool:
        """False if there are surely fewer contacts than this of whatever the cap is of."""
        history = self._all
        if len(history.contacts) < least:
            return False
        return cap.of != "offer" or history.columns.most_alike >= least

    def of(self, cap: Capping, offer_id: str, category: str | None, placement_id: str, channel: str) -> int:
        """How many contacts count when this offer is asked about."""
        if not self._all.contacts:
            return 0
        if cap.channels is None and cap.of in ("all", "offer"):
            first = self._first(cap)
            return len(self._offers) - first if cap.of == "all" else self._offers[first:].count(offer_id)
        chosen = self._inside(cap)
        if cap.of == "all":
            return len(chosen)
        if cap.of == "offer":
            return list(map(SCOPE["offer"], chosen)).count(offer_id)
        if cap.of == "category":
            return 0 if category is None else self.by(cap).get(category, 0)
        of_each = list(map(SCOPE[cap.of], chosen))
        return of_each.count(placement_id if cap.of == "placement" else channel) + of_each.count(None)

    def _counting(self) -> Sequence[Contact]:
        """The contacts that count at all."""
        if self._live is None:
            history, now_us = self._all, self._now_us
            columns = history.columns
            until_us = columns.counts_until_us
            live: Sequence[Contact] = history.contacts
            decided, offers = columns.decided_us, columns.offer_ids
            if until_us and min(until_us) <= now_us:
                counts = [one > now_us for one in until_us]
                live, decided, offers = (list(compress(one, counts)) for one in (live, decided, offers))
            self._live, self._decided, self._offers = live, decided, offers
        return self._live

    def _first(self, cap: Capping) -> int:
        """Where, among the contacts that count, the window begins."""
        self._counting()
        return bisect_left(self._decided, cap.window.since_us(self._now_us, self._zone))

    def _inside(self, cap: Capping) -> Sequence[Contact]:
        """The contacts within the window, on the cap's channels."""
        key = (cap.window.text, cap.channels)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._counting()[self._first(cap) :]
            if cap.channels is not None:
                chosen = [c for c in chosen if c.channel is None or c.channel in cap.channels]
            self._chosen[key] = chosen
        return chosen

    def _count(self, cap: Capping) -> Counts:
        if cap.of == "offer" and cap.channels is None:
            first = self._first(cap)
            return Counter(self._offers[first:])
        chosen = self._inside(cap)
        if cap.of == "all":
            return {None: len(chosen)}
        if cap.of == "category":
            known = self._categories
            return Counter(c.category if c.category is not None else known.get(c.offer_id) for c in chosen)
        return Counter(map(SCOPE[cap.of], chosen))
