"""The scorer of the learned second stage: several recommenders, recent popularity and the customer's own past, weighed.

What depends on the offer alone is one number per offer, and what depends on a customer and an offer taken before is one
number per such pair: both are worked out when the release is made, however many terms they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.blending import add_part, add_part_of_many
from training.factors import boost, boost_many, taken_last
from training.kept import read_only
from training.scorers.base import Affinity, Arrays, expect
from training.scorers.factors import FactorScorer
from training.scorers.item_item import ItemItemScorer
from training.scorers.popularity import PopularityScorer

Part = FactorScorer | ItemItemScorer | PopularityScorer
PARTS: dict[str, type[Part]] = {kind.KIND: kind for kind in (FactorScorer, ItemItemScorer, PopularityScorer)}
KNOWN, UNKNOWN = 0, 1  # rows of weights: customers with history, and without


@dataclass(frozen=True, slots=True)
class BlendSide:
    """The offers of one catalogue, as each part and the offer's own terms see them."""

    parts: tuple[Any, ...]
    offers: NDArray[np.float32]  # (2, n_offers)
    row_of_trained: NDArray[np.int32]  # (n_trained,) row of each trained offer in this catalogue, -1 if it left


@dataclass(frozen=True, slots=True)
class BlendScorer:
    """A weighted sum, learned from who took what next; each part counts in standard deviations over the catalogue.

    So an affinity compares offers of one catalogue for one customer, and is no number to compare between catalogues.
    """

    KIND: ClassVar[str] = "blend"
    version: str
    offer_map: tuple[str, ...]
    names: tuple[str, ...]  # of the parts
    scorers: tuple[Part, ...]  # that may repeat what was taken: here taste and affinity are the same
    linear: NDArray[np.float32]  # (2, n_parts) weight of each part, by KNOWN and UNKNOWN
    root: NDArray[np.float32]  # (2, n_parts) weight of the signed root of the same
    offer_scores: NDArray[np.float32]  # (2, n_trained) popularity of late, age: all that is of the offer alone
    category_scores: Mapping[str, tuple[float, float]]  # for offers that were not trained: the median of their category
    new_offer_score: tuple[float, float]  # and of all
    repeats: bool  # whether offers taken before may be recommended again
    customers: Mapping[str, int]  # customer id -> row
    taken_start: NDArray[np.int64]  # (n_customers + 1,) where each customer's part of `taken` begins
    taken: NDArray[np.int32]  # rows of trained offers that the customer took before
    taken_boost: NDArray[np.float32]  # parallel to `taken`: added, with `repeats`
    learned: Mapping[str, Mapping[str, float]]  # "known", "unknown" -> term -> weight per standard deviation
    learned_from: int  # customers; 0: too few, the weights are a prior

    def prepare(self, offers: Sequence[Offer]) -> BlendSide:
        side = BlendSide(tuple(part.prepare(offers) for part in self.scorers), *self.of_offers(offers))
        self.taste("", {}, side)  # compiled now, not by the first customers
        boost(side.offers[KNOWN], side.row_of_trained, self.taken[:0], self.taken_boost[:0])
        return side

    def of_offers(self, offers: Sequence[Offer]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What `prepare` finds without asking the parts."""
        trained = {offer_id: row for row, offer_id in enumerate(self.offer_map)}
        scores = np.empty((2, len(offers)), np.float32)
        row_of_trained = np.full(len(self.offer_map), -1, np.int32)
        for row, offer in enumerate(offers):
            known = trained.get(offer.offer_id)
            if known is None:
                scores[:, row] = self.category_scores.get(offer.category or "", self.new_offer_score)
            else:
                scores[:, row] = self.offer_scores[:, known]
                row_of_trained[known] = row
        return scores, row_of_trained

    def taste(self, customer_id: str, features: Mapping[str, Any], side: BlendSide) -> Affinity:
        return read_only(self._taste(customer_id, features, side))

    def _taste(self, customer_id: str, features: Mapping[str, Any], side: BlendSide) -> Affinity:
        row = self.customers.get(customer_id, -1)
        which = KNOWN if row >= 0 else UNKNOWN
        scores: Affinity = side.offers[which].copy()
        for at, (part, of_part) in enumerate(zip(self.scorers, side.parts, strict=True)):
            linear, root = self.linear[which, at], self.root[which, at]
            add_part(scores, part.taste(customer_id, features, of_part), linear, root)
        if row >= 0 and self.repeats:
            mine = slice(self.taken_start[row], self.taken_start[row + 1])
            boost(scores, side.row_of_trained, self.taken[mine], self.taken_boost[mine])
        return scores

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: BlendSide) -> Affinity:
        """Taste; offers taken before come last if they may not be repeated."""
        scores = self._taste(customer_id, features, side)
        row = self.customers.get(customer_id, -1)
        if row >= 0 and not self.repeats:
            taken_last(scores[None], np.array([row]), side.row_of_trained, self.taken_start, self.taken)
        return scores

    def many(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]], side: BlendSide) -> Affinity:
        rows = np.array([self.customers.get(customer, -1) for customer in customers], np.int64)
        which = np.where(rows >= 0, KNOWN, UNKNOWN)
        scores: Affinity = side.offers[which]
        for at, (part, of_part) in enumerate(zip(self.scorers, side.parts, strict=True)):
            said = part.many(customers, features, of_part)
            add_part_of_many(scores, said, which, self.linear[:, at], self.root[:, at])
        if self.repeats:
            boost_many(scores, rows, side.row_of_trained, self.taken_start, self.taken, self.taken_boost)
        else:
            taken_last(scores, rows, side.row_of_trained, self.taken_start, self.taken)
        return scores

    def weights(self) -> Mapping[str, Mapping[str, float]]:
        """What each term contributes: log-odds per standard deviation, for customers with history and without."""
        return self.learned

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in ARRAYS}
        metas = []
        for name, part in zip(self.names, self.scorers, strict=True):
            meta, of_part = part.parts()
            metas.append({"kind": part.KIND, "version": part.version, "arrays": sorted(of_part), **meta})
            arrays |= {f"{name}.{array}": values for array, values in of_part.items()}
        meta = {
            "names": list(self.names),
            "scorers": metas,
            "category_scores": {category: list(scores) for category, scores in self.category_scores.items()},
            "new_offer_score": list(self.new_offer_score),
            "repeats": self.repeats,
            "customers": list(self.customers),
            "learned_from": self.learned_from,
            "learned": {who: dict(terms) for who, terms in self.learned.items()},
        }
        return meta, arrays

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> BlendScorer:
        names, customers = tuple(meta["names"]), meta["customers"]
        for name in ("linear", "root"):
            expect(name, arrays[name], (2, len(names)))
        expect("offer_scores", arrays["offer_scores"], (2, len(offer_map)))
        expect("taken_start", arrays["taken_start"], (len(customers) + 1,))
        expect("taken_boost", arrays["taken_boost"], arrays["taken"].shape)
        return cls(
            version=meta["version"],
            offer_map=offer_map,
            names=names,
            scorers=tuple(
                PARTS[of["kind"]].made_of(of, {array: arrays[f"{name}.{array}"] for array in of["arrays"]}, offer_map)
                for name, of in zip(names, meta["scorers"], strict=True)
            ),
            category_scores={category: (of[0], of[1]) for category, of in meta["category_scores"].items()},
            new_offer_score=(meta["new_offer_score"][0], meta["new_offer_score"][1]),
            repeats=meta["repeats"],
            customers={customer: row for row, customer in enumerate(customers)},
            learned=meta["learned"],
            learned_from=meta["learned_from"],
            **{name: arrays[name] for name in ARRAYS},
        )


ARRAYS = ("linear", "root", "offer_scores", "taken_start", "taken", "taken_boost")
