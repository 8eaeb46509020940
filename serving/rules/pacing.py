"""A paced offer's money of today runs at most as far as the day has run; the first contact of a day may always go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import elapsed, needed_share
from serving.rules.used import LimitedOffers
from serving.state.contacts import Level, Stock

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class PacingRule:
    name: ClassVar[str] = "pacing"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._limited = LimitedOffers(view, lambda take: take.paced)
        self._last: tuple[Stock, NDArray[np.float64], float] | None = None

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        limited = self._limited
        if not len(limited):
            return None
        if asked.stock is None:
            return limited.others
        needed, most = self._needed(asked.stock)
        share = elapsed(asked.stock, asked.now_us)
        return limited.without(needed > share) if most > share else None

    def _needed(self, stock: Stock) -> tuple[NDArray[np.float64], float]:
        """Of the paced offers, the share of the day that must be over, shape (n_paced,); and the largest one."""
        last = self._last
        if last is None or last[0] is not stock:
            needed = np.zeros(len(self._limited)) if last is None else last[1].copy()
            for at, level in self._limited.moved(stock, last[0] if last is not None else None):
                needed[at] = needed_share(self._limited.takes[at], level)
            last = self._last = stock, needed, float(needed.max())
        return last[1], last[2]

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.stock is None:
            return {"stock": "could not be read"}
        offer = self._view.offers[row]
        if offer.budget is None or offer.cost is None:
            return {}
        return {
            "budget": offer.budget.amount,
            "spent_today": asked.stock.levels.get(offer.offer_id, Level()).spent_today,
            "cost": offer.cost.amount,
            "day_elapsed": round(elapsed(asked.stock, asked.now_us), 4),
        }
