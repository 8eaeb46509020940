"""An offer is shown from `starts_at` on, and no longer at `ends_at`."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.events import from_us

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ScheduleRule:
    name: ClassVar[str] = "schedule"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        # Between these instants nothing starts or ends, so that most decisions need not look at every offer.
        self._changes: list[int] = np.unique(np.concatenate([view.starts_us, view.ends_us])).tolist()
        self._running: tuple[int, NDArray[np.bool_] | None] | None = None

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        span = bisect_right(self._changes, asked.now_us)
        kept = self._running
        if kept is None or kept[0] != span:
            running = (self._view.starts_us <= asked.now_us) & (asked.now_us < self._view.ends_us)
            kept = self._running = span, None if running.all() else running
        return kept[1]

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        offer = self._view.offers[row]
        return {"now": from_us(asked.now_us), "starts_at": offer.starts_at, "ends_at": offer.ends_at}
