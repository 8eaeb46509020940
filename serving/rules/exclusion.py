"""Offers that the caller excluded are not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ExclusionRule:
    name = "exclusion"

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]:
        allowed = np.ones(len(view), dtype=bool)
        rows = [view.row[offer_id] for offer_id in asked.exclude_offer_ids if offer_id in view.row]
        allowed[rows] = False
        return allowed
