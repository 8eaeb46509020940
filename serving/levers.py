"""Business weights: which offers count for more, or less, and for how long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from serving.catalogue_view import CatalogueView
from serving.rules.asked import Asked


class Levers:
    """All levers of one version of the catalogue."""

    def __init__(self, view: CatalogueView) -> None:
        self._one = np.ones(len(view))

    def weights(self, asked: Asked) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What levers over offers, and those over the context, multiply each offer's worth by; shapes (n_offers,)."""
        return self._one, self._one
