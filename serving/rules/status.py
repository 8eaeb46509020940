"""Only approved offers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class StatusRule:
    name: ClassVar[str] = "status"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._all = bool(view.approved.all())

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return None if self._all else self._view.approved

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        return {"status": self._view.offers[row].status}
