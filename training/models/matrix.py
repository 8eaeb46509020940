"""Interactions as a matrix of customers and offers, weighed."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.events import US_PER_DAY
from training.interactions import Interactions

Weighting = Literal["binary", "log"]
WEIGHTINGS: tuple[Weighting, ...] = ("binary", "log")


class Matrix(NamedTuple):
    """Who took what; only customers who took anything have a row."""

    active: NDArray[np.int64]  # (n_active,) rows of customers
    taken: sparse.csr_matrix  # (n_active, n_offers), in order; where it is 0, nothing was taken


def matrix(past: Interactions, until_us: int, weighting: Weighting, half_life_days: float | None) -> Matrix:
    """`binary`: 1 however often it was taken; `log`: log(1 + the sum of weights). Both fade with the half-life.

    A binary one fades by the last time, the sum of `log` by each time.
    """
    n_offers = max(len(past.offers), 1)
    if weighting == "log":
        pairs, total = past.pairs(until_us, half_life_days)
        weight = np.log1p(total)
    else:
        pairs, total = past.pairs(until_us, None)
        weight = np.ones(len(pairs))
        if half_life_days is not None:
            weight = 0.5 ** ((until_us - past.last_us()) / (US_PER_DAY * half_life_days))
    customer, offer = np.divmod(pairs, n_offers)
    active = np.unique(customer)
    starts = np.searchsorted(customer, active)
    shape = (len(active), len(past.offers))
    values = np.maximum(weight, 1e-9).astype(np.float32)
    return Matrix(active, sparse.csr_matrix((values, offer.astype(np.int32), [*starts, len(pairs)]), shape=shape))
