"""What is taken most, of late: the recommender's baseline, and its stand-in when nothing else is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.interactions import Interactions
from training.scorers import PopularityScorer


@dataclass(frozen=True, slots=True)
class PopularitySettings:
    half_life_days: float | None = 30.0  # weight of an interaction halves every so many days; None: never


def fit_popularity(past: Interactions, until_us: int, settings: PopularitySettings) -> PopularityScorer:
    """The log of each offer's customers, aged to `until_us`; one customer counts once per offer."""
    pairs, weight = past.pairs(until_us, settings.half_life_days)
    per_pair = np.minimum(weight, 1.0)
    counts = np.bincount(pairs % max(len(past.offers), 1), weights=per_pair, minlength=len(past.offers))
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
