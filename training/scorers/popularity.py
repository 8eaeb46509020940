"""The scorer of popularity: the same affinity for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.kept import read_only
from training.scorers.base import Affinity, Arrays, expect


@dataclass(frozen=True, slots=True)
class PopularityScorer:
    """The same affinity for everybody: the log of how much an offer was taken lately."""

    KIND: ClassVar[str] = "popularity"
    version: str
    offer_map: tuple[str, ...]
    scores: NDArray[np.float32]  # (n_trained,)
    category_scores: Mapping[str, float]  # for offers that were not trained: the median of their category
    new_offer_score: float  # and of all

    def prepare(self, offers: Sequence[Offer]) -> Affinity:
        trained = dict(zip(self.offer_map, self.scores.tolist(), strict=True))
        scores = [
            trained.get(o.offer_id, self.category_scores.get(o.category or "", self.new_offer_score)) for o in offers
        ]
        return read_only(np.array(scores, dtype=np.float32))

    def taste(self, customer_id: str, features: Mapping[str, Any], side: Affinity) -> Affinity:
        return side

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: Affinity) -> Affinity:
        return side.copy()

    def many(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]], side: Affinity) -> Affinity:
        return np.tile(side, (len(customers), 1))

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta = {"category_scores": dict(self.category_scores), "new_offer_score": self.new_offer_score}
        return meta, {"scores": self.scores}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> PopularityScorer:
        expect("scores", arrays["scores"], (len(offer_map),))
        return cls(meta["version"], offer_map, arrays["scores"], meta["category_scores"], meta["new_offer_score"])
