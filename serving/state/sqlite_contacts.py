"""Contacts and stock as tables of one SQLite file, shared by any number of threads and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, tzinfo
from pathlib import Path
from typing import NamedTuple

import msgspec

from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.events import to_us
from features.log import Log, LogEvent
from serving.rules.windows import day_of
from serving.settings import Clock
from serving.state import contact_book, stock_book
from serving.state.connections import Connections
from serving.state.contact_book import ContactBook, Remembered
from serving.state.contacts import Claim, Claimed, ContactHistory, Level, Limits, Needs, Stock, Take
from serving.state.keeping import FULL, KEPT_US, kept
from serving.state.outcomes import KEEPS, matters, taken_in
from serving.state.stock_book import Hold, Row, StockBook

SCHEMA = (
    contact_book.SCHEMA
    + stock_book.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS applied_position (
    only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL
) STRICT;
"""
)
APPLIED = "SELECT coalesce(max(position), 0) FROM applied_position"
WAIT_S = 1.0
DAY_US, MOST_DAYS = 86_400_000_000, 36_500
CLAIM_KEPT_US = 3_600_000_000  # after it lapsed; later events are their own customer's
EVENTS_AT_ONCE, EVENTS_AT_MOST = 200, 2_000  # per transaction, so that claims need not wait, and per call
CALLS_AT_MOST = 5  # one after the other: whoever keeps house has other things to do
POSITIONS_UNSAVED = 10_000  # decisions are passed over without a write, up to so many
CHECKPOINT_PAGES = 4_000
SWEPT_AT_ONCE, SWEPT_BY_A_CLAIM = 500, 20  # holds per transaction; somebody waits for a claim
TIDIED_EVERY_US = 10_000_000
TIDIED_AT_MOST = 20  # transactions per time


class _Seen(NamedTuple):
    """The stock as last read."""

    generation: int
    version: int
    rows: Mapping[str, Row]
    stock: Stock


class SqliteContacts:
    """The state of caps, inventory and budgets. Many processes may share the file.

    What lapsed is given back only once the log was read past that moment, so that an impression that was logged in
    time always keeps its claim. A process that never calls `catch_up` goes by the time alone.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        time_zone: tzinfo = UTC,
        attribution: Attribution | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        """`time_zone` is the deployment's; attribution says what an acceptance is and how long it is waited for."""
        attribution = attribution or Attribution()
        self._clock, self._zone = clock, time_zone
        self._outcomes = frozenset(attribution.outcomes)
        self._attribution = attribution
        self._window_us = self._window_of(attribution.window_days)
        self._files = Connections(path, SCHEMA, wait_s, _prepared)
        self._settled_us: int | None = None  # the log was read by this process up to then
        self._scanned = 0  # position up to which the log holds nothing that is not applied
        self._scanned_generation = -1
        self._tidied_us = 0
        self._needs: Needs | None = None  # of the limits of the last claim
        self._tidy_from = 0
        self._remembered = Remembered()
        self._stock: _Seen | None = None
        self._files.read("SELECT 1")  # fails here rather than in the first decision

    def histories(self, customer_ids: Sequence[str]) -> list[ContactHistory]:
        found = contact_book.load(self._files.read, self._remembered, customer_ids)
        return [found[customer_id].history for customer_id in customer_ids]

    def stock(self, now_us: int) -> Stock:
        day, from_us, until_us = day_of(now_us, self._zone)
        with suppress(StoreUnavailable):  # nobody can write: what is due counts a moment longer, and gives nothing away
            self._sweep_if_due(self._horizon_us(now_us))
        seen, generation = self._stock, self._files.generation
        if seen is None or seen.generation != generation:
            seen = _Seen(generation, 0, {}, Stock({}, day, from_us, until_us))
        changed = self._files.read(stock_book.CHANGED, (seen.version,))
        if not changed and seen.stock.day == day:
            self._stock = seen
            return seen.stock
        rows = {**seen.rows, **{offer_id: Row(*rest) for _, offer_id, *rest in changed}}
        if seen.stock.day == day:
            levels = {**seen.stock.levels, **{one[1]: Row(*one[2:]).on(day).level() for one in changed}}
        else:
            levels = {offer_id: row.on(day).level() for offer_id, row in rows.items()}
        version = max((one[0] for one in changed), default=seen.version)
        self._stock = _Seen(generation, version, rows, Stock(levels, day, from_us, until_us))
        return self._stock.stock

    def claim(self, claims: Sequence[Claim], limits: Limits) -> list[Sequence[Claimed]]:
        self._needs = limits.needs
        takes = {
            pick.offer_id: take
            for claim in claims
            for pick in claim.picks
            if (take := limits.take(pick.offer_id)) is not None
        }
        newest_us = max((claim.decided_us for claim in claims), default=0)
        with self._files.transaction() as db:
            book, customers = StockBook(db), ContactBook(db, self._remembered)
            if takes:
                due_us = self._horizon_us(min(claim.decided_us for claim in claims))
                self._sweep(db, book, due_us, SWEPT_BY_A_CLAIM)
            rows = book.rows(takes)
            loaded = customers.load(claim.customer_id for claim in claims)
            histories = {one.customer_id: self._thinned(one.history, newest_us) for one in loaded.values()}
            results: list[Sequence[Claimed]] = []
            decisions: list[tuple[str, str, int]] = []
            holds: list[Hold] = []
            for claim in claims:
                owner = loaded[claim.customer_id].customer_id
                lost, made = self._judged(claim, limits, histories[owner], rows, takes)
                results.append(lost)
                if lost or not made:
                    continue
                histories[owner] = contact_book.claimed(histories[owner], claim, made)
                decisions.append((claim.decision_id, owner, claim.lapses_us + CLAIM_KEPT_US))
                day = day_of(claim.decided_us, self._zone)[0]
                for pick in made:
                    if (take := takes.get(pick.offer_id)) is not None:
                        row = rows[pick.offer_id] = rows.get(pick.offer_id, Row()).on(day).with_one(take)
                        hold = Hold(claim.decision_id, pick.offer_id, take, row.day, claim.lapses_us)
                        holds.append(hold._replace(window_us=self._own_window_us(take)))
            customers.write({owner: histories[owner] for _, owner, _ in decisions}, newest_us)
            customers.note(decisions)
            if holds:
                book.take(rows, {hold.offer_id: hold.take for hold in holds})
                book.hold(holds)
        return results

    def cancel(self, decision_ids: Sequence[str]) -> None:
        with self._files.transaction() as db:
            book = StockBook(db)
            for decision_id in decision_ids:
                book.give_back(decision_id)
            ContactBook(db, self._remembered).cancel(decision_ids)

    def catch_up(self, log: Log) -> int:
        now_us = to_us(self._clock())  # before the log is read: what comes into it later was not there yet
        self._files.replaced()
        if self._scanned_generation != self._files.generation:
            self._scanned, self._scanned_generation = 0, self._files.generation
        n_taken, last = 0, log.last_position()
        while last > self._scanned and n_taken < EVENTS_AT_MOST:
            applied = int(self._files.read(APPLIED)[0][0])
            after = max(applied, self._scanned)
            events = log.events_after(after, EVENTS_AT_ONCE)
            if events:
                n_taken += self._take_in(events)
                self._scanned = max(events[-1].position, self._scanned)
            if len(events) < EVENTS_AT_ONCE:
                self._scanned = max(last, self._scanned)
                if self._scanned - applied > POSITIONS_UNSAVED:
                    self._take_in([], self._scanned)
        if last <= self._scanned:
            self._settled_us = max(now_us, self._settled_us or 0)
            self._sweep_if_due(self._horizon_us(now_us))
        return n_taken

    def keep_house(self, log: Log) -> None:
        """Catch up; now and then forget what is over, some at a time, and write back the WAL."""
        for _ in range(CALLS_AT_MOST):
            if not self.catch_up(log):
                break
        now_us = to_us(self._clock())
        if 0 <= now_us - self._tidied_us < TIDIED_EVERY_US:
            return
        self._tidied_us = now_us
        self._remembered.forget()  # also those whom another process has erased
        claims = ""
        for _ in range(TIDIED_AT_MOST):  # decision ids sort by time, so the oldest come first
            with self._files.transaction() as db:
                claims = ContactBook(db, self._remembered).forget_claims(now_us, claims)
            if not claims:
                break
        if self._needs is not None:
            before_us = now_us - max(self._needs.longest_us, KEPT_US)
            with self._files.transaction() as db:
                self._tidy_from = ContactBook(db, self._remembered).forget_customers(before_us, self._tidy_from)
        self._files.read("PRAGMA wal_checkpoint(PASSIVE)")

    def join(self, from_id: str, to_id: str) -> int:
        with self._files.transaction() as db:
            return ContactBook(db, self._remembered).join(from_id, to_id)

    def erase(self, customer_id: str) -> int:
        with self._files.transaction() as db:
            return ContactBook(db, self._remembered).erase(customer_id)

    def close(self) -> None:
        self._files.close()

    def _judged(
        self,
        claim: Claim,
        limits: Limits,
        history: ContactHistory,
        rows: Mapping[str, Row],
        takes: Mapping[str, Take],
    ) -> tuple[Sequence[Claimed], Sequence[Claimed]]:
        """The picks that are lost, and those that are still to be written."""
        if len(history.contacts) >= FULL:
            return claim.picks, ()
        made = {c.offer_id for c in history.contacts if c.decision_id == claim.decision_id}
        if made and made.issuperset(pick.offer_id for pick in claim.picks):
            return (), ()  # asked again after an answer that got lost
        day, from_us, until_us = day_of(claim.decided_us, self._zone)
        levels: dict[str, Level] = {
            pick.offer_id: rows[pick.offer_id].on(day).level()
            for pick in claim.picks
            if pick.offer_id in takes and pick.offer_id in rows
        }
        counted = _doubts_counted(history, claim.decided_us, self._horizon_us(claim.decided_us))
        return limits.broken(claim, counted, Stock(levels, day, from_us, until_us)), claim.picks

    def _thinned(self, history: ContactHistory, now_us: int) -> ContactHistory:
        if self._needs is None:
            return history
        contacts = kept(history.contacts, self._needs, now_us, self._horizon_us(now_us))
        return history if contacts is history.contacts else ContactHistory(tuple(contacts))

    def _take_in(self, events: Sequence[LogEvent], position: int = 0) -> int:
        """One transaction for the events and the position they bring us to; how many were new to all processes."""
        with self._files.transaction() as db:
            (applied,) = db.execute(APPLIED).fetchone()
            new = [event for event in events if event.position > applied]
            if events and not new:
                return 0
            about = [event for event in new if matters(event)]
            book, customers = StockBook(db), ContactBook(db, self._remembered)
            owners = customers.owners({event.decision_id for event in about if event.decision_id is not None})
            people = [owners.get(event.decision_id or "", event.customer_id) for event in about]
            loaded = customers.load(people)
            contacts = {one.customer_id: list(one.history.contacts) for one in loaded.values()}
            changed: set[str] = set()
            for event, person in zip(about, people, strict=True):
                owner = loaded[person].customer_id
                if len(contacts[owner]) >= FULL:
                    contacts[owner] = list(
                        self._thinned(ContactHistory(tuple(contacts[owner])), event.received_us).contacts
                    )
                if taken_in(contacts[owner], event, room=len(contacts[owner]) < FULL):
                    changed.add(owner)
                if event.decision_id is not None and event.event_type in KEEPS:
                    self._keep(book, event)
            newest_us = max((event.received_us for event in about), default=0)
            customers.write({owner: ContactHistory(tuple(contacts[owner])) for owner in changed}, newest_us)
            reached = max(position, applied, new[-1].position if new else 0)
            db.execute("INSERT OR REPLACE INTO applied_position VALUES (1, ?)", (reached,))
        return len(new)

    def _keep(self, book: StockBook, event: LogEvent) -> None:
        book.keep(
            event.decision_id or "",
            event.offer_id or "",
            event.event_type in self._outcomes,
            event.received_us,
            day_of(event.received_us, self._zone)[0],
        )

    def _own_window_us(self, take: Take) -> int:
        """How long an acceptance of this offer is waited for."""
        own = take.attributes.get(self._attribution.window_attribute or "")
        if isinstance(own, int | float) and not isinstance(own, bool) and 0 < own < MOST_DAYS:
            return self._window_of(own)
        return self._window_us

    def _window_of(self, days: float) -> int:
        at_most = self._attribution.at_most_days
        return int((days if at_most is None else min(days, at_most)) * DAY_US)

    def _horizon_us(self, now_us: int) -> int:
        """What lapsed by then has lapsed for good."""
        return now_us if self._settled_us is None else min(now_us, self._settled_us)

    def _sweep_if_due(self, until_us: int) -> None:
        while (first := self._files.read(stock_book.FIRST_DUE)[0][0]) is not None and first <= until_us:
            with self._files.transaction() as db:
                self._sweep(db, StockBook(db), until_us, SWEPT_AT_ONCE)

    def _sweep(self, db: sqlite3.Connection, book: StockBook, until_us: int, most: int) -> None:
        first = db.execute(stock_book.FIRST_DUE).fetchone()[0]
        if first is not None and first <= until_us:
            book.sweep(until_us, self._window_us, most)


def _prepared(db: sqlite3.Connection) -> None:
    # `keep_house` writes the WAL back while nobody waits; a commit does so only when that did not keep up
    db.execute("PRAGMA secure_delete = ON")  # who is erased is not to be found in free pages
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _doubts_counted(history: ContactHistory, now_us: int, settled_us: int) -> ContactHistory:
    """Claims whose time is over, but not by the log as far as it was read, still count."""
    if settled_us >= now_us or not any(
        c.seen_us is None and settled_us < c.lapses_us <= now_us for c in history.contacts
    ):
        return history
    return ContactHistory(
        tuple(
            msgspec.structs.replace(c, lapses_us=now_us + 1)
            if c.seen_us is None and settled_us < c.lapses_us <= now_us
            else c
            for c in history.contacts
        )
    )
