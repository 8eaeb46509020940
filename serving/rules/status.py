"""Only approved offers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class StatusRule:
    name = "status"

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]:
        return view.approved
