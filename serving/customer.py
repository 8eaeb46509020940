"""One read of one customer: stored features, what happened since, profile."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from features.definitions import FeatureSet
from features.errors import StoreUnavailable
from features.events import US_PER_DAY
from features.facts import Facts
from features.identities import joined_row
from features.live import StoredRow, features_of
from features.log import Log, LogEvent
from features.profile import Profile
from serving.kept_reads import KeptEvents, KeptUntilCommit

if TYPE_CHECKING:
    from features.online import OnlineStore

logger = logging.getLogger(__name__)
FAILURES = (sqlite3.Error, StoreUnavailable)
NOTHING_REFUSED: frozenset[str] = frozenset()
LAST_KNOWN_US = 600_000_000  # what is older than ten minutes is not used, also because it may have been erased
MOST_RECENT = 500  # events of one customer that a decision reads: a shared id must not slow everybody down


class CustomerNow(msgspec.Struct, frozen=True):
    """A customer at one instant."""

    customer_id: str  # who it is, after joining: an anonymous visitor may have become a known customer
    features: Mapping[str, Any]
    known: bool  # something is known of this customer: stored, live or told
    snapshot_us: int | None  # the stored part covers what happened before this instant
    refused: frozenset[str] | None = frozenset()  # keys of consent that are refused; None: could not be read
    consent: Mapping[str, bool] = {}
    attributes: Mapping[str, Any] = {}
    muted_categories: frozenset[str] = frozenset()
    less_like: frozenset[str] = frozenset()
    time_zone: str | None = None
    degraded: tuple[tuple[str, str], ...] = ()  # (code, what was done)
    erased: bool = False  # nothing may be kept of them, so nothing is reserved
    unit_id: str | None = None  # what experiments split them by; None: the customer_id

    def but(self, degraded: tuple[str, str]) -> CustomerNow:
        """The same, with one more thing that could not be had."""
        return msgspec.structs.replace(self, degraded=(*self.degraded, degraded))


class Happened(NamedTuple):
    """What a customer did: the stored part and what came since."""

    stored: StoredRow | None
    recent: Sequence[LogEvent]
    degraded: tuple[tuple[str, str], ...] = ()


class Told(NamedTuple):
    """Who somebody is, after joining, and what was read of the profile; None where there is none."""

    customer_id: str
    profile: Profile | None
    erased: bool = False
    unit_id: str | None = None  # None: the customer_id


def by_time(event: LogEvent) -> tuple[int, str]:
    return event.occurred_us, event.event_id


class LastKnown:
    """The newest good read of the customers that were asked about lately, for when a store is late or down."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._kept: dict[str, tuple[int, Happened]] = {}

    def keep(self, customer_id: str, happened: Happened, now_us: int) -> None:
        self._kept.pop(customer_id, None)  # so that the order is by last use
        self._kept[customer_id] = now_us, happened
        if len(self._kept) > self._most:
            with suppress(StopIteration, KeyError, RuntimeError):  # another thread may have been faster
                del self._kept[next(iter(self._kept))]

    def known(self, customer_id: str, now_us: int) -> Happened:
        """With a word on what it is; nothing if nobody asked about this customer lately."""
        at_us, kept = self._kept.get(customer_id, (0, None))
        if kept is None or now_us - at_us > LAST_KNOWN_US:
            return Happened(None, (), (("features_unavailable", "features were left at their defaults"),))
        return kept._replace(degraded=(("features_stale", "the last known features were used"),))


@dataclass(slots=True)
class CustomerReader:
    """Reads the online store, the log and the profile; `online` is None before the first materialization.

    The three reads are apart, so that each may be late or fail for itself.
    """

    facts: Facts  # of profiles
    identities: Facts  # the same file, opened apart: each read may be late for itself
    log: Log
    feature_set: FeatureSet
    online: OnlineStore | None
    snapshot_us: int  # instant of the newest snapshot
    snapshot_position: int  # the log's position that the snapshot covers
    any_erased: bool = False  # some customer was: then each is asked about
    last: LastKnown = field(default_factory=LastKnown)
    kept_told: KeptUntilCommit[Told] = field(default_factory=KeptUntilCommit)
    kept_keys: KeptUntilCommit[Sequence[str]] = field(default_factory=KeptUntilCommit)
    kept_events: KeptEvents = field(default_factory=KeptEvents)
    _shortest_ttl_us: float = field(init=False)

    def __post_init__(self) -> None:
        limits = [feature.ttl_days for feature in self.feature_set.customer if feature.ttl_days]
        self._shortest_ttl_us = min(limits, default=math.inf) * US_PER_DAY

    @property
    def has_store(self) -> bool:
        return self.online is not None

    def read(self, customer_id: str, now_us: int) -> CustomerNow:
        """What is known now. A store that fails is named in `degraded`, and its part falls to the defaults."""
        told: Told | None
        try:
            (told,) = self.told([customer_id])
        except FAILURES as error:
            logger.warning("profile: %s", error)
            told = None
        (happened,) = self.happened([(customer_id, now_us)])
        return self.assembled(customer_id, happened, told, now_us)

    def told(self, customer_ids: Sequence[str]) -> list[Told]:
        """What each of these customers said of themselves."""
        return self.kept_told.of(customer_ids, self.facts.commits, self._told)

    def _told(self, customer_ids: Sequence[str]) -> list[Told]:
        """In few statements: each lets the interpreter go, and then waits for it."""
        keys = self.facts.identities_of(customer_ids)
        told = self.facts.told_of(tuple(dict.fromkeys(keys.values())))
        return [
            Told(key, told[key][0], self.any_erased and self.facts.is_erased(key), told[key][1])
            for key in map(keys.__getitem__, customer_ids)
        ]

    def happened(self, asked: Sequence[tuple[str, int]]) -> list[Happened]:
        """What each of these customers did until each instant; a store that fails is named."""
        customer_ids = [customer_id for customer_id, _ in asked]
        keys: Sequence[Sequence[str]] = [(one,) for one in customer_ids]
        degraded: tuple[tuple[str, str], ...] = ()
        try:
            keys = self.kept_keys.of(customer_ids, self.identities.commits, self._keys_of)
        except FAILURES as error:
            logger.warning("identities: %s", error)
            degraded = (("features_unavailable", "what was done before joining was left out"),)
        self.kept_events.catch_up(self.log)
        return [self._happened(one, of, now_us, degraded) for (one, now_us), of in zip(asked, keys, strict=True)]

    def _keys_of(self, customer_ids: Sequence[str]) -> list[Sequence[str]]:
        """All keys under which each of them did something."""
        known = self.identities.identities_of(customer_ids)
        aliases = self.identities.aliases_of_all(tuple(dict.fromkeys(known.values())))
        return [(known[one], *aliases.get(known[one], ())) for one in customer_ids]

    def _happened(
        self, customer_id: str, keys: Sequence[str], now_us: int, missing: tuple[tuple[str, str], ...]
    ) -> Happened:
        degraded = list(missing)
        stored: StoredRow | None = None
        recent: Sequence[LogEvent] = ()
        try:
            if self.online is not None:
                stored = self._stored(keys)
        except FAILURES as error:
            logger.warning("online store: %s", error)
            degraded.append(("features_unavailable", "stored features were left at their defaults"))
        if stored is not None and stored.as_of_us > now_us:
            stored = None
            degraded.append(("features_unavailable", "the snapshot is newer than the clock and was not read"))
        try:
            since_us = stored.as_of_us if stored is not None else self.snapshot_us
            recent = self._recent(keys, since_us)
            if len(recent) >= MOST_RECENT:
                degraded.append(("features_stale", f"only the newest {MOST_RECENT} events since the snapshot count"))
        except FAILURES as error:
            logger.warning("recent events: %s", error)
            degraded.append(("state_unavailable", "today's events were left out"))
        found = Happened(stored, recent, tuple(degraded))
        if not degraded:
            self.last.keep(customer_id, found, now_us)
        return found

    def _stored(self, keys: Sequence[str]) -> StoredRow | None:
        assert self.online is not None
        if len(keys) == 1:
            return self.online.customer(keys[0])
        return joined_row(self.feature_set, [self.online.customer(key) for key in keys])

    def _recent(self, keys: Sequence[str], since_us: int) -> Sequence[LogEvent]:
        log, after = self.log, self.snapshot_position
        found = [
            self.kept_events.of(key, since_us, partial(log.recent, key, since_us, after, MOST_RECENT)) for key in keys
        ]
        if len(found) == 1:
            return found[0]
        return sorted((event for one in found for event in one), key=by_time)[-MOST_RECENT:]

    def assembled(self, customer_id: str, happened: Happened | None, told: Told | None, now_us: int) -> CustomerNow:
        """The customer from what could be read; None is what could not, in time or at all."""
        if happened is None:
            happened = self.last.known(customer_id, now_us)
        stored, recent = happened.stored, happened.recent
        degraded = list(happened.degraded)
        profile = told.profile if told is not None else None
        if told is None:
            degraded.append(("state_unavailable", "consent could not be read, so nothing was offered"))
        if stored is not None and now_us - stored.as_of_us > self._shortest_ttl_us:
            degraded.append(("features_stale", "stored features past their time to live were left at their defaults"))
        features = features_of(self.feature_set, stored, recent, profile, now_us)
        known = stored is not None or bool(recent) or profile is not None
        snapshot_us = stored.as_of_us if stored else None
        customer_id, unit_id = (told.customer_id, told.unit_id) if told is not None else (customer_id, None)
        if profile is None:
            refused = None if told is None else NOTHING_REFUSED
            erased = told is not None and told.erased
            return CustomerNow(
                customer_id,
                features,
                known,
                snapshot_us,
                refused,
                degraded=tuple(degraded),
                erased=erased,
                unit_id=unit_id,
            )
        any_refused = not all(profile.consent.values())
        return CustomerNow(
            customer_id=customer_id,
            features=features,
            known=known,
            snapshot_us=snapshot_us,
            refused=profile.refused if any_refused else NOTHING_REFUSED,
            consent=profile.consent,
            attributes=profile.attributes,
            muted_categories=frozenset(profile.muted_categories) if any_refused else NOTHING_REFUSED,
            less_like=frozenset(profile.less_like),
            time_zone=profile.time_zone,
            degraded=tuple(degraded),
            unit_id=unit_id,
        )
