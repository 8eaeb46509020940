"""What a customer opted out of or muted is not shown: a channel with everything on it, or a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.profile import category_consent

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ConsentRule:
    name: ClassVar[str] = "consent"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        # Refusals that could not be read may be anything, so nothing is shown.
        if asked.refused is None or asked.channel in asked.refused:
            return np.zeros(len(self._view), dtype=bool)
        if not asked.refused and not asked.muted_categories:
            return None
        allowed = np.ones(len(self._view), dtype=bool)
        for code, name in enumerate(self._view.category_names):
            if name in asked.muted_categories or category_consent(name) in asked.refused:
                allowed &= self._view.category != code
        return allowed

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.refused is None:
            return {"consent": "could not be read"}
        category = self._view.offers[row].category
        refused = [asked.channel] if asked.channel in asked.refused else []
        if category is not None and category_consent(category) in asked.refused:
            refused.append(category_consent(category))
        muted = [category] if category in asked.muted_categories else []
        return {"refused": refused, "muted_categories": muted}
