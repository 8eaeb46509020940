"""One read of one customer: stored features, what happened since, profile."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from features.definitions import FeatureSet
from features.errors import StoreUnavailable
from features.events import US_PER_DAY
from features.facts import Facts
from features.live import features_of
from features.log import Log

if TYPE_CHECKING:
    from features.online import OnlineStore

logger = logging.getLogger(__name__)
MOST_RECENT = 500  # events of one customer that a decision reads: a shared id must not slow everybody down


@dataclass(frozen=True, slots=True)
class CustomerNow:
    """A customer at one instant."""

    features: Mapping[str, Any]
    known: bool  # something is known of this customer: stored, live or told
    snapshot_us: int | None  # the stored part covers what happened before this instant
    refused: frozenset[str] | None = frozenset()  # keys of consent that are refused; None: could not be read
    degraded: tuple[tuple[str, str], ...] = ()  # (code, what was done)


@dataclass(slots=True)
class CustomerReader:
    """Reads the online store, the log and the profile; `online` is None before the first materialization."""

    facts: Facts
    log: Log
    feature_set: FeatureSet
    online: OnlineStore | None
    snapshot_us: int  # instant of the newest snapshot
    snapshot_position: int  # the log's position that the snapshot covers
    _shortest_ttl_us: float = field(init=False)

    def __post_init__(self) -> None:
        limits = [feature.ttl_days for feature in self.feature_set.customer if feature.ttl_days]
        self._shortest_ttl_us = min(limits, default=math.inf) * US_PER_DAY

    @property
    def has_store(self) -> bool:
        return self.online is not None

    def read(self, customer_id: str, now_us: int) -> CustomerNow:
        """What is known now. A store that fails is named in `degraded`, and its part falls to the defaults."""
        degraded: list[tuple[str, str]] = []
        stored, recent, profile = None, [], None
        refused: frozenset[str] | None = frozenset()
        try:
            if self.online is not None:
                stored = self.online.customer(customer_id)
        except (sqlite3.Error, StoreUnavailable) as error:
            logger.warning("online store: %s", error)
            degraded.append(("features_unavailable", "stored features were left at their defaults"))
        if stored is not None and stored.as_of_us > now_us:
            stored = None
            degraded.append(("features_unavailable", "the snapshot is newer than the clock and was not read"))
        try:
            since_us = stored.as_of_us if stored is not None else self.snapshot_us
            recent = self.log.recent(customer_id, since_us, self.snapshot_position, MOST_RECENT)
            if len(recent) == MOST_RECENT:
                degraded.append(("features_stale", f"only the newest {MOST_RECENT} events since the snapshot count"))
        except (sqlite3.Error, StoreUnavailable) as error:
            logger.warning("recent events: %s", error)
            degraded.append(("state_unavailable", "today's events were left out"))
        try:
            profile = self.facts.profile(customer_id)
            refused = profile.refused if profile is not None else refused
        except (sqlite3.Error, StoreUnavailable) as error:
            logger.warning("profile: %s", error)
            refused = None
            degraded.append(("state_unavailable", "consent could not be read, so nothing was offered"))
        if stored is not None and now_us - stored.as_of_us > self._shortest_ttl_us:
            degraded.append(("features_stale", "stored features past their time to live were left at their defaults"))
        features = features_of(self.feature_set, stored, recent, profile, now_us)
        known = stored is not None or bool(recent) or profile is not None
        return CustomerNow(features, known, stored.as_of_us if stored else None, refused, tuple(degraded))
