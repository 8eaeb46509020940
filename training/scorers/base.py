"""What every scorer is made of: arrays whose shapes are checked, JSON whose bytes repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BrokenRelease

Arrays = Mapping[str, NDArray[Any]]
Affinity = NDArray[np.float32]
SMALLEST = 1e-6  # no probability is nearer to 0 or 1 than this


class RecommenderScorer(Protocol):
    """Affinity of a customer to offers: finite, higher is better, no unit."""

    @property
    def version(self) -> str: ...
    def prepare(self, offers: Sequence[Offer]) -> Any: ...
    def taste(self, customer_id: str, features: Mapping[str, Any], side: Any) -> Affinity:
        """Shape (n_offers,): how well each offer suits the customer, whatever was taken before. Not to be written to:
        the same customer may get it again."""
        ...

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: Any) -> Affinity:
        """Shape (n_offers,): what to recommend; taste, and what follows from what was taken before."""
        ...


class FittedRecommender(RecommenderScorer, Protocol):
    """A recommender that can also answer for many customers at once."""

    @property
    def offer_map(self) -> tuple[str, ...]: ...
    def many(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]], side: Any) -> Affinity:
        """Shape (n_customers, n_offers): `affinity` of each, to the rounding of a sum in another order."""
        ...


@runtime_checkable
class RanksItself(Protocol):
    """A recommender that finds the best offers of many customers without holding the scores of all."""

    def best(
        self,
        customers: Sequence[str],
        features: Sequence[Mapping[str, Any]],
        side: Any,
        rows: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> None:
        """The best k by `affinity` of each customer into `rows` and `scores` (n_customers, k), best first; ties in
        the order of the catalogue, which has at least k offers."""
        ...


def expect(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise BrokenRelease(f"{name} has shape {array.shape}, its map says {shape}")
