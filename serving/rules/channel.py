"""An offer is shown where it, and at least one of its treatments, fits the channel and the placement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ChannelRule:
    name = "channel"

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]:
        fits: NDArray[np.bool_] = view.treatment_for(asked.placement_id, asked.channel) >= 0
        return fits
