"""Contacts and stock as tables of one SQLite file, shared by any number of threads and processes."""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, tzinfo
from pathlib import Path

import msgspec

from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.events import to_us
from features.log import Log, LogEvent
from serving.rules.windows import day_of
from serving.settings import Clock
from serving.state import contact_book, stock_book
from serving.state.connections import Connections, Held
from serving.state.contact_book import TIDIED_AT_ONCE, ContactBook, Remembered, claims_over, customers_over
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Level, Limits, Needs, Stock, Take
from serving.state.keeping import FULL, KEPT_US, THINNED_ABOVE, kept
from serving.state.known import Known, Row
from serving.state.outcomes import KEEPS, lapsed_claim, matters, taken_in
from serving.state.stock_book import Hold, StockBook, Total

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
WRITTEN_BACK_EVERY_S, LONG_WAL_PAGES = 1.0, 8_000
CHECKPOINT_PAGES = 64_000  # what is written back in a commit, somebody waits for: only where nobody did it before
SWEPT_AT_ONCE, SWEPT_BY_A_CLAIM = 500, 20  # holds per transaction; somebody waits for a claim
TIDIED_EVERY_US, FORGET_EVERY_US = 1_000_000, 10_000_000
TIDIED_AT_MOST, BETWEEN_S = 20, 0.005  # transactions per time, and what lies between two
NOTHING = Row()


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
        self._tidied_us = self._forgot_us = 0
        self._written_back_at = 0.0  # of the monotonic clock
        self._needs: Needs | None = None  # of the limits of the last claim
        self._tidy_from = 0
        self._remembered = Remembered()
        self._files.read("SELECT 1")  # fails here rather than in the first decision

    def histories(self, customer_ids: Sequence[str]) -> list[ContactHistory]:
        found = contact_book.load(self._files.read, self._remembered, self._files.known(), customer_ids)
        return [found[customer_id].history for customer_id in customer_ids]

    def stock(self, now_us: int) -> Stock:
        known = self._files.known()
        with suppress(StoreUnavailable):  # nobody can write: what is due counts a moment longer, and gives nothing away
            self._sweep_if_due(known, self._horizon_us(now_us))
        if not known.rows_are_new:
            known.take_changed(self._files.read(stock_book.CHANGED, (known.stock_version,)))
        return known.stock(*day_of(now_us, self._zone))

    def claim(self, claims: Sequence[Claim], limits: Limits) -> list[Sequence[Claimed]]:
        self._needs = limits.needs
        takes = {
            pick.offer_id: take
            for claim in claims
            for pick in claim.picks
            if (take := limits.take(pick.offer_id)) is not None
        }
        newest_us = max((claim.decided_us for claim in claims), default=0)
        n_more = max((len(claim.picks) for claim in claims), default=0)
        with self._files.writing() as held:
            book, customers = self._books(held)
            if takes:
                due_us = self._horizon_us(min(claim.decided_us for claim in claims))
                self._sweep(book, due_us, SWEPT_BY_A_CLAIM)
            rows = book.rows(takes) if takes else {}
            loaded = customers.load(claim.customer_id for claim in claims)
            histories = {
                one.customer_id: self._thinned_now_and_then(one.history, n_more, newest_us) for one in loaded.values()
            }
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
                        row = rows.get(pick.offer_id, NOTHING).on(day).plus(take.units, take.micros)
                        rows[pick.offer_id] = row
                        window_us = self._own_window_us(take)
                        hold = Hold(claim.decision_id, pick.offer_id, take, row.day, claim.lapses_us, window_us)
                        holds.append(hold)
            customers.write({owner: histories[owner] for _, owner, _ in decisions}, newest_us)
            customers.note(decisions)
            if holds:
                book.take(rows, holds)
        return results

    def cancel(self, decision_ids: Sequence[str]) -> None:
        with self._files.writing() as held:
            book, customers = self._books(held)
            for decision_id in decision_ids:
                book.give_back(decision_id)
            customers.cancel(decision_ids)
            held.known.moved()

    def catch_up(self, log: Log, limits: Limits | None = None) -> int:
        now_us = to_us(self._clock())  # before the log is read: what comes into it later was not there yet
        if self._scanned_generation != self._files.generation:
            generation = self._files.generation
            self._scanned = int(self._files.read(APPLIED)[0][0])
            self._scanned_generation = generation
        n_taken, at_the_end = 0, False
        while not at_the_end and n_taken < EVENTS_AT_MOST:
            events = log.events_after(self._scanned, EVENTS_AT_ONCE)
            if events:
                applied = int(self._files.read(APPLIED)[0][0])
                if new := [event for event in events if event.position > applied]:
                    n_taken += self._take_in(new, limits)
                self._scanned = max(events[-1].position, self._scanned)
            at_the_end = len(events) < EVENTS_AT_ONCE
        if at_the_end:
            self._settled_us = max(now_us, self._settled_us or 0)
            self._sweep_if_due(self._files.known_before(), self._horizon_us(now_us))
        return n_taken

    def keep_house(self, log: Log, limits: Limits | None = None) -> None:
        """Catch up; every second write back the WAL and forget what is over, some at a time."""
        self._files.replaced()
        for _ in range(CALLS_AT_MOST):
            if not self.catch_up(log, limits):
                break
        if time.monotonic() - self._written_back_at >= WRITTEN_BACK_EVERY_S:
            self._files.write_back(LONG_WAL_PAGES)
            self._written_back_at = time.monotonic()
        now_us = to_us(self._clock())
        if 0 <= now_us - self._tidied_us < TIDIED_EVERY_US:
            return
        self._tidied_us = now_us
        if now_us - self._forgot_us >= FORGET_EVERY_US or now_us < self._forgot_us:
            self._forgot_us = now_us
            self._remembered.forget()  # also those whom another process has erased
        self._tidy(now_us)

    def _tidy(self, now_us: int) -> None:
        """Forget what is over: looked for among readers, and taken away little by little, so that claims go between."""
        for _ in range(TIDIED_AT_MOST):
            over = claims_over(self._files.read, now_us)
            if over:
                with self._files.writing() as held:
                    self._books(held)[1].forget_claims(over)
            if len(over) < TIDIED_AT_ONCE:
                break
            time.sleep(BETWEEN_S)
        if self._needs is not None:
            before_us = now_us - max(self._needs.longest_us, KEPT_US)
            rows, self._tidy_from = customers_over(self._files.read, self._tidy_from, before_us)
            if rows:
                with self._customers() as customers:
                    customers.forget_customers(rows, before_us)

    def join(self, from_id: str, to_id: str) -> int:
        with self._customers() as customers:
            return customers.join(from_id, to_id)

    def erase(self, customer_id: str) -> int:
        with self._customers() as customers:
            return customers.erase(customer_id)

    def close(self) -> None:
        self._files.close()

    def _books(self, held: Held) -> tuple[StockBook, ContactBook]:
        return StockBook(held.sqlite, held.known), ContactBook(held.sqlite, self._remembered, held.known)

    @contextmanager
    def _customers(self) -> Iterator[ContactBook]:
        """A transaction on the customers' books after which the connection knows nothing by heart."""
        with self._files.writing() as held:
            try:
                yield self._books(held)[1]
            finally:
                held.known.moved()

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
        decision_id = claim.decision_id
        made = {c.offer_id for c in _decided_since(history, claim.decided_us) if c.decision_id == decision_id}
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

    def _thinned_now_and_then(self, history: ContactHistory, n_more: int, now_us: int) -> ContactHistory:
        n_contacts = len(history.contacts)
        if n_contacts <= THINNED_ABOVE or n_contacts >= FULL:
            return self._thinned(history, now_us)
        step = 1 << (n_contacts.bit_length() - 4)  # an eighth at most: who has many that count has them looked through
        return history if n_contacts // step == (n_contacts + n_more) // step else self._thinned(history, now_us)

    def _take_in(self, events: Sequence[LogEvent], limits: Limits | None) -> int:
        """One transaction for the events and the position they bring us to; how many were new to all processes."""
        with self._files.writing() as held:
            (applied,) = held.sqlite.execute(APPLIED).fetchone()
            new = [event for event in events if event.position > applied]
            if not new:
                return 0
            about = [event for event in new if matters(event)]
            book, customers = self._books(held)
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
                if event.decision_id is not None and event.event_type in KEEPS:
                    self._keep(book, event, contacts[owner], limits)
                if taken_in(contacts[owner], event, room=len(contacts[owner]) < FULL):
                    changed.add(owner)
            newest_us = max((event.received_us for event in about), default=0)
            customers.write({owner: ContactHistory(tuple(contacts[owner])) for owner in changed}, newest_us)
            held.sqlite.execute("INSERT OR REPLACE INTO applied_position VALUES (1, ?)", (new[-1].position,))
            if any(event.decision_id is not None for event in about):
                held.known.rows_are_new = held.known.due_is_known = False
        return len(new)

    def _keep(self, book: StockBook, event: LogEvent, contacts: list[Contact], limits: Limits | None) -> None:
        """What the event's decision holds of its offer; of a hold that is forgotten the customer's contact tells."""
        decision_id, offer_id, at_us = event.decision_id or "", event.offer_id or "", event.received_us
        take = limits.take(offer_id) if limits is not None else None
        total = None if limits is None else Total() if take is None else Total(take.inventory, take.budget, take.daily)
        day, is_outcome = day_of(at_us, self._zone)[0], event.event_type in self._outcomes
        if book.keep(decision_id, offer_id, is_outcome, at_us, day, total) or take is None:
            return
        claim = lapsed_claim(contacts, event)
        if claim is not None and claim.lapses_us + self._window_us <= at_us:
            book.remember(Hold(decision_id, offer_id, take, day, at_us, self._own_window_us(take)))
            book.keep(decision_id, offer_id, is_outcome, at_us, day, total)

    def _own_window_us(self, take: Take) -> int:
        """How long an acceptance of this offer is waited for."""
        if self._attribution.window_attribute is None:
            return self._window_us
        own = take.attributes.get(self._attribution.window_attribute)
        if isinstance(own, int | float) and not isinstance(own, bool) and 0 < own < MOST_DAYS:
            return self._window_of(own)
        return self._window_us

    def _window_of(self, days: float) -> int:
        at_most = self._attribution.at_most_days
        return int((days if at_most is None else min(days, at_most)) * DAY_US)

    def _horizon_us(self, now_us: int) -> int:
        """What lapsed by then has lapsed for good."""
        return now_us if self._settled_us is None else min(now_us, self._settled_us)

    def _sweep_if_due(self, known: Known, until_us: int) -> None:
        while (first := self._first_due_us(known)) is not None and first <= until_us:
            with self._files.writing() as held:
                known = held.known
                self._sweep(self._books(held)[0], until_us, SWEPT_AT_ONCE)

    def _first_due_us(self, known: Known) -> int | None:
        if not known.due_is_known:
            known.first_due_us, known.due_is_known = self._files.read(stock_book.FIRST_DUE)[0][0], True
        return known.first_due_us

    def _sweep(self, book: StockBook, until_us: int, most: int) -> None:
        first = book.first_due_us()
        if first is not None and first <= until_us:
            book.sweep(until_us, self._window_us, most)


def _prepared(db: sqlite3.Connection) -> None:
    # `keep_house` writes the WAL back while nobody waits; a commit, which syncs all of it, only if that did not keep up
    db.execute("PRAGMA secure_delete = ON")  # who is erased is not to be found in free pages
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _decided_since(history: ContactHistory, since_us: int) -> Sequence[Contact]:
    contacts = history.contacts
    if not contacts or contacts[-1].decided_us < since_us:
        return ()
    return contacts[bisect_left(history.columns.decided_us, since_us) :]


def _doubts_counted(history: ContactHistory, now_us: int, settled_us: int) -> ContactHistory:
    """Claims whose time is over, but not by the log as far as it was read, still count."""
    if settled_us >= now_us or not [one for one in history.columns.counts_until_us if settled_us < one <= now_us]:
        return history
    return ContactHistory(
        tuple(
            msgspec.structs.replace(c, lapses_us=now_us + 1)
            if c.seen_us is None and settled_us < c.lapses_us <= now_us
            else c
            for c in history.contacts
        )
    )
