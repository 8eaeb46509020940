"""Puts the service together from its settings: stores, edition, log, and the watch that swaps editions."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from experiments.assignment import Plan
from features.definitions import feature_set
from features.erasure import erasures
from features.errors import StoreUnavailable
from features.events import to_us, visitor_key
from features.facts import Facts
from features.group_commit import COMPANY_S, GroupCommit
from features.holdout import note_share
from features.live import US_PER_HOUR, StoredRow, offer_features_of
from features.log import Log
from features.online import SNAPSHOT, open_online
from features.sqlite_log import SqliteLog
from serving import arbitration, counting, drafting, reasons, rules, slate
from serving.answering import Answering
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerReader
from serving.decide import Decider
from serving.decision import DecisionRequest, PlacementRequest
from serving.edition import Edition
from serving.experimenting import Arms
from serving.inputs import KeptInputs
from serving.keys import Keys
from serving.learning.beliefs import Beliefs
from serving.learning.learner import Learner, own_windows_of
from serving.metrics import Meter
from serving.policies import policy_named
from serving.replay import Past, Replayer
from serving.settings import Clock, Settings
from serving.shadow import Shadow
from serving.snapshots import SnapshotWriter
from serving.state.contacts import Contacts
from serving.state.idempotency import Idempotency
from serving.state.sqlite_contacts import SqliteContacts
from training.scorers import Release, load_champion, load_release, read_pointer

logger = logging.getLogger(__name__)
RETRY_BROKEN_S = 2.0
SHADOW = "shadow"  # the pointer beside the champion's
STORE_WAIT_S = 5.0  # for another process's commit; a caller is told to try again rather than kept longer
LOG_WAIT_S = 2.0  # events are then answered 503, and sent again
CONTACTS_WAIT_S = 1.0  # a decision waits for no more than its deadline lets it; the reservation is then given up
SWITCH_S = 0.0005  # a thread that has read for a decision waits for Python's lock no longer than this, not 5 ms
YOUNG_BEFORE_OLD = 1_000  # what was kept of many customers takes 0.1 s to look through, longer than an answer may wait
MADE_BETWEEN_COLLECTIONS = 10_000  # objects more than were dropped: many decisions' worth, where 700 is less than one's
QUICK_S = 0.1  # a catalogue whose edition takes longer is not prepared anew within the request that changed it


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

    champion: bytes | None  # champion.json as it stands
    shadow: bytes | None
    catalogue: int
    snapshot: str | None
    hour: int  # ages of offers' features move on
    erasures: int  # what is kept in memory of customers is dropped with each


class Service:
    """Everything one worker holds. `start` before use, `close` at the end."""

    def __init__(self, settings: Settings, *, alone: bool = False) -> None:
        """`alone`: this process does nothing else, so that its garbage may be collected as suits deciding."""
        self.settings, self._alone = settings, alone
        self.clock: Clock = settings.clock()
        self.facts = Facts(settings.home.facts_db, STORE_WAIT_S)
        # Read while deciding: they must not wait for another thread's commit, nor for each other.
        self.profiles, self.identities = (Facts(settings.home.facts_db, STORE_WAIT_S) for _ in range(2))
        self.keys = Keys(settings.home.facts_db)
        self.currency = self.facts.data_settings().currency
        self.log_store: Log = SqliteLog(settings.home.log_db, LOG_WAIT_S)
        self.log = GroupCommit(self.log_store, company_s=0.0 if settings.durable_decisions else COMPANY_S)
        self.idempotency = Idempotency(settings.home.state_db, self.clock)
        self.broken: str | None = None  # why the newest release is not served
        self.unread: str | None = None  # why offers are without their stored features
        self._seen: Seen | None = None
        self.missing: str | None = None  # which release of an experiment is not served
        self._release: Release | None = None
        self._others: dict[str, Release] = {}  # of experiments, by number
        self._holdout_phase = 1
        self._shadow_release: Release | None = None
        self._prepared_in_s = 0.0
        self._retry_at = 0.0  # of the monotonic clock: when a broken champion is tried again
        self._stop = threading.Event()
        self._refreshing = threading.Lock()
        self._watch = threading.Thread(target=self._run, name="edition-watch", daemon=True)
        attribution = self.facts.data_settings().attribution
        self.contacts: Contacts = SqliteContacts(
            settings.home.contacts_db,
            self.clock,
            time_zone=ZoneInfo(settings.time_zone),
            attribution=attribution,
            wait_s=CONTACTS_WAIT_S,
        )
        self.learner = Learner(
            self.log_store,
            settings.home.learning_db,
            prior_strength=settings.prior_strength,
            attribution=attribution,
            own_windows=lambda: own_windows_of(self.facts.catalogue().offers, attribution),
        )
        self.meter = Meter()
        self.shadow = Shadow(self.log_store, settings.shadow_share, self.meter)
        self.inputs = KeptInputs(settings.home.state_db, self.clock)
        self.replayer = Replayer(self._past())
        self._measured: SnapshotWriter | None = None
        self.decider: Decider
        self.answering: Answering

    def start(self) -> None:
        self.learner.start()
        rules.warm()
        slate.warm()
        arbitration.warm()
        drafting.warm()
        reasons.warm()
        counting.warm()
        self._holdout_phase = note_share(self.facts, self.settings.holdout, self.clock())
        first = self._next_edition(self._look())
        self._prepared_in_s = 0.0  # that one also loaded compiled code, and says nothing about the next
        self.decider = Decider(
            first, self.settings, self.clock, self.currency, self.contacts, self.log_store, self.meter, self.shadow
        )
        self.answering = Answering(self.decider)
        self._watch.start()
        if self.settings.metrics_folder is not None:
            self._measured = SnapshotWriter(self.settings.metrics_folder, self)
            self._measured.start()
        if self._alone:
            _collect_less()
            sys.setswitchinterval(SWITCH_S)

    def close(self) -> None:
        self._stop.set()
        if self._watch.is_alive():
            self._watch.join()
            self.answering.close()
        if self._measured is not None:
            self._measured.close()
        self.shadow.close()
        self.learner.close()
        self.contacts.close()
        self.log.close()
        self.log_store.close()
        self.idempotency.close()
        self.inputs.close()
        self.keys.close()
        self.profiles.close()
        self.identities.close()
        self.facts.close()

    def refresh(self) -> None:
        """Swap in a new edition if anything changed."""
        with self._refreshing:
            seen = self._look()
            lacking = self.broken or self.unread or self.missing
            if seen != self._seen or (lacking and time.monotonic() >= self._retry_at):
                self.decider.edition = self._next_edition(seen)

    def catalogue_changed(self) -> None:
        """The door changed the catalogue: take it in before answering if that is quick; else the watch does."""
        if self._prepared_in_s < QUICK_S:
            self._look_again()

    def readiness(self) -> list[Check]:
        """Each dependency, and whether an answer is possible without it."""
        edition = self.decider.edition
        delayed_s, behind_s = self.log.delayed_s, self.learner.delay_s
        stuck = {lane.name: lane.stuck_s for lane in self.answering.lanes if lane.is_stuck}
        return [
            Check("catalogue", True, f"version {edition.view.version}, {len(edition.view)} offers", needed=True),
            Check("log", delayed_s == 0, f"decisions wait {delayed_s:.1f} s" if delayed_s else "writing"),
            Check(
                "stores",
                not stuck,
                ", ".join(f"{name} has not answered for {s:.1f} s" for name, s in stuck.items()) or "answering",
            ),
            Check("learning", behind_s == 0, f"{behind_s:.1f} s behind the log" if behind_s else "as new as the log"),
            Check(
                "features",
                edition.customers.has_store and self.unread is None,
                self.unread or ("is open" if edition.customers.has_store else "run `nbo features materialize`"),
            ),
            Check(
                "release",
                edition.release is not None and self.broken is None,
                self.broken or (f"release {edition.versions['release']}" if edition.release else "none is promoted"),
            ),
            Check("experiments", self.missing is None, self.missing or "every release of theirs is loaded"),
        ]

    def _next_edition(self, seen: Seen) -> Edition:
        """The champion with the live catalogue. A champion that is broken, in whatever way, is refused and the release
        before it goes on, or none at the start: a service that answers beats none. The catalogue is always the newest.
        """
        try:
            release = self._champion(seen)
            edition = self._tried(release)
            self.broken = None
        except Exception as error:
            if self.broken is None:
                logger.exception("the champion is refused")
            self.broken = f"the champion is refused: {error}"
            self._retry_at = time.monotonic() + RETRY_BROKEN_S
            release = self._release
            edition = self._tried(release)
        self._release, self._seen = release, seen
        logger.info("serving release %s, catalogue %s", edition.versions["release"], edition.view.version)
        return edition

    def _champion(self, seen: Seen) -> Release | None:
        """The release in service if it is still the champion, else the new one, loaded beside it."""
        if self._seen is not None and seen.champion == self._seen.champion and self.broken is None:
            return self._release
        return load_champion(self.settings.home.releases)

    def _tried(self, release: Release | None) -> Edition:
        """An edition that has made one decision for somebody unknown in every placement."""
        began = time.monotonic()
        edition = self._prepare(release)
        asked = tuple(PlacementRequest(name, 1) for name in edition.view.placements)
        request = DecisionRequest(customer_id=visitor_key(None, "self-test"), placements=asked, dry_run=True)
        Decider(edition, self.settings, self.clock, self.currency).decide(request)
        self._prepared_in_s = time.monotonic() - began
        return edition

    def _run(self) -> None:
        while not self._stop.wait(self.settings.refresh_s):
            self._look_again()
            self._keep_house()

    def _keep_house(self) -> None:
        try:
            self.contacts.keep_house(self.log_store, self.decider.edition.limits)
        except StoreUnavailable as error:
            logger.warning("contacts could not be kept up: %s", error)

    def _look_again(self) -> None:
        try:
            self.refresh()
        except Exception:  # a store that does not answer now is asked again; the old edition goes on
            logger.exception("looking for changes failed")

    def _look(self) -> Seen:
        champion, shadow = (_contents(self.settings.home.releases / f"{alias}.json") for alias in ("champion", SHADOW))
        hour, catalogue = to_us(self.clock()) // US_PER_HOUR, self.facts.catalogue_version()
        return Seen(champion, shadow, catalogue, self.facts.meta(SNAPSHOT), hour, erasures(self.facts))

    def _prepare(self, release: Release | None) -> Edition:
        customers = self._customers()
        before = self.decider.edition if self._seen is not None else None
        view = CatalogueView(self.facts.catalogue(), customers.feature_set, before.view if before is not None else None)
        stored = self._stored_offers(customers)
        # The hour, not the instant: workers that prepare at different moments must score alike, and replay again.
        now_us = to_us(self.clock()) // US_PER_HOUR * US_PER_HOUR
        offers: Mapping[str, Mapping[str, Any]] = {
            offer_id: offer_features_of(customers.feature_set, row, now_us) for offer_id, row in stored.items()
        }
        readable = customers.online is not None and self.unread is None
        snapshot = customers.online.snapshot if customers.online is not None and readable else "none"
        inputs = self.inputs.keep(self.settings, customers.feature_set, snapshot, stored)
        made = partial(Edition, view, customers)
        rest = offers, now_us, self.learner.beliefs, inputs
        edition = made(release, *rest, before)
        edition.shadow = self._shadow_beside(edition, lambda release: made(release, *rest))
        edition.arms = self._arms(edition, lambda number: made(self._other(number), *rest, _before(before, number)))
        return edition

    def _shadow_beside(self, edition: Edition, made: Callable[[Release], Edition]) -> Edition | None:
        """The release that is scored and never shown. One that cannot be loaded is done without, until it changes."""
        try:
            pointer = read_pointer(self.settings.home.releases, SHADOW)
            if pointer is None or pointer.release == edition.release_number:
                self._shadow_release = None
                return None
            if self._shadow_release is None or self._shadow_release.number != pointer.release:
                self._shadow_release = load_release(self.settings.home.releases / pointer.release, pointer.sha256)
            return made(self._shadow_release)
        except Exception as error:
            logger.warning("there is no shadow: %s", error)
            return None

    def _arms(self, edition: Edition, made: Callable[[str], Edition]) -> Arms:
        """The ways of deciding that experiments ask for. A release that cannot be loaded is tried again later."""
        share = self.settings.holdout
        plan = Plan(edition.view.experiments, share, self._holdout_phase)
        others, self.missing = {}, None
        for number in sorted(plan.releases - {edition.release_number}):
            try:
                others[number] = made(number)
            except Exception as error:
                logger.warning("the release %s of an experiment: %s", number, error)
                self.missing = f"the release {number} of an experiment cannot be loaded: {error}"
                self._retry_at = time.monotonic() + RETRY_BROKEN_S
        self._others = {number: release for number, release in self._others.items() if number in plan.releases}
        return Arms(edition, self.settings, plan, others)

    def _other(self, number: str) -> Release:
        """A release beside the champion, loaded once for as long as an experiment names it."""
        if number not in self._others:
            self._others[number] = load_release(self.settings.home.releases / number)
        return self._others[number]

    def _stored_offers(self, customers: CustomerReader) -> Mapping[str, StoredRow]:
        """The stored part of the offers' features. A file that cannot be read leaves them at their defaults for now."""
        self.unread = None
        if customers.online is None:
            return {}
        try:
            return customers.online.offers()
        except StoreUnavailable as error:
            logger.warning("offers' features: %s", error)
            self.unread = str(error)
            self._retry_at = time.monotonic() + RETRY_BROKEN_S
            return {}

    def _past(self) -> Past:
        def beliefs_at(strength: float, position: int, view: CatalogueView, release: str, segment: str) -> Beliefs:
            then = Learner(self.log_store, self.settings.home.learning_db, prior_strength=strength)
            return then.beliefs_at(position, view, release, segment)

        return Past(
            self.settings, self.clock, self.log_store.decision, self.facts.catalogue_at, self.inputs, beliefs_at
        )

    def _customers(self) -> CustomerReader:
        online = open_online(self.settings.home, self.facts)
        stores, any_erased = (self.profiles, self.identities, self.log_store), erasures(self.facts) > 0
        if online is None or online.snapshot is None:
            declared = feature_set(currency=self.currency)
            return CustomerReader(*stores, declared, None, 0, 0, any_erased)
        at, position = online.snapshot.as_of_us, online.snapshot.log_position
        return CustomerReader(*stores, online.feature_set, online, at, position, any_erased)


def _contents(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _before(edition: Edition | None, number: str) -> Edition | None:
    """What the edition of another release goes on from."""
    return edition.arms.others.get(number) if edition is not None and edition.arms is not None else None


def build(settings: Settings, *, alone: bool = False) -> Service:
    """A service that has not started yet; `BadSettings` for a policy that does not exist."""
    policy_named(settings.policy)
    return Service(settings, alone=alone)


def _collect_less() -> None:
    """What is loaded by now stays, so it is not looked through again; and what deciding makes is rarely in cycles.

    Measured: of a decision's time, collecting took a thirtieth before and a four-hundredth after.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MADE_BETWEEN_COLLECTIONS, gc.get_threshold()[1], YOUNG_BEFORE_OLD)
