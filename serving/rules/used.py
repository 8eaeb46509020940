"""What limited offers have used, as arrays on their own axis; worked out again only when the stock moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import limits_of, micros
from serving.state.contacts import Level, Stock, Take

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView

Whole = NDArray[np.int64]


class Used(NamedTuple):
    """Of the limited offers, shape (n_limited,) each; money in millionths of the currency."""

    units: Whole
    spent: Whole
    today: Whole


class LimitedOffers:
    """The offers that one kind of limit is set for, in the order of the view's rows."""

    def __init__(self, view: CatalogueView, wanted: Callable[[Take], bool]) -> None:
        takes = [(view.row[offer_id], take) for offer_id, take in limits_of(view).takes.items() if wanted(take)]
        self.rows = np.array([row for row, _ in takes], np.intp)  # (n_limited,)
        self.units: Whole = np.array([take.units for _, take in takes], np.int64)
        self.inventory: Whole = np.array([take.inventory or 0 for _, take in takes], np.int64)
        self.cost: Whole = np.array([take.micros for _, take in takes], np.int64)
        self.budget: Whole = np.array([take.budget or 0 for _, take in takes], np.int64)
        self.daily = np.array([take.daily for _, take in takes], dtype=bool)
        self.takes = tuple(take for _, take in takes)
        self.mask = np.zeros(len(view), dtype=bool)
        self.mask[self.rows] = True
        self._at = {view.offers[row].offer_id: i for i, (row, _) in enumerate(takes)}
        self._last: tuple[Mapping[str, Level], Used] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def used(self, stock: Stock) -> Used:
        last = self._last
        if last is not None and last[0] is stock.levels:
            return last[1]
        used = Used(*(np.zeros(len(self.rows), np.int64) for _ in range(3)))
        at = self._at
        for offer_id, level in stock.levels.items():
            if (i := at.get(offer_id)) is not None:
                used.units[i], used.spent[i], used.today[i] = (
                    level.units,
                    micros(level.spent),
                    micros(level.spent_today),
                )
        self._last = stock.levels, used
        return used

    def without(self, closed: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """All offers but the closed ones among the limited, shape (n_offers,); None if none is closed."""
        if not closed.any():
            return None
        allowed = np.ones(len(self.mask), dtype=bool)
        allowed[self.rows[closed]] = False
        return allowed
