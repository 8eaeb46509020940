"""The scorer of factor models: LightFM and what is blended with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from training.factors import boost, boost_many, taken_last, taste_of
from training.kept import Kept, read_only
from training.scorers.base import Affinity, Arrays, expect
from training.scorers.like import described
from training.tokens import Tokens


@dataclass(frozen=True, slots=True)
class FactorSide:
    """The offers of one catalogue, and the tastes of the customers who were asked about last."""

    factors: NDArray[np.float32]  # (n_offers, k)
    biases: NDArray[np.float32]  # (n_offers,)
    row_of_trained: NDArray[np.int32]  # (n_trained,) row of each trained offer in this catalogue, -1 if it left
    tastes: Kept[tuple[int, ...], Affinity]  # by row of the customer, and tokens


@dataclass(frozen=True, slots=True)
class FactorScorer:
    """Factors of identity plus attributes on both sides; the unknown are scored from attributes alone.

    Affinity is their product, plus the offer's bias, plus a boost for offers that the customer took before.
    """

    KIND: ClassVar[str] = "factors"
    version: str
    offer_map: tuple[str, ...]
    customers: Mapping[str, int]  # customer id -> row
    customer_tokens: Tokens
    offer_tokens: Tokens
    customer_factors: NDArray[np.float32]  # (n_customers, k)
    offer_factors: NDArray[np.float32]  # (n_trained, k)
    offer_biases: NDArray[np.float32]  # (n_trained,)
    customer_token_factors: NDArray[np.float32]  # (n_customer_tokens, k)
    offer_token_factors: NDArray[np.float32]  # (n_offer_tokens, k)
    offer_token_biases: NDArray[np.float32]  # (n_offer_tokens,)
    new_offer_bias: float  # stands in for the identity bias of an offer that was not trained
    new_customer_factors: NDArray[np.float32]  # (k,) stand in for those of identity
    new_offer_factors: NDArray[np.float32]  # (k,) likewise
    repeats: bool  # whether offers taken before may be recommended again
    taken_start: NDArray[np.int64]  # (n_customers + 1,) where each customer's part of `taken` begins
    taken: NDArray[np.int32]  # rows of trained offers that the customer took before
    taken_boost: NDArray[np.float32]  # parallel to `taken`: added to the affinity, with `repeats`

    def prepare(self, offers: Sequence[Offer]) -> FactorSide:
        trained = {offer_id: row for row, offer_id in enumerate(self.offer_map)}
        factors = np.tile(self.new_offer_factors, (len(offers), 1))
        biases = np.full(len(offers), self.new_offer_bias, dtype=np.float32)
        row_of_trained = np.full(len(self.offer_map), -1, dtype=np.int32)
        for row, offer in enumerate(offers):
            known = trained.get(offer.offer_id)
            if known is not None:
                factors[row], biases[row] = self.offer_factors[known], self.offer_biases[known]
                row_of_trained[known] = row
            tokens = self.offer_tokens.of(described(offer))
            factors[row] += self.offer_token_factors[tokens].sum(axis=0)
            biases[row] += self.offer_token_biases[tokens].sum()
        side = FactorSide(factors, biases, row_of_trained, Kept(len(offers)))
        self._taste(-1, [], side)  # compiled now, not by the first customers
        boost(biases, row_of_trained, self.taken[:0], self.taken_boost[:0])
        return side

    def taste(self, customer_id: str, features: Mapping[str, Any], side: FactorSide) -> Affinity:
        row = self.customers.get(customer_id, -1)
        tokens = self.customer_tokens.of(features)
        key = (row, *tokens)
        scores = side.tastes.get(key)
        if scores is None:
            scores = self._taste(row, tokens, side)
            side.tastes.put(key, scores)
        return scores

    def _taste(self, row: int, tokens: list[int], side: FactorSide) -> Affinity:
        own = self.customer_factors[row] if row >= 0 else self.new_customer_factors
        of_tokens = self.customer_token_factors
        scores: Affinity = taste_of(of_tokens, np.array(tokens, np.int64), own, side.factors, side.biases)
        if row >= 0 and self.repeats:
            part = self._of(row)
            boost(scores, side.row_of_trained, self.taken[part], self.taken_boost[part])
        return read_only(scores)

    def affinity(self, customer_id: str, features: Mapping[str, Any], side: FactorSide) -> Affinity:
        """Taste; offers taken before come last if they may not be repeated."""
        scores = self.taste(customer_id, features, side).copy()
        row = self.customers.get(customer_id)
        if row is not None and not self.repeats and scores.size:
            at = side.row_of_trained[self.taken[self._of(row)]]
            scores[at[at >= 0]] = scores.min()
        return scores

    def many(self, customers: Sequence[str], features: Sequence[Mapping[str, Any]], side: FactorSide) -> Affinity:
        rows = np.array([self.customers.get(customer, -1) for customer in customers], np.int64)
        scores: Affinity = self.vectors(rows, features) @ side.factors.T
        scores += side.biases
        if self.repeats:
            boost_many(scores, rows, side.row_of_trained, self.taken_start, self.taken, self.taken_boost)
        else:
            taken_last(scores, rows, side.row_of_trained, self.taken_start, self.taken)
        return scores

    def vectors(self, rows: NDArray[np.int64], features: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Factors of customers by row, -1 if unknown, and features; shape (n_customers, k)."""
        own = np.tile(self.new_customer_factors, (len(rows), 1))
        own[rows >= 0] = self.customer_factors[rows[rows >= 0]]
        tokens = [self.customer_tokens.of(one) for one in features]
        if self.customer_tokens.n_tokens:
            at = np.repeat(np.arange(len(tokens)), [len(of) for of in tokens])
            np.add.at(own, at, self.customer_token_factors[[token for of in tokens for token in of]])
        return own

    def _of(self, row: int) -> slice:
        """A customer's part of `taken`."""
        return slice(self.taken_start[row], self.taken_start[row + 1])

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        names = (
            "customer_factors", "offer_factors", "offer_biases", "customer_token_factors", "offer_token_factors",
            "offer_token_biases", "taken_start", "taken", "taken_boost", "new_customer_factors", "new_offer_factors",
        )  # fmt: skip
        meta = {
            "customers": list(self.customers),
            "customer_tokens": msgspec.to_builtins(self.customer_tokens),
            "offer_tokens": msgspec.to_builtins(self.offer_tokens),
            "new_offer_bias": self.new_offer_bias,
            "repeats": self.repeats,
        }
        return meta, {name: getattr(self, name) for name in names}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> FactorScorer:
        k = arrays["offer_factors"].shape[1]
        nothing = {name: np.zeros(k, np.float32) for name in ("new_customer_factors", "new_offer_factors")}
        scorer = cls(
            version=meta["version"],
            offer_map=offer_map,
            customers={customer: row for row, customer in enumerate(meta["customers"])},
            customer_tokens=msgspec.convert(meta["customer_tokens"], Tokens),
            offer_tokens=msgspec.convert(meta["offer_tokens"], Tokens),
            new_offer_bias=meta["new_offer_bias"],
            repeats=meta["repeats"],
            **{**nothing, **arrays},  # a release of the first version is without them
        )
        for name in nothing:
            expect(name, getattr(scorer, name), (k,))
        expect("offer_factors", scorer.offer_factors, (len(offer_map), k))
        expect("offer_biases", scorer.offer_biases, (len(offer_map),))
        expect("customer_factors", scorer.customer_factors, (len(meta["customers"]), k))
        expect("customer_token_factors", scorer.customer_token_factors, (scorer.customer_tokens.n_tokens, k))
        expect("offer_token_factors", scorer.offer_token_factors, (scorer.offer_tokens.n_tokens, k))
        expect("offer_token_biases", scorer.offer_token_biases, (scorer.offer_tokens.n_tokens,))
        expect("taken_start", scorer.taken_start, (len(meta["customers"]) + 1,))
        expect("taken_boost", scorer.taken_boost, scorer.taken.shape)
        return scorer
