"""The scorer of item–item models (EASE, item-KNN, RP3beta): what a customer took says what else would suit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.factors import taken_last
from training.item_item import item_best_of_many, item_scores, item_scores_of_many
from training.kept import Kept, read_only
from training.scorers.base import Affinity, Arrays, expect
from training.scorers.like import Like, LikeOffers, described
from training.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ItemItemSide:
    """The offers of one catalogue, and the tastes of the customers who were asked about last."""

    trained_of: NDArray[np.int32]  # (n_offers,) trained row, -1 where nobody had taken the offer
    row_of_trained: NDArray[np.int32]  # (n_trained,) row of each trained offer in this catalogue, -1 if it left
    like: Like  # of each offer that nobody had taken: trained offers with like attributes
    tastes: Kept[tuple[int, ...], Affinity]  # by row of the customer, and tokens


@dataclass(frozen=True, slots=True)
class ItemItemScorer:
    """Sum over what the customer took of the weights from there to each offer.

    A customer without history is scored by what customers with like attributes take, which is popularity where no
    attribute is known; so, with little weight, is everybody. An offer that nobody had taken yet is scored as those that
    are described alike.
    """

    KIND: ClassVar[str] = "item_item"
    version: str
    offer_map: tuple[str, ...]
    customers: Mapping[str, int]  # customer id -> row
    customer_tokens: Tokens
    repeats: bool  # whether offers taken before may be recommended again
    prior: float  # weight of `popular` and `token_popular` for a customer with history; 1 without
    unseen: float  # an offer that nobody took yet scores this share of the way from the lowest to its likes
    taken_start: NDArray[np.int64]  # (n_customers + 1,) where each customer's part of `taken` begins
    taken: NDArray[np.int32]  # trained rows that the customer took
    taken_weight: NDArray[np.float32]  # parallel to `taken`
    weight_start: NDArray[np.int64]  # (n_trained + 1,) where each trained offer's part of `weight_to` begins
    weight_to: NDArray[np.int32]  # trained rows that the offer speaks for, or against
    weight: NDArray[np.float32]  # parallel to `weight_to`
    was_taken: NDArray[np.bool_]  # (n_trained,) by anybody
    popular: NDArray[np.float32]  # (n_trained,) what everybody takes, on the scale of the scores
    token_popular: NDArray[np.float32]  # (n_customer_tokens, n_trained) how customers with a token differ from all
    like_offers: LikeOffers

    def prepare(self, offers: Sequence[Offer]) -> ItemItemSide:
        trained = {offer_id: row for row, offer_id in enumerate(self.offer_map)}
        known = np.array([trained.get(offer.offer_id, -1) for offer in offers], np.int32)
        row_of_trained = np.full(len(self.offer_map), -1, np.int32)
        row_of_trained[known[known >= 0]] = np.flatnonzero(known >= 0)
        trained_of = np.where((known >= 0) & self.was_taken[known], known, -1) if len(self.offer_map) else known
        unknown = [described(offer) if trained_of[row] < 0 else None for row, offer in enumerate(offers)]
        side = ItemItemSide(
            trained_of.astype(np.int32), row_of_trained, self.like_offers.like(unknown), Kept(len(offers))
        )
        self._taste(-1, [], side)  # compiled now, not by the first customers
        return side

    def taste(self, customer_id: str, features: Mapping[str, Any], side: ItemItemSide) -> Affinity:
        row = self.customers.get(customer_id, -1)
        tokens = self.customer_tokens.of(features)
        key = (row, *tokens) if row < 0 or self.prior else (row,)
        scores = side.tastes.get(key)
        if scores is None:
            scores = read_only(self._taste(row, tokens, side))
            side.tastes.put(key, scores)
        return scores

    def _taste(self, row: int, tokens: list[int], side: ItemItemSide) -> Affinity:
        out = np.empty(len(side.trained_of), np.float32)
        item_scores(out, row, np.array(tokens, np.int64), *self._model(), *_catalogue(side))
        return out

    def _model(self) -> tuple[Any, ...]:
        return (
            self.prior, self.unseen, self.taken_start, self.taken, self.taken_weight,
            self.weight_start, self.weight_to, self.weight, self.popular, self.token_popular,
        )  # fmt: skip

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: ItemItemSide) -> Affinity:
        """Taste; offers taken before come last if they may not be repeated."""
        scores = self.taste(customer_id, features, side).copy()
        if not self.repeats:
            row = np.array([self.customers.get(customer_id, -1)], np.int64)
            taken_last(scores[None], row, side.row_of_trained, self.taken_start, self.taken)
        return scores

    def many(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]], side: ItemItemSide) -> Affinity:
        asked = self._asked(customers, features)
        rows = asked[0]
        out = np.empty((len(rows), len(side.trained_of)), np.float32)
        item_scores_of_many(out, *asked, *self._model(), *_catalogue(side))
        if not self.repeats:
            taken_last(out, rows, side.row_of_trained, self.taken_start, self.taken)
        return out

    def best(
        self,
        customers: Sequence[str],
        features: Sequence[Mapping[str, Any]],
        side: ItemItemSide,
        rows: NDArray[np.int32],
        scores: NDArray[np.float32],
    ) -> None:
        """As `RanksItself` has it."""
        item_best_of_many(
            rows, scores, self.repeats, side.row_of_trained, *self._asked(customers, features), *self._model(),
            *_catalogue(side),
        )  # fmt: skip

    def _asked(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]]) -> tuple[NDArray[np.int64], ...]:
        """Rows of customers, where each one's tokens begin, and the tokens."""
        tokens = [self.customer_tokens.of(one) for one in features]
        token_start = np.concatenate([[0], np.cumsum([len(of) for of in tokens])]).astype(np.int64)
        flat = np.array([token for of in tokens for token in of], np.int64)
        return np.array([self.customers.get(customer, -1) for customer in customers], np.int64), token_start, flat

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta = {
            "customers": list(self.customers),
            "customer_tokens": msgspec.to_builtins(self.customer_tokens),
            "repeats": self.repeats,
            "prior": self.prior,
            "unseen": self.unseen,
            **self.like_offers.meta(),
        }
        return meta, {**{name: getattr(self, name) for name in ARRAYS}, **self.like_offers.arrays()}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> ItemItemScorer:
        customers, n = meta["customers"], len(offer_map)
        tokens = msgspec.convert(meta["customer_tokens"], Tokens)
        expect("taken_start", arrays["taken_start"], (len(customers) + 1,))
        expect("taken_weight", arrays["taken_weight"], arrays["taken"].shape)
        expect("weight_start", arrays["weight_start"], (n + 1,))
        expect("weight", arrays["weight"], arrays["weight_to"].shape)
        expect("was_taken", arrays["was_taken"], (n,))
        expect("popular", arrays["popular"], (n,))
        expect("token_popular", arrays["token_popular"], (tokens.n_tokens, n))
        return cls(
            version=meta["version"],
            offer_map=offer_map,
            customers={customer: row for row, customer in enumerate(customers)},
            customer_tokens=tokens,
            repeats=meta["repeats"],
            prior=meta["prior"],
            unseen=meta["unseen"],
            like_offers=LikeOffers.made_of(meta, arrays, n),
            **{name: arrays[name] for name in ARRAYS},
        )


ARRAYS = (
    "taken_start", "taken", "taken_weight", "weight_start", "weight_to", "weight", "was_taken", "popular",
    "token_popular",
)  # fmt: skip


def _catalogue(side: ItemItemSide) -> tuple[Any, ...]:
    return side.trained_of, side.like.start, side.like.row, side.like.weight
