"""Matrix factorisation of implicit feedback by alternating least squares, as `implicit` computes it.

Source: Hu, Koren and Volinsky (2008), "Collaborative Filtering for Implicit Feedback Datasets",
https://doi.org/10.1109/ICDM.2008.22
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    not_negative,
    one_of,
    positive,
    positive_or_none,
    settings_of,
)
from training.models.lightfm import without_factors
from training.models.matrix import WEIGHTINGS, Weighting, matrix
from training.models.side_information import CustomerMap, OfferMap
from training.scorers import FactorScorer


@dataclass(frozen=True, slots=True)
class AlsSettings:
    n_factors: int = 64
    l2: float = 1.0
    alpha: float = 3.0  # how much more sure it is of what was taken than of what was not
    iterations: int = 15
    weighting: Weighting = "binary"
    half_life_days: float | None = None
    customer_l2: float | None = None  # customers' worth of doubt about what an attribute says; None: by those held out
    popular_half_life_days: float | None = 30.0  # of what customers without history get
    offer_l2: float = 2.0  # offers' worth
    doubt: float = 5.0  # times that an offer must be taken to count half as much, when attributes are learned from it
    repeats: bool = False

    def __post_init__(self) -> None:
        positive(self, "n_factors", "alpha", "iterations", "offer_l2")
        positive_or_none(self, "half_life_days", "popular_half_life_days", "customer_l2")
        not_negative(self, "l2", "doubt")
        one_of(self, "weighting", WEIGHTINGS)


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> FactorScorer:
    settings = settings_of(AlsSettings, params, "als")
    check_interactions(past, until_us, "als")
    active, taken = matrix(past, until_us, settings.weighting, settings.half_life_days)
    customer_factors, offer_factors = _factors(taken, settings, seed)
    recent = matrix(past, until_us, "binary", settings.popular_half_life_days).taken
    customers = CustomerMap([past.profiles[row] for row in active], recent, taken, settings.customer_l2)
    n_taken = np.asarray(taken.getnnz(axis=0)).ravel()
    offers = OfferMap.of(past.offers, n_taken, settings.offer_l2, settings.doubt)
    biases = np.zeros(len(past.offers), np.float32)
    of_customer, left_to_customers = customers.split(customer_factors, offer_factors, biases)
    of_offer, left_to_offers = offers.split(offer_factors)
    return replace(
        without_factors(past, active, repeats=settings.repeats),
        customer_tokens=customers.described.tokens,
        offer_tokens=offers.described.tokens,
        customer_factors=left_to_customers,
        offer_factors=left_to_offers,
        customer_token_factors=of_customer.token,
        offer_token_factors=of_offer.token,
        offer_token_biases=np.zeros(len(of_offer.token), np.float32),
        new_customer_factors=of_customer.mean,
        new_offer_factors=of_offer.mean,
    )


def _factors(taken: Any, settings: AlsSettings, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(n_customers, k), (n_offers, k). On one thread, the same seed gives the same."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=settings.n_factors, regularization=settings.l2, alpha=settings.alpha,
            iterations=settings.iterations, num_threads=1, random_state=seed,
        )  # fmt: skip
        model.fit(taken, show_progress=False)
    return np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32)


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        "n_factors": suggest.suggest_int("n_factors", 16, 256, log=True),
        "l2": suggest.suggest_float("l2", 0.1, 300.0, log=True),
        "alpha": suggest.suggest_float("alpha", 1.0, 100.0, log=True),
        "weighting": suggest.suggest_categorical("weighting", list(WEIGHTINGS)),
        "half_life_days": suggest.suggest_categorical("half_life_days", [None, 60.0, 180.0]),
    }


ALS = RecommenderModel("als", _fit, _space, defaults_of(AlsSettings()))
