"""What a retention offer is expected to keep of this customer: measured by a holdout where the release has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.arrays import read_only

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView


def measured_save_rate(uplift: float, p_churn: float) -> float:
    """Of those who would leave the share that a contact keeps, within [0, 1]: uplift is of all, so of P(churn)."""
    return min(max(uplift, 0.0) / p_churn, 1.0)


def measured_gain(view: CatalogueView, saved: float, uplift: float, p_churn: float) -> NDArray[np.float64]:
    """Per offer what showing it is expected to keep, (n_offers,); what offers say of themselves does not count."""
    if saved == 0.0 or uplift <= 0.0:
        return view.zeros
    return read_only(np.where(view.retention, saved * measured_save_rate(uplift, p_churn), 0.0))
