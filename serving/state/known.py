"""What one connection knows of the file without asking it, for as long as nobody else has written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from serving.state.contacts import ContactHistory, Level, Stock

REMEMBERED = 10_000  # customers
MICROS = 1_000_000
MOVES_KEPT = 64  # versions of the stock that a reader may be behind and still follow


class Row(NamedTuple):
    """What one offer has used; money in millionths of the currency."""

    units: int = 0
    spent: int = 0
    day: str = ""
    today: int = 0

    def on(self, day: str) -> Row:
        """As seen on a day. A clock that is behind another worker's goes on in the later day."""
        return self if self.day >= day else Row(self.units, self.spent, day, 0)

    def level(self) -> Level:
        return Level(self.units, self.spent / MICROS, self.today / MICROS)

    def plus(self, units: int, micros: int) -> Row:
        return Row(self.units + units, self.spent + micros, self.day, self.today + micros)


class Known:
    """Of one connection, by its thread alone. What is written in a transaction is known at once; if that fails, all is
    forgotten.
    """

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}  # whose contacts a customer's are: another one's if the two were joined
        self.histories: dict[str, ContactHistory] = {}  # by owner
        self.rows: dict[str, Row] = {}  # of the stock, as of its version
        self.stock_version = 0
        self.rows_are_new = False
        self.first_due_us: int | None = None
        self.due_is_known = False
        self._moved: set[str] = set()  # since the last snapshot
        self._snapshot: Stock | None = None

    def moved(self) -> None:
        """Somebody else has written."""
        self.owners, self.histories = {}, {}
        self.rows_are_new = self.due_is_known = False

    def lost(self) -> None:
        """What was written is not there after all."""
        self.moved()
        self.rows, self.stock_version, self._snapshot = {}, 0, None

    def keep(self, customer_id: str, owner: str, history: ContactHistory) -> None:
        if len(self.owners) >= REMEMBERED:
            self.owners, self.histories = {}, {}
        self.owners[customer_id] = owner
        self.histories[owner] = history

    def take_changed(self, changed: Iterable[Sequence[Any]]) -> None:
        """All rows (version, offer id, *Row) that are newer than `stock_version`."""
        for version, offer_id, *rest in changed:
            self.put(offer_id, Row(*rest))
            self.stock_version = max(self.stock_version, version)
        self.rows_are_new = True

    def put(self, offer_id: str, row: Row) -> None:
        self.rows[offer_id] = row
        self._moved.add(offer_id)

    def due_at(self, due_us: int) -> None:
        """Something more will be due then."""
        if self.due_is_known and (self.first_due_us is None or due_us < self.first_due_us):
            self.first_due_us = due_us

    def stock(self, day: str, from_us: int, until_us: int) -> Stock:
        """The rows as levels on a day: the same object until they move."""
        last = self._snapshot
        if last is None:
            levels = {offer_id: row.on(day).level() for offer_id, row in self.rows.items()}
            found = Stock(levels, day, from_us, until_us, lineage=object())
        elif last.day == day and not self._moved:
            return last
        else:
            again = self._moved if last.day == day else self.rows
            levels = {**last.levels, **{offer_id: self.rows[offer_id].on(day).level() for offer_id in again}}
            moves = (*last.moves, tuple(again))[-MOVES_KEPT:]
            found = Stock(levels, day, from_us, until_us, last.lineage, last.version + 1, moves)
        self._moved, self._snapshot = set(), found
        return found
