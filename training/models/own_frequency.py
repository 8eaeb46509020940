"""What the customer took before, by how often and how lately; who took nothing gets what is popular now.

The strongest simple predictor where purchases repeat. Source: Li et al. (2023), "A Next Basket Recommendation Reality
Check", https://doi.org/10.1145/3587153
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.events import US_PER_DAY
from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    not_negative,
    positive_or_none,
    settings_of,
)
from training.models.lightfm import without_factors
from training.models.popularity import PopularitySettings, fit_popularity
from training.scorers import FactorScorer

FIRST = 100.0  # times the log of a frequency: above all popularity, and exact enough in float32


@dataclass(frozen=True, slots=True)
class OwnFrequencySettings:
    half_life_days: float | None = 180.0  # of what the customer took; None: each time counts alike
    recency: float = 0.0  # weight of 1 / (1 + months since the last time) beside the log of the frequency
    popular_half_life_days: float | None = 30.0  # of what others took, which ranks the rest
    repeats: bool = True

    def __post_init__(self) -> None:
        positive_or_none(self, "half_life_days", "popular_half_life_days")
        not_negative(self, "recency")


def own_past(past: Interactions, until_us: int, settings: OwnFrequencySettings) -> NDArray[np.float64]:
    """log(1 + aged frequency) + recency of each (customer, offer), in the order of `past.pairs`."""
    _, frequency = past.pairs(until_us, settings.half_life_days)
    months = (until_us - past.last_us()) / (30.0 * US_PER_DAY)
    return np.log1p(frequency) + settings.recency / (1.0 + months)


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> FactorScorer:
    settings = settings_of(OwnFrequencySettings, params, "own_frequency")
    check_interactions(past, until_us, "own_frequency")
    popular = fit_popularity(past, until_us, PopularitySettings(settings.popular_half_life_days))
    return replace(
        without_factors(past, np.unique(past.customer).astype(np.int64), repeats=settings.repeats),
        offer_biases=(0.5 * popular.scores).astype(np.float32),
        new_offer_bias=0.5 * popular.new_offer_score,
        taken_boost=(FIRST * own_past(past, until_us, settings)).astype(np.float32),
    )


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        "half_life_days": suggest.suggest_float("half_life_days", 30.0, 1000.0, log=True),
        "recency": suggest.suggest_float("recency", 0.0, 2.0),
        "popular_half_life_days": suggest.suggest_float("popular_half_life_days", 3.0, 120.0, log=True),
    }


OWN_FREQUENCY = RecommenderModel("own_frequency", _fit, _space, defaults_of(OwnFrequencySettings()), needs="repeats")
