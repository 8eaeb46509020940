"""A paced offer's money of today runs at most as far as the day has run; the first contact of a day may always go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import elapsed
from serving.rules.used import LimitedOffers
from serving.state.contacts import Level

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class PacingRule:
    name: ClassVar[str] = "pacing"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._limited = LimitedOffers(view, lambda take: take.paced)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        limited = self._limited
        if not len(limited):
            return None
        if asked.stock is None:
            return ~limited.mask
        today = limited.used(asked.stock).today
        allowance = np.maximum(limited.budget * elapsed(asked.stock, asked.now_us), limited.cost)
        return limited.without(today + limited.cost > allowance)

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
