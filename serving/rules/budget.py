"""An offer whose budget has no room for one more is not shown: the day's budget, or that of its whole life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import money_left
from serving.rules.used import LeftOffers
from serving.state.contacts import Level

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class BudgetRule:
    name: ClassVar[str] = "budget"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._left = LeftOffers(view, lambda take: take.budget is not None, money_left)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return self._left.allowed(asked.stock)

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.stock is None:
            return {"stock": "could not be read"}
        offer = self._view.offers[row]
        if offer.budget is None or offer.cost is None:
            return {}
        level = asked.stock.levels.get(offer.offer_id, Level())
        spent = level.spent_today if offer.budget.per == "day" else level.spent
        return {"budget": offer.budget.amount, "per": offer.budget.per, "spent": spent, "cost": offer.cost.amount}
