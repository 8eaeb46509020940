"""What the item–item models have in common: their settings, and the way from weights to a scorer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from training.interactions import Interactions
from training.models.base import Suggest, not_negative, one_of, positive, positive_or_none
from training.models.matrix import WEIGHTINGS, Matrix, Weighting, matrix
from training.models.side_information import customer_map, described_customers, like_offers
from training.scorers import ItemItemScorer

BLOCK = 512  # offers whose weights are held densely at a time
SAMPLED = 300  # customers by whom the scale of scores is measured


@dataclass(frozen=True, slots=True)
class ItemItemSettings:
    weighting: Weighting = "binary"
    half_life_days: float | None = 180.0  # of what a customer took
    n_neighbours: int = 100  # offers that speak for, or against, an offer: those of the largest weight
    prior: float = 0.02  # of what everybody takes, in standard deviations of the scores
    popular_half_life_days: float | None = 30.0  # of what everybody takes
    customer_l2: float | None = None  # customers' worth of doubt about what an attribute says; None: by those held out
    n_like: int = 10  # offers that stand in for one that nobody took yet
    unseen: float = 0.75  # share of their score that it gets
    repeats: bool = False

    def __post_init__(self) -> None:
        one_of(self, "weighting", WEIGHTINGS)
        positive_or_none(self, "half_life_days", "popular_half_life_days", "customer_l2")
        positive(self, "n_neighbours", "n_like")
        not_negative(self, "prior", "unseen")


def space_of_weights(suggest: Suggest) -> dict[str, Any]:
    """What is worth a search in every item–item model."""
    return {
        "weighting": suggest.suggest_categorical("weighting", list(WEIGHTINGS)),
        "half_life_days": suggest.suggest_categorical("half_life_days", [None, 60.0, 180.0]),
        "prior": suggest.suggest_float("prior", 1e-3, 1.0, log=True),
        "unseen": suggest.suggest_float("unseen", 0.0, 1.0),
    }


def interactions_matrix(past: Interactions, until_us: int, settings: ItemItemSettings) -> Matrix:
    return matrix(past, until_us, settings.weighting, settings.half_life_days)


def strongest(columns: Iterable[NDArray[Any]], n_offers: int, n_neighbours: int) -> sparse.csr_matrix:
    """Weights (n_offers, n_offers) from row to column, of each column the `n_neighbours` largest.

    `columns` are given as rows, in blocks (n_block, n_offers): what speaks for each offer, one after the other.
    """
    blocks = [sparse.csr_matrix((0, n_offers), dtype=np.float32)]
    for block in columns:
        if n_neighbours < n_offers:
            size = np.abs(block)
            least = np.partition(size, n_offers - n_neighbours, axis=1)[:, n_offers - n_neighbours]
            block = np.where(size >= least[:, None], block, 0.0)
        blocks.append(sparse.csr_matrix(block, dtype=np.float32))
    found = sparse.vstack(blocks, format="csr").T.tocsr()
    found.sort_indices()
    return found


def item_item_scorer(
    past: Interactions, until_us: int, known: Matrix, weights: sparse.csr_matrix, settings: ItemItemSettings
) -> ItemItemScorer:
    """`weights` (n_offers, n_offers) from what was taken to what is scored."""
    active, taken = known
    was_taken = np.asarray(taken.getnnz(axis=0)).ravel() > 0
    customers = described_customers([past.profiles[row] for row in active])
    recent = matrix(past, until_us, "binary", settings.popular_half_life_days).taken
    popular = customer_map(customers, recent, taken, l2=settings.customer_l2)
    scale = _scale(taken, weights) / max(float(popular.mean.std()), 1e-12)
    return ItemItemScorer(
        version="",
        offer_map=past.offer_map,
        customers={past.customers[row]: at for at, row in enumerate(active)},
        customer_tokens=customers.tokens,
        repeats=settings.repeats,
        prior=settings.prior,
        unseen=settings.unseen,
        taken_start=taken.indptr.astype(np.int64),
        taken=taken.indices.astype(np.int32),
        taken_weight=taken.data.astype(np.float32),
        weight_start=weights.indptr.astype(np.int64),
        weight_to=weights.indices.astype(np.int32),
        weight=weights.data.astype(np.float32),
        was_taken=was_taken,
        popular=popular.mean * np.float32(scale),
        token_popular=popular.token * np.float32(scale),
        like_offers=like_offers(past.offers, was_taken, settings.n_like),
    )


def _scale(taken: sparse.csr_matrix, weights: sparse.csr_matrix) -> float:
    """The median customer's standard deviation of scores; 1 where all scores are the same."""
    rows = np.unique(np.linspace(0, taken.shape[0] - 1, min(SAMPLED, taken.shape[0])).astype(int))
    spread = float(np.median((taken[rows] @ weights).toarray().std(axis=1)))
    return spread if spread > 0.0 else 1.0
