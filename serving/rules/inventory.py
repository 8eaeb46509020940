"""An offer of which no unit is left is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import units_left
from serving.rules.used import LeftOffers
from serving.state.contacts import Level

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class InventoryRule:
    name: ClassVar[str] = "inventory"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._left = LeftOffers(view, lambda take: take.inventory is not None, units_left)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return self._left.allowed(asked.stock)

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.stock is None:
            return {"stock": "could not be read"}
        offer = self._view.offers[row]
        return {"inventory": offer.inventory, "used": asked.stock.levels.get(offer.offer_id, Level()).units}
