"""EASE: each offer from all others by ridge regression, in closed form.

Source: Steck (2019), "Embarrassingly Shallow Autoencoders for Sparse Data", https://arxiv.org/abs/1905.03375
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, sparse

from features.errors import NotTrainable
from training.interactions import Interactions
from training.models.base import (
    Params,
    RecommenderModel,
    Suggest,
    check_interactions,
    defaults_of,
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

MOST_OFFERS = 20_000  # that were taken: their dense inverse takes 3.2 GB


@dataclass(frozen=True, slots=True)
class EaseSettings(ItemItemSettings):
    l2: float = 300.0

    def __post_init__(self) -> None:
        super(EaseSettings, self).__post_init__()
        positive(self, "l2")


def ease_weights(taken: sparse.csr_matrix, l2: float, n_neighbours: int) -> sparse.csr_matrix:
    """Weights (n_offers, n_offers) from what was taken (n_customers, n_offers); the diagonal is 0."""
    n_offers = taken.shape[1]
    rows = np.flatnonzero(taken.getnnz(axis=0))
    among = taken[:, rows].astype(np.float64)
    gram = (among.T @ among).toarray()
    gram[np.diag_indices_from(gram)] += l2
    inverse, failed = linalg.lapack.dpotri(linalg.cholesky(gram, overwrite_a=True, check_finite=False), overwrite_c=1)
    if failed:
        raise NotTrainable("ease", f"the matrix of {len(rows)} offers cannot be inverted with l2 == {l2}")
    inverse = np.triu(inverse) + np.triu(inverse, 1).T

    def columns() -> Any:
        for start in range(0, len(rows), BLOCK):
            at = np.arange(start, min(start + BLOCK, len(rows)))
            block = -inverse[at] / inverse[at, at][:, None]  # the inverse is symmetric: a row is a column
            block[np.arange(len(at)), at] = 0.0
            yield block

    return spread(strongest(columns(), len(rows), n_neighbours), rows, n_offers)


def spread(weights: sparse.csr_matrix, rows: Any, n_offers: int) -> sparse.csr_matrix:
    """Weights among some offers as weights among all."""
    found = weights.tocoo()
    return sparse.csr_matrix((found.data, (rows[found.row], rows[found.col])), shape=(n_offers, n_offers))


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> ItemItemScorer:
    settings = settings_of(EaseSettings, params, "ease")
    check_interactions(past, until_us, "ease")
    n_taken = len(np.unique(past.offer))
    if n_taken > MOST_OFFERS:
        raise NotTrainable("ease", f"{n_taken:,} offers were taken, and it inverts a matrix of at most {MOST_OFFERS:,}")
    known = interactions_matrix(past, until_us, settings)
    weights = ease_weights(known.taken, settings.l2, settings.n_neighbours)
    return item_item_scorer(past, until_us, known, weights, settings)


def _space(suggest: Suggest) -> dict[str, Any]:
    return {**space_of_weights(suggest), "l2": suggest.suggest_float("l2", 10.0, 5000.0, log=True)}


EASE = RecommenderModel("ease", _fit, _space, defaults_of(EaseSettings()))
