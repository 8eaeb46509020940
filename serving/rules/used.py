"""Which limited offers have nothing left; worked out again only for those that moved since the stock was last seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import UNUSED, limits_of
from serving.state.contacts import Level, Stock, Take

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView

Mask = NDArray[np.bool_]


class LimitedOffers:
    """The offers that one kind of limit is set for, in the order of the view's rows."""

    def __init__(self, view: CatalogueView, wanted: Callable[[Take], bool]) -> None:
        limited = [(offer_id, take) for offer_id, take in limits_of(view).takes.items() if wanted(take)]
        self.takes = tuple(take for _, take in limited)
        self.rows = np.array([view.row[offer_id] for offer_id, _ in limited], np.intp)  # (n_limited,)
        self.others = np.ones(len(view), dtype=bool)  # offers without this limit
        self.others[self.rows] = False
        self._at = {offer_id: at for at, (offer_id, _) in enumerate(limited)}

    def __len__(self) -> int:
        return len(self.rows)

    def moved(self, stock: Stock, last: Stock | None) -> Iterator[tuple[int, Level]]:
        """Where, among the limited, the level may be another than in `last`; and what it is now."""
        levels = stock.levels
        for offer_id in _moved(stock, last, self._at):
            at = self._at.get(offer_id)
            if at is not None:
                yield at, levels.get(offer_id, UNUSED)

    def without(self, closed: Mask) -> Mask | None:
        """All offers but the closed ones among the limited, shape (n_offers,); None if none is closed."""
        rows = self.rows[closed]
        if not rows.size:
            return None
        allowed = np.ones(len(self.others), dtype=bool)
        allowed[rows] = False
        return allowed


class LeftOffers:
    """Of the offers that one kind of limit is set for, those that have something left."""

    def __init__(
        self, view: CatalogueView, wanted: Callable[[Take], bool], has_left: Callable[[Take, Level], bool]
    ) -> None:
        self._limited, self._has_left = LimitedOffers(view, wanted), has_left
        self._last: tuple[Stock, Mask, Mask | None] | None = None  # as of then: which have nothing left; who is allowed

    def allowed(self, stock: Stock | None) -> Mask | None:
        """All offers but the limited ones with nothing left, shape (n_offers,); None: all. No stock: none has."""
        limited = self._limited
        if not len(limited):
            return None
        if stock is None:
            return limited.others
        last = self._last
        if last is None or last[0] is not stock:
            last = self._last = self._seen(stock, last)
        return last[2]

    def _seen(self, stock: Stock, last: tuple[Stock, Mask, Mask | None] | None) -> tuple[Stock, Mask, Mask | None]:
        limited = self._limited
        before = np.zeros(len(limited), dtype=bool) if last is None else last[1]
        turned = [
            at
            for at, level in limited.moved(stock, last[0] if last is not None else None)
            if self._has_left(limited.takes[at], level) == before[at]
        ]
        if last is not None and not turned:
            return stock, last[1], last[2]
        closed = before.copy()
        closed[turned] ^= True
        return stock, closed, limited.without(closed)


def _moved(stock: Stock, last: Stock | None, everybody: Iterable[str]) -> Iterable[str]:
    if last is None or stock.lineage is None or stock.lineage is not last.lineage or stock.day != last.day:
        return everybody
    n = stock.version - last.version
    if not 0 <= n <= len(stock.moves):
        return everybody
    return set(chain.from_iterable(stock.moves[len(stock.moves) - n :]))
