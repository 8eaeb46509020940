"""An offer is shown from `starts_at` on, and no longer at `ends_at`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ScheduleRule:
    name = "schedule"

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]:
        running: NDArray[np.bool_] = (view.starts_us <= asked.now_us) & (asked.now_us < view.ends_us)
        return running
