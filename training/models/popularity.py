"""What is taken most: the recommender's baseline, and its stand-in when nothing else is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    positive_or_none,
    settings_of,
)
from training.scorers import PopularityScorer


@dataclass(frozen=True, slots=True)
class PopularitySettings:
    half_life_days: float | None = 30.0  # weight of an interaction halves every so many days; None: never

    def __post_init__(self) -> None:
        positive_or_none(self, "half_life_days")


def fit_popularity(past: Interactions, until_us: int, settings: PopularitySettings) -> PopularityScorer:
    """The log of each offer's customers, aged to `until_us`; one customer counts once per offer."""
    pairs, weight = past.pairs(until_us, settings.half_life_days)
    per_pair = np.minimum(weight, 1.0)
    counts = np.bincount(pairs % max(len(past.offers), 1), per_pair, minlength=len(past.offers))
    return scorer_of(past, counts.astype(np.float64))


def scorer_of(past: Interactions, counts: NDArray[np.float64]) -> PopularityScorer:
    """The scorer from how much each offer was taken, shape (n_offers,)."""
    scores = np.log(counts + 0.5).astype(np.float32)  # half a customer, so that an offer never taken stays finite
    by_category: dict[str, list[float]] = {}
    for offer, score in zip(past.offers, scores.tolist(), strict=True):
        if offer.category is not None:
            by_category.setdefault(offer.category, []).append(score)
    return PopularityScorer(
        version="",
        offer_map=past.offer_map,
        scores=scores,
        category_scores={category: float(np.median(of)) for category, of in sorted(by_category.items())},
        new_offer_score=float(np.median(scores)) if len(scores) else 0.0,
    )


@dataclass(frozen=True, slots=True)
class EverPopular:
    """Popularity of all time has nothing to set."""

    repeats: bool = False  # ranks what was taken before like all else, either way


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> PopularityScorer:
    settings_of(EverPopular, params, "popularity")
    check_interactions(past, until_us, "popularity")
    return fit_popularity(past, until_us, PopularitySettings(None))


def _space(suggest: Suggest) -> dict[str, Any]:
    return {}


POPULARITY = RecommenderModel("popularity", _fit, _space, defaults_of(EverPopular()))
