"""An offer of which no unit is left is not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.used import LimitedOffers, Whole
from serving.state.contacts import Level

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class InventoryRule:
    name: ClassVar[str] = "inventory"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._limited = LimitedOffers(view, lambda take: take.inventory is not None)
        self._last: tuple[Whole, NDArray[np.bool_] | None] | None = None

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        limited = self._limited
        if not len(limited):
            return None
        if asked.stock is None:
            return ~limited.mask
        units = limited.used(asked.stock).units
        last = self._last
        if last is None or last[0] is not units:
            last = self._last = units, limited.without(units + limited.units > limited.inventory)
        return last[1]

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.stock is None:
            return {"stock": "could not be read"}
        offer = self._view.offers[row]
        return {"inventory": offer.inventory, "used": asked.stock.levels.get(offer.offer_id, Level()).units}
