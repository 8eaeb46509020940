"""The books of limited offers: what each has used, and what of that is only held. All within a caller's transaction.

A hold is `claimed` until its decision lapses, `seen` while money waits for an acceptance, and `lapsed` after it was
given back, for as long as a late event may ask for it again. What is kept for good has no hold any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from serving.state.contacts import Take
from serving.state.known import Known, Row
from serving.state.sqlite import insert

CLAIMED, SEEN, LAPSED = 0, 1, 2
SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (
    offer_id TEXT PRIMARY KEY,
    units INTEGER NOT NULL, spent INTEGER NOT NULL,
    day TEXT NOT NULL, today INTEGER NOT NULL,
    inventory INTEGER, budget INTEGER, daily INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stock_by_version ON stock (version);
CREATE TABLE IF NOT EXISTS holds (
    decision_id TEXT NOT NULL, offer_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    units INTEGER NOT NULL, spent INTEGER NOT NULL, day TEXT NOT NULL,
    per_accept INTEGER NOT NULL,
    due_us INTEGER NOT NULL, window_us INTEGER NOT NULL,
    PRIMARY KEY (decision_id, offer_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holds_by_due ON holds (due_us);
"""
CHANGED = "SELECT version, offer_id, units, spent, day, today FROM stock WHERE version > ?"
FIRST_DUE = "SELECT min(due_us) FROM holds"
DUE = "SELECT decision_id, offer_id, state, units, spent, day FROM holds WHERE due_us <= ? ORDER BY due_us LIMIT ?"
HELD = "SELECT state, units, spent, day, per_accept, window_us FROM holds WHERE decision_id = ? AND offer_id = ?"
HELD_BY = "SELECT offer_id, state, units, spent, day FROM holds WHERE decision_id = ?"
MOVE = "UPDATE holds SET state = ?, due_us = ?, day = ? WHERE decision_id = ? AND offer_id = ?"
DROP = "DELETE FROM holds WHERE decision_id = ? AND offer_id = ?"
TAKEN = """
ON CONFLICT (offer_id) DO UPDATE SET units = excluded.units, spent = excluded.spent, day = excluded.day,
    today = excluded.today, inventory = excluded.inventory, budget = excluded.budget, daily = excluded.daily,
    version = excluded.version
"""
GIVE_BACK = """
UPDATE stock SET units = units - ?2, spent = spent - ?3, version = ?5,
    today = today - CASE WHEN day = ?4 THEN ?3 ELSE 0 END
WHERE offer_id = ?1
"""
TAKE_LATE = """
UPDATE stock SET units = units + ?2, spent = spent + ?3, version = ?5,
    today = CASE WHEN day < ?4 THEN ?3 ELSE today + ?3 END, day = max(day, ?4)
WHERE offer_id = ?1 AND (?6 IS NULL OR units + ?2 <= ?6)
    AND (?7 IS NULL OR CASE WHEN NOT ?8 THEN spent WHEN day < ?4 THEN 0 ELSE today END + ?3 <= ?7)
RETURNING day
"""
OF_LAST_CLAIM = "SELECT inventory, budget, daily FROM stock WHERE offer_id = ?"


class Total(NamedTuple):
    """How much of an offer there is."""

    inventory: int | None = None  # None: endless
    budget: int | None = None
    daily: bool = False


class Hold(NamedTuple):
    """What one decision took of one offer."""

    decision_id: str
    offer_id: str
    take: Take
    day: str  # that the money is charged to
    lapses_us: int
    window_us: int = 0  # how long an acceptance is waited for, from the first event on


class StockBook:
    """The books within one transaction."""

    def __init__(self, db: sqlite3.Connection, known: Known) -> None:
        self._db, self._known = db, known
        self._version = 0

    @property
    def version(self) -> int:
        """The number of this transaction's changes: readers ask for what is newer than they have seen."""
        if not self._version and self._known.rows_are_new:
            self._version = self._known.stock_version + 1
        elif not self._version:
            (self._version,) = self._db.execute("SELECT coalesce(max(version), 0) + 1 FROM stock").fetchone()
        return self._version

    def rows(self, offer_ids: Iterable[str]) -> dict[str, Row]:
        if not self._known.rows_are_new:
            self._known.take_changed(self._db.execute(CHANGED, (self._known.stock_version,)))
        known = self._known.rows
        return {offer_id: known[offer_id] for offer_id in offer_ids if offer_id in known}

    def take(self, rows: Mapping[str, Row], holds: Sequence[Hold]) -> None:
        """Write the rows of these offers as they have become, and note what was taken."""
        version = self.version
        takes = {hold.offer_id: hold.take for hold in holds}
        insert(
            self._db,
            "INSERT INTO stock",
            [
                (offer_id, *rows[offer_id], take.inventory, take.budget, int(take.daily), version)
                for offer_id, take in takes.items()
            ],
            TAKEN,
        )
        insert(
            self._db,
            "INSERT INTO holds",
            [
                (decision_id, offer_id, CLAIMED, take.units, take.micros, day, int(take.per_accept), due_us, window_us)
                for decision_id, offer_id, take, day, due_us, window_us in holds
            ],
        )
        for offer_id in takes:
            self._known.put(offer_id, rows[offer_id])
        self._known.stock_version = version
        for due_us in {hold.lapses_us for hold in holds}:
            self._known.due_at(due_us)

    def first_due_us(self) -> int | None:
        if not self._known.due_is_known:
            self._known.first_due_us = self._db.execute(FIRST_DUE).fetchone()[0]
            self._known.due_is_known = True
        return self._known.first_due_us

    def keep(
        self, decision_id: str, offer_id: str, outcome: bool, at_us: int, day: str, total: Total | None = None
    ) -> bool:
        """An event names decision and offer: what is held is kept, and what lapsed is taken again if it is there: of
        this total, or of the last claim's if nobody knows a newer one. False if there is no such hold.

        Money that is due at the acceptance waits for the outcome until the attribution window ends.
        """
        held = self._db.execute(HELD, (decision_id, offer_id)).fetchone()
        if held is None:
            return False
        state, units, spent, held_day, per_accept, window_us = held
        if state == LAPSED:
            of = total or self._db.execute(OF_LAST_CLAIM, (offer_id,)).fetchone()
            taken = self._db.execute(TAKE_LATE, (offer_id, units, spent, day, self.version, *of)).fetchone()
            if taken is None:
                return True  # late, and nothing is left
            state, held_day = CLAIMED, taken[0]
        if outcome or not (per_accept and spent):
            self._db.execute(DROP, (decision_id, offer_id))
        elif state == CLAIMED:
            self._db.execute(MOVE, (SEEN, at_us + window_us, held_day, decision_id, offer_id))
        return True

    def remember(self, hold: Hold) -> None:
        """Note again what lapsed so long ago that it was forgotten, so that an event may ask for it."""
        decision_id, offer_id, take, day, due_us, window_us = hold
        values = (decision_id, offer_id, LAPSED, take.units, take.micros, day, int(take.per_accept), due_us, window_us)
        insert(self._db, "INSERT INTO holds", [values])

    def give_back(self, decision_id: str) -> None:
        """The decision was never handed out; what was seen of it all the same stays."""
        for offer_id, state, units, spent, day in self._db.execute(HELD_BY, (decision_id,)).fetchall():
            if state == CLAIMED:
                self._db.execute(GIVE_BACK, (offer_id, units, spent, day, self.version))
            if state != SEEN:
                self._db.execute(DROP, (decision_id, offer_id))

    def sweep(self, until_us: int, remembered_us: int, most: int) -> int:
        """Give back what was due by then; how many holds were looked at, at most `most`."""
        due = self._db.execute(DUE, (until_us, most)).fetchall()
        self._known.due_is_known = False
        self._known.rows_are_new = self._known.rows_are_new and not due
        back: dict[tuple[str, str], tuple[int, int]] = {}
        over: list[tuple[str, str]] = []
        lapsed: list[tuple[int, int, str, str, str]] = []
        for decision_id, offer_id, state, units, spent, day in due:
            if state == CLAIMED:
                lapsed.append((LAPSED, until_us + remembered_us, day, decision_id, offer_id))
            else:
                over.append((decision_id, offer_id))
            if state != LAPSED:  # of what was seen the unit stays, only its money comes back
                n, money = back.get((offer_id, day), (0, 0))
                back[offer_id, day] = n + (units if state == CLAIMED else 0), money + spent
        if back:
            version = self.version
            self._db.executemany(GIVE_BACK, [(name, *both, day, version) for (name, day), both in back.items()])
        self._db.executemany(DROP, over)
        self._db.executemany(MOVE, lapsed)
        return len(due)
