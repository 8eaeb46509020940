"""Which of the eligible offers is worth most: the score and its factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.learning.beliefs import Beliefs
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.customer import CustomerNow
    from serving.levers import Levers
    from serving.rules.asked import Asked

Numbers = NDArray[np.float64]
SMALLEST = 1e-6  # no probability is nearer to 0 or 1 than this


@dataclass(frozen=True, slots=True)
class Worth:
    """What each offer is worth here and now, with the factors that made it; shapes (n_offers,)."""

    p_accept: Numbers  # the model's estimate, corrected by what was learned since
    value: Numbers  # currency
    context_weight: Numbers
    lever: Numbers
    retention_gain: Numbers  # currency; added
    moved: Numbers  # currency; p_accept x value x context_weight x lever
    score: Numbers  # moved + retention_gain


def worth_of(
    levers: Levers | None,
    view: CatalogueView,
    p_model: Numbers,
    beliefs: Beliefs,
    asked: Asked,
    customer: CustomerNow,
    p_churn: float | None,
    settings: Settings,
) -> Worth:
    """Expected margin of showing each offer, in the deployment's currency."""
    p_accept = np.clip(p_model * beliefs.factor, SMALLEST, 1.0 - SMALLEST)
    one = np.ones(len(view))
    lever, context_weight = levers.weights(asked) if levers is not None else (one, one)
    moved = p_accept * view.value * context_weight * lever
    gain = np.zeros(len(view))
    return Worth(p_accept, view.value, context_weight, lever, gain, moved, moved + gain)
