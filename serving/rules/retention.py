"""A retention offer is withheld from a customer whom it would rather drive away, as far as the release can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class RetentionRule:
    name: ClassVar[str] = "retention"

    def __init__(self, view: CatalogueView) -> None:
        self._others = np.logical_not(view.retention)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        return self._others if asked.uplift is not None and asked.uplift < 0.0 else None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        return {"uplift": asked.uplift}
