"""An offer is shown where it, and at least one of its treatments, fits the channel and the placement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ChannelRule:
    name: ClassVar[str] = "channel"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return self._view.fits(asked.placement_id, asked.channel)

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        offer = self._view.offers[row]
        return {
            "channel": asked.channel,
            "placement_id": asked.placement_id,
            "channels": offer.channels,
            "placements": offer.placements,
            "treatments": [{"channels": t.channels, "placements": t.placements} for t in offer.treatments],
        }
