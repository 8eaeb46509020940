"""The books of customers: a row of contacts each, and whom decisions were made for; in a caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import merge
from typing import Any, NamedTuple

from serving.state.contacts import Claim, Claimed, Contact, ContactHistory
from serving.state.known import REMEMBERED, Known
from serving.state.outcomes import DECIDED
from serving.state.sqlite import insert

SCHEMA = """
CREATE TABLE IF NOT EXISTS contacts (
    customer_id TEXT PRIMARY KEY, history BLOB NOT NULL, joined_to TEXT, newest_us INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS contacts_joined ON contacts (joined_to) WHERE joined_to IS NOT NULL;
CREATE TABLE IF NOT EXISTS claims (
    decision_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, until_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""
FOUND = "SELECT customer_id, history, joined_to FROM contacts WHERE customer_id IN"
OWNERS = "SELECT decision_id, customer_id FROM claims WHERE decision_id IN"
WRITTEN = """
ON CONFLICT (customer_id) DO UPDATE SET history = excluded.history, newest_us = max(newest_us, excluded.newest_us)
"""
JOINED_TO = """
WITH RECURSIVE them (id) AS (VALUES (?) UNION SELECT customer_id FROM contacts JOIN them ON joined_to = them.id)
SELECT id FROM them
"""
AT_ONCE = 500  # values in one query
TIDIED_AT_ONCE = 200  # rows looked at, and gone in one transaction: claims wait behind it
IS_OLD = "newest_us < ? AND joined_to IS NULL"
EMPTY = ContactHistory()

Read = Callable[[str, Sequence[Any]], list[Any]]


class Loaded(NamedTuple):
    """Where a customer's contacts are kept, and what they are."""

    customer_id: str  # of whom they are: another one's if the two were joined
    history: ContactHistory


class Remembered:
    """Histories and the bytes they are kept as: equal bytes are the same history, whoever wrote them."""

    def __init__(self) -> None:
        self._known: dict[str, ContactHistory] = {}

    def unpacked(self, customer_id: str, packed: bytes) -> ContactHistory:
        known = self._known.get(customer_id)
        if known is not None and known.packed == packed:
            return known
        history = ContactHistory.unpacked(packed)
        self.keep(customer_id, history)
        return history

    def keep(self, customer_id: str, history: ContactHistory) -> None:
        if len(self._known) >= REMEMBERED:
            self._known = {}
        self._known[customer_id] = history

    def forget(self) -> None:
        self._known = {}


def claims_over(read: Read, now_us: int) -> list[str]:
    """Of the oldest decisions those that need not be known any longer: ids sort by time, and so do their ends."""
    oldest = read("SELECT decision_id, until_us FROM claims ORDER BY decision_id LIMIT ?", (TIDIED_AT_ONCE,))
    return [decision_id for decision_id, until_us in oldest if until_us < now_us]


def customers_over(read: Read, after: int, before_us: int) -> tuple[list[int], int]:
    """Of the next customers the rows of those whose newest contact is older; from where to go on, 0 at the end."""
    some = f"SELECT rowid, {IS_OLD} FROM contacts WHERE rowid > ? ORDER BY rowid LIMIT ?"
    rows = read(some, (before_us, after, TIDIED_AT_ONCE))
    return [row for row, is_old in rows if is_old], rows[-1][0] if len(rows) == TIDIED_AT_ONCE else 0


def load(read: Read, remembered: Remembered, known: Known, customer_ids: Iterable[str]) -> dict[str, Loaded]:
    """The contacts of each customer asked for, wherever they are kept by now."""
    wanted = list(dict.fromkeys(customer_ids))
    found = {name: _known(known, name) for name in wanted}
    unknown = [name for name, one in found.items() if one is None]
    if unknown:
        read_now = _loaded(read, remembered, unknown)
        for name, one in read_now.items():
            known.keep(name, one.customer_id, one.history)
        found.update(read_now)
    return {name: one for name, one in found.items() if one is not None}


def _known(known: Known, name: str) -> Loaded | None:
    owner = known.owners.get(name)
    return None if owner is None else Loaded(owner, known.histories[owner])


def _loaded(read: Read, remembered: Remembered, wanted: Sequence[str]) -> dict[str, Loaded]:
    found = {name: Loaded(name, EMPTY) for name in wanted}
    elsewhere: dict[str, str] = {}
    for name, blob, joined_to in _of_many(read, FOUND, wanted):
        if joined_to is not None:
            elsewhere[name] = joined_to
        else:
            found[name] = Loaded(name, remembered.unpacked(name, blob))
    if elsewhere:  # a join leads on to somebody who is not joined, or was joined later
        there = _loaded(read, remembered, list(dict.fromkeys(elsewhere.values())))
        found.update({name: there[to] for name, to in elsewhere.items()})
    return found


class ContactBook:
    """The books within one transaction."""

    def __init__(self, db: sqlite3.Connection, remembered: Remembered, known: Known) -> None:
        self._db, self._remembered, self._known = db, remembered, known

    def load(self, customer_ids: Iterable[str]) -> dict[str, Loaded]:
        return load(self._read, self._remembered, self._known, customer_ids)

    def write(self, histories: Mapping[str, ContactHistory], now_us: int = 0) -> None:
        """Replace what is kept of these customers, who must not be joined to others; something happened to them now."""
        rows = [(name, one.packed, now_us) for name, one in histories.items()]
        insert(self._db, "INSERT INTO contacts (customer_id, history, newest_us)", rows, WRITTEN)
        for name, one in histories.items():
            self._remembered.keep(name, one)
            self._known.keep(name, name, one)

    def note(self, decisions: Sequence[tuple[str, str, int]]) -> None:
        """Whom decisions were made for, and until when that is to be known."""
        insert(self._db, "INSERT OR REPLACE INTO claims", decisions)

    def owners(self, decision_ids: Iterable[str]) -> dict[str, str]:
        """Whom the decisions were made for, as far as that is still known."""
        return dict(_of_many(self._read, OWNERS, list(decision_ids)))

    def cancel(self, decision_ids: Sequence[str]) -> None:
        """Forget what these decisions claimed and nobody saw."""
        owners = self.owners(decision_ids)
        loaded = self.load(owners.values())
        gone = set(decision_ids)
        left = {
            one.customer_id: ContactHistory(
                tuple(c for c in one.history.contacts if c.decision_id not in gone or c.seen_us is not None)
            )
            for one in loaded.values()
        }
        self.write(left)
        self._db.executemany("DELETE FROM claims WHERE decision_id = ?", [(one,) for one in decision_ids])

    def join(self, from_id: str, to_id: str) -> int:
        """How many contacts have moved; 0 if the two are one already."""
        loaded = self.load([from_id, to_id])
        moved, stays = loaded[from_id], loaded[to_id]
        if moved.customer_id == stays.customer_id:
            return 0
        together = ContactHistory(tuple(merge(moved.history.contacts, stays.history.contacts, key=DECIDED)))
        self.write({moved.customer_id: EMPTY, stays.customer_id: together}, _newest_us(together))
        joined = "UPDATE contacts SET joined_to = ? WHERE customer_id = ?"
        self._db.execute(joined, (stays.customer_id, moved.customer_id))
        return len(moved.history.contacts)

    def erase(self, customer_id: str) -> int:
        """The customer with all that were joined to this one; how many contacts are forgotten."""
        one = self.load([customer_id])[customer_id]
        names = self._db.execute(JOINED_TO, (customer_id,)).fetchall()
        self._db.executemany("DELETE FROM contacts WHERE customer_id = ?", names)
        self._db.executemany("DELETE FROM claims WHERE customer_id = ?", names)
        self._remembered.forget()
        return len(one.history.contacts) if one.customer_id == customer_id else 0

    def forget_claims(self, decision_ids: Sequence[str]) -> None:
        """Whom these decisions were made for need not be known any longer."""
        marks = ", ".join("?" * len(decision_ids))
        self._db.execute(f"DELETE FROM claims WHERE decision_id IN ({marks})", decision_ids)

    def forget_customers(self, rows: Sequence[int], before_us: int) -> None:
        """Of these rows those whose newest contact is older still."""
        query = f"DELETE FROM contacts WHERE rowid IN ({', '.join('?' * len(rows))}) AND {IS_OLD}"
        self._db.execute(query, (*rows, before_us))

    def _read(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        return self._db.execute(query, parameters).fetchall()


def claimed(history: ContactHistory, claim: Claim, picks: Sequence[Claimed]) -> ContactHistory:
    """The history with what the claim adds."""
    decision_id, decided_us, lapses_us = claim.decision_id, claim.decided_us, claim.lapses_us
    new = [
        Contact(offer_id, category, placement_id, channel, decision_id, decided_us, lapses_us)
        for _, offer_id, category, placement_id, channel in picks
    ]
    before = history.contacts
    if before and before[-1].decided_us > claim.decided_us:  # a clock that is behind
        return ContactHistory(tuple(sorted((*before, *new), key=DECIDED)))
    return history.claiming(new)


def _of_many(read: Read, query: str, values: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(values), AT_ONCE):
        some = values[start : start + AT_ONCE]
        found += read(f"{query} ({', '.join('?' * len(some))})", some)
    return found


def _newest_us(history: ContactHistory) -> int:
    """The last moment at which anything happened to the customer."""
    return max((max(c.decided_us, c.seen_us or 0, c.answered_us or 0) for c in history.contacts), default=0)
