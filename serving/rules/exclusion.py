"""Offers that the caller excluded are not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from serving.rules.masks import without

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ExclusionRule:
    name: ClassVar[str] = "exclusion"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        if not asked.exclude_offer_ids:
            return None
        row_of = self._view.row
        rows = [row_of[offer_id] for offer_id in asked.exclude_offer_ids if offer_id in row_of]
        return without(len(self._view), rows) if rows else None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        return {"exclude_offer_ids": [self._view.offers[row].offer_id]}
