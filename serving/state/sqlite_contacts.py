"""Contacts and stock as tables of one SQLite file, shared by any number of threads and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, tzinfo
from heapq import merge
from pathlib import Path
from typing import NamedTuple

import msgspec

from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.events import to_us
from features.log import Log, LogEvent
from serving.rules.windows import day_of
from serving.settings import Clock
from serving.state import stock_book
from serving.state.connections import Connections
from serving.state.contacts import Claim, Claimed, Contact, ContactHistory, Level, Limits, Stock, Take
from serving.state.keeping import FULL, KEPT_US, kept
from serving.state.outcomes import DECIDED, KEEPS, matters, taken_in
from serving.state.stock_book import Row, StockBook

SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS contacts (
    customer_id TEXT PRIMARY KEY, history BLOB NOT NULL, joined_to TEXT, newest_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS contacts_joined ON contacts (joined_to) WHERE joined_to IS NOT NULL;
CREATE TABLE IF NOT EXISTS claims (
    decision_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied_position (
    only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL
) STRICT;
"""
    + stock_book.SCHEMA
)
WAIT_S = 1.0
DAY_US = 86_400_000_000
CLAIM_KEPT_US = 3_600_000_000  # after it lapsed; later events are their own customer's
EVENTS_AT_ONCE, EVENTS_AT_MOST = 200, 2_000  # per transaction, so that claims need not wait, and per call
POSITIONS_UNSAVED = 10_000  # decisions are passed over without a write, up to so many
CHECKPOINT_PAGES = 4_000
TIDIED_EVERY_US = 10_000_000
TIDIED_AT_ONCE, TIDIED_AT_MOST = 2_000, 20  # rows per transaction, transactions per time
REMEMBERED = 10_000  # customers whose decoded history is kept beside its bytes
WRITE_HISTORY = """
INSERT INTO contacts VALUES (?, ?, NULL, ?)
ON CONFLICT (customer_id) DO UPDATE SET history = excluded.history, newest_us = excluded.newest_us
"""
FROM_CONTACTS = "SELECT customer_id, history, joined_to FROM contacts WHERE customer_id IN"
JOINED_TO = """
WITH RECURSIVE them (id) AS (VALUES (?) UNION SELECT customer_id FROM contacts JOIN them ON joined_to = them.id)
SELECT id FROM them
"""
EMPTY = ContactHistory()
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(tuple[Contact, ...]).decode


class _Loaded(NamedTuple):
    """Where a customer's contacts are kept, and what they are."""

    customer_id: str  # of whom they are: another one's if the two were joined
    history: ContactHistory


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
        days = attribution.window_days
        self._window_us = int(
            (days if attribution.at_most_days is None else min(days, attribution.at_most_days)) * DAY_US
        )
        self._files = Connections(path, SCHEMA, wait_s, _prepared)
        self._settled_us: int | None = None  # the log was read by this process up to then
        self._scanned = 0  # position up to which the log holds nothing that is not applied
        self._scanned_generation = -1
        self._tidied_us = 0
        self._longest_us: int | None = None  # the longest window of the limits, once a claim named them
        self._tidy_from = 0
        self._remembered: dict[str, tuple[bytes, ContactHistory]] = {}
        self._stock: _Seen | None = None
        self._files.read("SELECT 1")  # fails here rather than in the first decision

    def histories(self, customer_ids: Sequence[str]) -> list[ContactHistory]:
        found = self._load(None, customer_ids)
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
        self._longest_us = max(limits.needs.longest_us, KEPT_US)
        takes = {
            pick.offer_id: take
            for claim in claims
            for pick in claim.picks
            if (take := limits.take(pick.offer_id)) is not None
        }
        with self._files.transaction() as db:
            book = StockBook(db)
            if takes:
                self._sweep(db, book, self._horizon_us(min(claim.decided_us for claim in claims)))
            rows = book.rows(takes)
            loaded = self._load(db, [claim.customer_id for claim in claims])
            histories = {
                one.customer_id: self._thinned(one.history, limits, max(claim.decided_us for claim in claims))
                for one in loaded.values()
            }
            results: list[Sequence[Claimed]] = []
            noted: list[tuple[str, str, int]] = []
            holds: list[tuple[str, str, Take, str, int]] = []
            taken: dict[str, Take] = {}
            changed: dict[str, int] = {}
            for claim in claims:
                owner = loaded[claim.customer_id].customer_id
                lost, made = self._judged(claim, limits, histories[owner], rows, takes)
                results.append(lost)
                if lost or not made:
                    continue
                histories[owner] = _with(histories[owner], claim, made)
                changed[owner] = max(changed.get(owner, 0), claim.decided_us)
                noted.append((claim.decision_id, owner, claim.lapses_us + CLAIM_KEPT_US))
                day = day_of(claim.decided_us, self._zone)[0]
                for pick in made:
                    if (take := takes.get(pick.offer_id)) is not None:
                        row = rows[pick.offer_id] = rows.get(pick.offer_id, Row()).on(day).with_one(take)
                        taken[pick.offer_id] = take
                        holds.append((claim.decision_id, pick.offer_id, take, row.day, claim.lapses_us))
            self._write(db, {owner: (histories[owner], at_us) for owner, at_us in changed.items()})
            db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", noted)
            if taken:
                book.take(rows, taken)
                book.hold(holds)
        return results

    def cancel(self, decision_ids: Sequence[str]) -> None:
        with self._files.transaction() as db:
            book = StockBook(db)
            owners = _owners(db, decision_ids)
            loaded = self._load(db, list(owners.values()))
            for decision_id in decision_ids:
                book.give_back(decision_id)
                if (customer_id := owners.get(decision_id)) is not None:
                    owner, history = loaded[customer_id]
                    left = tuple(c for c in history.contacts if c.decision_id != decision_id or c.seen_us is not None)
                    loaded = {
                        name: _Loaded(owner, ContactHistory(left)) if one.customer_id == owner else one
                        for name, one in loaded.items()
                    }
            self._write(db, {one.customer_id: (one.history, _newest_us(one.history)) for one in loaded.values()})
            db.executemany("DELETE FROM claims WHERE decision_id = ?", [(one,) for one in decision_ids])

    def catch_up(self, log: Log) -> int:
        now_us = to_us(self._clock())  # before the log is read: what comes into it later was not there yet
        self._files.replaced()
        if self._scanned_generation != self._files.generation:
            self._scanned, self._scanned_generation = 0, self._files.generation
        n_taken, last = 0, log.last_position()
        while last > self._scanned and n_taken < EVENTS_AT_MOST:
            applied = self._position()
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
        """Catch up altogether; now and then forget what is over, some at a time, and write back the WAL."""
        while self.catch_up(log):
            pass
        now_us = to_us(self._clock())
        if 0 <= now_us - self._tidied_us < TIDIED_EVERY_US:
            return
        self._tidied_us = now_us
        self._remembered = {}  # also of those whom another process has erased
        claims = ""
        for _ in range(TIDIED_AT_MOST):  # decision ids sort by time, so the oldest come first
            claims = self._forget_claims(now_us, claims)
            if not claims:
                break
        if self._longest_us is not None:
            self._tidy_from = self._forget_customers(now_us - self._longest_us, self._tidy_from)
        self._files.read("PRAGMA wal_checkpoint(PASSIVE)")

    def join(self, from_id: str, to_id: str) -> int:
        with self._files.transaction() as db:
            loaded = self._load(db, [from_id, to_id])
            moved, kept_by = loaded[from_id], loaded[to_id]
            if moved.customer_id == kept_by.customer_id:
                return 0
            together = ContactHistory(tuple(merge(moved.history.contacts, kept_by.history.contacts, key=DECIDED)))
            self._write(
                db,
                {moved.customer_id: (EMPTY, 0), kept_by.customer_id: (together, _newest_us(together))},
            )
            joined = "UPDATE contacts SET joined_to = ? WHERE customer_id = ?"
            db.execute(joined, (kept_by.customer_id, moved.customer_id))
            return len(moved.history.contacts)

    def erase(self, customer_id: str) -> int:
        with self._files.transaction() as db:
            db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
            one = self._load(db, [customer_id])[customer_id]
            for name in [name for (name,) in db.execute(JOINED_TO, (customer_id,)).fetchall()]:
                db.execute("DELETE FROM contacts WHERE customer_id = ?", (name,))
                db.execute("DELETE FROM claims WHERE customer_id = ?", (name,))
                self._remembered.pop(name, None)
            return len(one.history.contacts) if one.customer_id == customer_id else 0

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

    def _thinned(self, history: ContactHistory, limits: Limits, now_us: int) -> ContactHistory:
        contacts = kept(history.contacts, limits.needs, now_us, self._horizon_us(now_us))
        return history if contacts is history.contacts else ContactHistory(tuple(contacts))

    def _take_in(self, events: Sequence[LogEvent], position: int = 0) -> int:
        """One transaction for the events and the position they bring us to; how many were new to all processes."""
        with self._files.transaction() as db:
            applied = _applied(db)
            new = [event for event in events if event.position > applied]
            if events and not new:
                return 0
            about = [event for event in new if matters(event)]
            owners = _owners(db, {event.decision_id for event in about if event.decision_id is not None})
            people = [owners.get(event.decision_id or "", event.customer_id) for event in about]
            loaded = self._load(db, people)
            contacts = {one.customer_id: list(one.history.contacts) for one in loaded.values()}
            changed: dict[str, int] = {}
            book = StockBook(db)
            for event, person in zip(about, people, strict=True):
                owner = loaded[person].customer_id
                if len(contacts[owner]) < FULL and taken_in(contacts[owner], event):
                    changed[owner] = max(changed.get(owner, 0), event.received_us)
                if event.decision_id is not None and event.event_type in KEEPS:
                    self._keep(book, event)
            self._write(db, {one: (ContactHistory(tuple(contacts[one])), at_us) for one, at_us in changed.items()})
            reached = max(position, new[-1].position if new else 0)
            db.execute("INSERT OR REPLACE INTO applied_position VALUES (1, ?)", (max(reached, applied),))
        return len(new)

    def _keep(self, book: StockBook, event: LogEvent) -> None:
        book.keep(
            event.decision_id or "",
            event.offer_id or "",
            event.event_type in self._outcomes,
            event.received_us,
            day_of(event.received_us, self._zone)[0],
            self._window_us,
        )

    def _horizon_us(self, now_us: int) -> int:
        """What lapsed by then has lapsed for good."""
        return now_us if self._settled_us is None else min(now_us, self._settled_us)

    def _sweep_if_due(self, until_us: int) -> None:
        while (first := self._files.read(stock_book.FIRST_DUE)[0][0]) is not None and first <= until_us:
            with self._files.transaction() as db:
                self._sweep(db, StockBook(db), until_us)

    def _sweep(self, db: sqlite3.Connection, book: StockBook, until_us: int) -> None:
        first = db.execute(stock_book.FIRST_DUE).fetchone()[0]
        if first is not None and first <= until_us:
            book.sweep(until_us, self._window_us)

    def _forget_claims(self, now_us: int, after: str) -> str:
        """Of the next claims those that are over, in a short transaction; from where to go on, "" at the end."""
        with self._files.transaction() as db:
            claims = db.execute(
                "SELECT decision_id, until_us FROM claims WHERE decision_id > ? ORDER BY decision_id LIMIT ?",
                (after, TIDIED_AT_ONCE),
            ).fetchall()
            over = [(decision_id,) for decision_id, until_us in claims if until_us < now_us]
            db.executemany("DELETE FROM claims WHERE decision_id = ?", over)
        return claims[-1][0] if len(claims) == TIDIED_AT_ONCE else ""

    def _forget_customers(self, before_us: int, after: int) -> int:
        """Of the next customers those whose contacts are all too old to count; from where to go on, 0 at the end."""
        with self._files.transaction() as db:
            some = "SELECT rowid FROM contacts WHERE rowid > ? ORDER BY rowid LIMIT ?"
            looked_at = [rowid for (rowid,) in db.execute(some, (after, TIDIED_AT_ONCE))]
            if looked_at:
                db.execute(
                    "DELETE FROM contacts WHERE rowid BETWEEN ? AND ? AND newest_us < ? AND joined_to IS NULL",
                    (looked_at[0], looked_at[-1], before_us),
                )
        return looked_at[-1] if len(looked_at) == TIDIED_AT_ONCE else 0

    def _position(self) -> int:
        rows = self._files.read("SELECT position FROM applied_position")
        return int(rows[0][0]) if rows else 0

    def _load(self, db: sqlite3.Connection | None, customer_ids: Iterable[str]) -> dict[str, _Loaded]:
        """The contacts of each customer asked for, wherever they are kept by now."""
        wanted = list(dict.fromkeys(customer_ids))
        rows: list[tuple[str, bytes, str | None]] = []
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            query = f"{FROM_CONTACTS} ({', '.join('?' * len(some))})"
            rows += self._files.read(query, some) if db is None else db.execute(query, some).fetchall()
        found = {name: _Loaded(name, EMPTY) for name in wanted}
        elsewhere: dict[str, str] = {}
        for name, blob, joined_to in rows:
            if joined_to is not None:
                elsewhere[name] = joined_to
            else:
                found[name] = _Loaded(name, self._decoded(name, blob))
        if elsewhere:  # a join leads on to somebody who is not joined, or was joined later
            there = self._load(db, elsewhere.values())
            found.update({name: there[to] for name, to in elsewhere.items()})
        return found

    def _decoded(self, customer_id: str, blob: bytes) -> ContactHistory:
        """Equal bytes are the same history, whoever wrote them."""
        known = self._remembered.get(customer_id)
        if known is not None and known[0] == blob:
            return known[1]
        history = ContactHistory(decode(blob))
        self._remember(customer_id, blob, history)
        return history

    def _remember(self, customer_id: str, blob: bytes, history: ContactHistory) -> None:
        if len(self._remembered) >= REMEMBERED:
            self._remembered = {}
        self._remembered[customer_id] = blob, history

    def _write(self, db: sqlite3.Connection, histories: Mapping[str, tuple[ContactHistory, int]]) -> None:
        rows = [(name, encode(history.contacts), at_us) for name, (history, at_us) in histories.items()]
        db.executemany(WRITE_HISTORY, rows)
        for (name, blob, _), (history, _) in zip(rows, histories.values(), strict=True):
            self._remember(name, blob, history)


def _prepared(db: sqlite3.Connection) -> None:
    # `keep_house` writes the WAL back while nobody waits; a commit does so only when that did not keep up
    db.execute("PRAGMA secure_delete = ON")  # who is erased is not to be found in free pages
    db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")


def _applied(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT position FROM applied_position").fetchone()
    return int(row[0]) if row else 0


def _owners(db: sqlite3.Connection, decision_ids: Iterable[str]) -> dict[str, str]:
    """Who the decisions were made for, as far as that is still known."""
    wanted = list(decision_ids)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        query = f"SELECT decision_id, customer_id FROM claims WHERE decision_id IN ({', '.join('?' * len(some))})"
        found.update(db.execute(query, some).fetchall())
    return found


def _with(history: ContactHistory, claim: Claim, made: Sequence[Claimed]) -> ContactHistory:
    new = tuple(
        Contact(
            offer_id=pick.offer_id,
            category=pick.category,
            placement_id=pick.placement_id,
            channel=pick.channel,
            decision_id=claim.decision_id,
            decided_us=claim.decided_us,
            lapses_us=claim.lapses_us,
        )
        for pick in made
    )
    contacts = (*history.contacts, *new)
    if len(contacts) > len(new) and contacts[-len(new) - 1].decided_us > claim.decided_us:
        contacts = tuple(sorted(contacts, key=DECIDED))  # a clock that is behind
    return ContactHistory(contacts)


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


def _newest_us(history: ContactHistory) -> int:
    return history.contacts[-1].decided_us if history.contacts else 0
