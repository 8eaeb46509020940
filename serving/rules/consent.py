"""What a customer opted out of is not shown: a channel with everything on it, or a category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.profile import category_consent

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ConsentRule:
    name = "consent"

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]:
        # Refusals that could not be read may be anything, so nothing is shown.
        if asked.refused is None or asked.channel in asked.refused:
            return np.zeros(len(view), dtype=bool)
        allowed = np.ones(len(view), dtype=bool)
        for code, name in enumerate(view.category_names if asked.refused else ()):
            if category_consent(name) in asked.refused:
                allowed &= view.category != code
        return allowed
