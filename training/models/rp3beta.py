"""RP3beta: where a walk from an offer over its customers ends, with popular ends held back.

Source: Paudel et al. (2017), "Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive Applications",
https://doi.org/10.1145/2955101
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
    not_negative,
    positive,
    settings_of,
)
from training.models.item_item import (
    BLOCK,
    ItemItemSettings,
    interactions_matrix,
    item_item_scorer,
    space_of_weights,
    strongest,
)
from training.scorers import ItemItemScorer


@dataclass(frozen=True, slots=True)
class Rp3betaSettings(ItemItemSettings):
    alpha: float = 0.8  # power of each step's probability
    beta: float = 0.4  # power of the popularity that an end is divided by

    def __post_init__(self) -> None:
        super(Rp3betaSettings, self).__post_init__()
        positive(self, "alpha")
        not_negative(self, "beta")


def rp3beta_weights(taken: sparse.csr_matrix, alpha: float, beta: float, n_neighbours: int) -> sparse.csr_matrix:
    """Weights (n_offers, n_offers) from what was taken (n_customers, n_offers); the diagonal is 0."""
    to_offer = _steps(taken, alpha).T.tocsr()  # (n_offers, n_customers): from a customer to the offer
    to_customer = _steps(taken.T.tocsr(), alpha).T.tocsr()  # (n_customers, n_offers): from the offer to the customer
    held_back = np.maximum(np.asarray(taken.sum(axis=0)).ravel(), 1e-12) ** beta

    def columns() -> Iterator[NDArray[np.float64]]:
        for start in range(0, len(held_back), BLOCK):
            at = np.arange(start, min(start + BLOCK, len(held_back)))
            block = (to_offer[at] @ to_customer).toarray() / held_back[at, None]
            block[np.arange(len(at)), at] = 0.0
            yield block

    return strongest(columns(), len(held_back), n_neighbours)


def _steps(taken: sparse.csr_matrix, alpha: float) -> sparse.csr_matrix:
    """The probability of a step from each row to each column, to the power of alpha."""
    taken = taken.astype(np.float64)
    total = np.asarray(taken.sum(axis=1)).ravel()
    found = sparse.diags(1.0 / np.maximum(total, 1e-12)) @ taken
    found.data **= alpha
    return found.tocsr()


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> ItemItemScorer:
    settings = settings_of(Rp3betaSettings, params, "rp3beta")
    check_interactions(past, until_us, "rp3beta")
    known = interactions_matrix(past, until_us, settings)
    weights = rp3beta_weights(known.taken, settings.alpha, settings.beta, settings.n_neighbours)
    return item_item_scorer(past, until_us, known, weights, settings)


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        **space_of_weights(suggest),
        "alpha": suggest.suggest_float("alpha", 0.3, 1.5),
        "beta": suggest.suggest_float("beta", 0.0, 1.0),
        "n_neighbours": suggest.suggest_int("n_neighbours", 20, 500, log=True),
    }


RP3BETA = RecommenderModel("rp3beta", _fit, _space, defaults_of(Rp3betaSettings()))
