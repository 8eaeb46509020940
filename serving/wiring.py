"""Puts the service together from its settings: stores, edition, log, and the watch that swaps editions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.definitions import feature_set
from features.errors import NboError
from features.events import to_us
from features.facts import Facts
from features.group_commit import GroupCommit
from features.live import offer_features_of
from features.log import Log, SqliteLog
from features.online import SNAPSHOT, open_online
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerReader
from serving.decide import Decider
from serving.decision import DecisionRequest, PlacementRequest
from serving.edition import Edition
from serving.keys import Keys
from serving.policies import POLICIES
from serving.settings import Clock, Settings
from serving.state.idempotency import Idempotency
from training.scorers import Pointer, Release, load_release, read_champion

logger = logging.getLogger(__name__)
RETRY_BROKEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One dependency; `needed` says whether the service cannot answer without it."""

    name: str
    ok: bool
    detail: str
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What an edition was made from; another value means that there is something new."""

    champion: Pointer | None
    catalogue: int
    snapshot: str | None


class Service:
    """Everything one worker holds. `start` before use, `close` at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = settings.clock()
        self.facts = Facts(settings.home.facts_db)
        self.profiles = Facts(settings.home.facts_db)  # read while deciding: must not wait for another thread's commit
        self.keys = Keys(settings.home.facts_db)
        self.currency = self.facts.data_settings().currency
        self.log_store: Log = SqliteLog(settings.home.log_db)
        self.log = GroupCommit(self.log_store)
        self.idempotency = Idempotency(settings.home.state_db, self.clock)
        self.broken: str | None = None  # why the newest release or snapshot is not served
        self._seen: Seen | None = None
        self._release: Release | None = None
        self._stop = threading.Event()
        self._refreshing = threading.Lock()
        self._watch = threading.Thread(target=self._run, name="edition-watch", daemon=True)
        self.decider: Decider

    def start(self) -> None:
        self.decider = Decider(self._first_edition(), self.settings, self.clock, self.currency)
        self._watch.start()

    def close(self) -> None:
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join()
        self.log.close()
        self.log_store.close()
        self.idempotency.close()
        self.keys.close()
        self.profiles.close()
        self.facts.close()

    def refresh(self) -> None:
        """Swap in a new edition if anything changed; a release that fails its self-test is refused, the old goes on."""
        with self._refreshing:
            seen = self._look()
            if seen == self._seen:
                return
            release = self._release
            if release is None or self._seen is None or seen.champion != self._seen.champion:
                release = self._load(seen.champion)
            edition = self._prepare(release)
            _self_test(edition, self.settings, self.clock, self.currency)
            self.decider.edition = edition
            self._release, self._seen, self.broken = release, seen, None
            logger.info("serving release %s, catalogue %s", edition.versions["release"], edition.view.version)

    def readiness(self) -> list[Check]:
        """Each dependency, and whether an answer is possible without it."""
        edition = self.decider.edition
        delayed_s = self.log.delayed_s
        return [
            Check("catalogue", True, f"version {edition.view.version}, {len(edition.view)} offers", needed=True),
            Check("log", delayed_s == 0, f"decisions wait {delayed_s:.1f} s" if delayed_s else "writing"),
            Check(
                "features",
                edition.customers.has_store,
                "online store is open" if edition.customers.has_store else "run `nbo features materialize`",
            ),
            Check(
                "release",
                edition.release is not None and self.broken is None,
                self.broken or (f"release {edition.versions['release']}" if edition.release else "none is promoted"),
            ),
        ]

    def _first_edition(self) -> Edition:
        """The champion's edition, or one without models when that is broken: a service that answers beats none."""
        seen = self._look()
        try:
            self._release = self._load(seen.champion)
            edition = self._prepare(self._release)
            _self_test(edition, self.settings, self.clock, self.currency)
            self._seen = seen
        except Exception as error:
            logger.exception("the release %s cannot be served", seen.champion)
            self._release, self.broken = None, f"release {seen.champion and seen.champion.release}: {error}"
            edition = self._prepare(None)
        return edition

    def _run(self) -> None:
        wait_s = self.settings.refresh_s
        while not self._stop.wait(wait_s):
            try:
                self.refresh()
                wait_s = self.settings.refresh_s
            except Exception as error:  # whatever a broken release raises, the old edition goes on
                if self.broken is None:
                    logger.exception("the new edition is refused; the old one goes on")
                self.broken = f"the newest edition is refused ({error}); serving the one before"
                wait_s = RETRY_BROKEN_S

    def _look(self) -> Seen:
        champion = read_champion(self.settings.home.releases)
        return Seen(champion, self.facts.catalogue_version(), self.facts.meta(SNAPSHOT))

    def _load(self, champion: Pointer | None) -> Release | None:
        return (
            None if champion is None else load_release(self.settings.home.releases / champion.release, champion.sha256)
        )

    def _prepare(self, release: Release | None) -> Edition:
        view = CatalogueView(self.facts.catalogue())
        customers = self._customers()
        stored = customers.online.offers() if customers.online is not None else {}
        now_us = to_us(self.clock())
        offers: Mapping[str, Mapping[str, Any]] = {
            offer_id: offer_features_of(customers.feature_set, row, now_us) for offer_id, row in stored.items()
        }
        return Edition(view, customers, release, offers, now_us)

    def _customers(self) -> CustomerReader:
        online = open_online(self.settings.home, self.facts)
        if online is None or online.snapshot is None:
            declared = feature_set(currency=self.currency)
            return CustomerReader(self.profiles, self.log_store, declared, None, snapshot_us=0, snapshot_position=0)
        at, position = online.snapshot.as_of_us, online.snapshot.log_position
        return CustomerReader(self.profiles, self.log_store, online.feature_set, online, at, position)


def build(settings: Settings) -> Service:
    """A service that has not started yet; `BadSettings` for a policy that does not exist."""
    if settings.policy not in POLICIES:
        raise NboError(f"policy is {settings.policy!r}, expected one of {', '.join(POLICIES)}")
    return Service(settings)


def _self_test(edition: Edition, settings: Settings, clock: Clock, currency: str) -> None:
    """One decision for somebody unknown in every placement; raises whatever is wrong with the edition."""
    asked = tuple(PlacementRequest(name, 1) for name in edition.view.placements)
    request = DecisionRequest(customer_id="\x1fself-test", placements=asked, dry_run=True)
    Decider(edition, settings, clock, currency).decide(request)
