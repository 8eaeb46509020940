"""Item-KNN: offers that the same customers take, by cosine, shrunk where few did.

Source: Deshpande and Karypis (2004), https://doi.org/10.1145/963770.963776; the asymmetric cosine: Aiolli (2013),
https://doi.org/10.1145/2507157.2507189
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
class ItemKnnSettings(ItemItemSettings):
    shrink: float = 10.0  # customers' worth of doubt about a similarity
    asymmetry: float = 0.5  # the power of the taken offer's length, 1 minus it of the scored one's; 0.5: cosine

    def __post_init__(self) -> None:
        super(ItemKnnSettings, self).__post_init__()
        not_negative(self, "shrink", "asymmetry")


def knn_weights(taken: sparse.csr_matrix, shrink: float, asymmetry: float, n_neighbours: int) -> sparse.csr_matrix:
    """Weights (n_offers, n_offers) from what was taken (n_customers, n_offers); the diagonal is 0."""
    of_offers = taken.T.tocsr().astype(np.float64)
    length = np.asarray(of_offers.multiply(of_offers).sum(axis=1)).ravel()
    from_, to = length**asymmetry, length ** (1.0 - asymmetry)

    def columns() -> Iterator[NDArray[np.float64]]:
        for start in range(0, len(length), BLOCK):
            at = np.arange(start, min(start + BLOCK, len(length)))
            together = (of_offers[at] @ taken).toarray()  # symmetric: a row is a column
            together[np.arange(len(at)), at] = 0.0
            yield together / np.maximum(to[at, None] * from_[None, :] + shrink, 1e-12)

    return strongest(columns(), len(length), n_neighbours)


def _fit(past: Interactions, until_us: int, params: Params, seed: int) -> ItemItemScorer:
    settings = settings_of(ItemKnnSettings, params, "item_knn")
    check_interactions(past, until_us, "item_knn")
    known = interactions_matrix(past, until_us, settings)
    weights = knn_weights(known.taken, settings.shrink, settings.asymmetry, settings.n_neighbours)
    return item_item_scorer(past, until_us, known, weights, settings)


def _space(suggest: Suggest) -> dict[str, Any]:
    return {
        **space_of_weights(suggest),
        "shrink": suggest.suggest_float("shrink", 0.1, 500.0, log=True),
        "asymmetry": suggest.suggest_float("asymmetry", 0.0, 1.0),
        "n_neighbours": suggest.suggest_int("n_neighbours", 20, 500, log=True),
    }


ITEM_KNN = RecommenderModel("item_knn", _fit, _space, defaults_of(ItemKnnSettings()))
