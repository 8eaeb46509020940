"""What attributes say of customers and offers that the log does not know: learned maps from tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from features.catalogue import Offer
from training.scorers.like import LikeOffers, described
from training.tokens import WORDS, Tokens, fit_tokens, fit_words

BUCKETS, MIN_COUNT = 8, 5  # per number; rows that a category, or a word, needs to become a token
L2S = (30.0, 300.0, 3000.0)  # customers' worth of doubt about what an attribute says
SAMPLED = 300  # customers by whom the scale of scores is measured
FEWEST_JUDGED, MOST_JUDGED = 10, 2000  # customers held out, to see whether attributes help


class Described(NamedTuple):
    """One side's rows as tokens."""

    tokens: Tokens
    of: sparse.csr_matrix  # (n_rows, n_tokens), ones


class TokenMap(NamedTuple):
    """Ridge regression on tokens: a row is the mean plus its tokens."""

    mean: NDArray[np.float32]  # (m,) of a row of average tokens
    token: NDArray[np.float32]  # (n_tokens, m)


def described_customers(profiles: Sequence[Mapping[str, Any]]) -> Described:
    return _described(profiles, words=False)


def described_offers(offers: Sequence[Offer]) -> Described:
    return _described([described(offer) for offer in offers], words=True)


def _described(rows: Sequence[Mapping[str, Any]], *, words: bool) -> Described:
    names = sorted({name for row in rows for name in row} - {WORDS})
    min_count = min(MIN_COUNT, max(len(rows) // 10, 1))
    tokens = fit_tokens(rows, names, buckets=BUCKETS, min_count=min_count)
    if words:
        tokens = Tokens(tokens.fields, fit_words(rows, max(min_count, 2)))
    found = [tokens.of(row) for row in rows]
    start = np.concatenate([[0], np.cumsum([len(of) for of in found])]).astype(np.int64)
    flat = np.array([token for of in found for token in of], np.int32)
    shape = (len(rows), tokens.n_tokens)
    return Described(tokens, sparse.csr_matrix((np.ones(len(flat), np.float32), flat, start), shape=shape))


class TokenRidge:
    """Ridge regressions on the same tokens, prepared once; each row counts `weight` (n_rows,).

    `l2` is in rows, as if so many were average. The tokens of each field have mean 0, so that a row without tokens is
    the mean.
    """

    def __init__(self, described: Described, l2: float, weight: NDArray[Any] | None = None) -> None:
        tokens = described.of.astype(np.float64)
        self._described = described
        self._weight = np.ones(tokens.shape[0]) if weight is None else np.asarray(weight, np.float64)
        self._total = max(float(self._weight.sum()), 1e-12)
        self._share = np.asarray(tokens.T @ self._weight).ravel() / self._total
        self._weighted = sparse.diags(self._weight) @ tokens
        self._factor: Any = None  # of the matrix to be inverted; None: the tokens say nothing
        if described.tokens.n_tokens and tokens.shape[0] and np.isfinite(l2):
            gram = (tokens.T @ self._weighted).toarray() - self._total * np.outer(self._share, self._share)
            self._factor = linalg.cho_factor(gram + l2 * np.eye(len(gram)), overwrite_a=True)

    def map(self, targets: NDArray[Any] | sparse.csr_matrix) -> TokenMap:
        """Targets (n_rows, m) by tokens."""
        mean = np.asarray(targets.T @ self._weight).ravel() / self._total
        tokens = self._described.tokens
        if self._factor is None:
            return TokenMap(mean.astype(np.float32), np.zeros((tokens.n_tokens, len(mean)), np.float32))
        product = self._weighted.T @ targets
        product = np.asarray(product.todense() if sparse.issparse(product) else product)
        found = linalg.cho_solve(self._factor, product - self._total * np.outer(self._share, mean))
        for start, field in zip(tokens.starts, tokens.fields, strict=True):
            part = slice(start, start + field.n_tokens)
            if self._share[part].sum() > 0:
                found[part] -= self._share[part] @ found[part] / self._share[part].sum()
        return TokenMap(mean.astype(np.float32), found.astype(np.float32))


def token_map(
    described: Described, targets: NDArray[Any] | sparse.csr_matrix, l2: float, weight: NDArray[Any] | None = None
) -> TokenMap:
    """One `TokenRidge`."""
    return TokenRidge(described, l2, weight).map(targets)


@dataclass(frozen=True)
class OfferMap:
    """What of offers' factors is in their attributes, and what is left to each: an offer that nobody took is as new."""

    described: Described
    was_taken: NDArray[np.bool_]  # (n_offers,)
    ridge: TokenRidge

    @classmethod
    def of(cls, offers: Sequence[Offer], n_taken: NDArray[Any], l2: float, doubt: float) -> OfferMap:
        """An offer taken `doubt` times counts half as much as one that is taken always."""
        described = described_offers(offers)
        return cls(described, n_taken > 0, TokenRidge(described, l2, n_taken / (n_taken + doubt + 1e-12)))

    def split(self, factors: NDArray[np.float32]) -> tuple[TokenMap, NDArray[np.float32]]:
        """The map, and what is left of `factors` (n_offers, m) beside those of the tokens."""
        found = self.ridge.map(factors)
        left = np.where(self.was_taken[:, None], factors - self.described.of @ found.token, found.mean)
        return found, left.astype(np.float32)


def customer_map(
    described: Described, recent: sparse.csr_matrix, taken: sparse.csr_matrix, l2: float | None = None
) -> TokenMap:
    """What customers with such tokens take lately. Without `l2` it is chosen, and tokens are left out unless they help.

    They help if customers who are held out are ranked better with them than without: NDCG of what they took, above 0
    by more than 1.96 standard errors. `recent`, `taken`: (n_rows, n_offers).
    """
    if l2 is not None:
        return token_map(described, recent, l2)
    n = taken.shape[0]
    shuffled, n_apart = np.random.default_rng(0).permutation(n), min(n // 4, MOST_JUDGED)
    apart, rest = np.sort(shuffled[:n_apart]), np.sort(shuffled[n_apart:])
    if described.tokens.n_tokens and len(apart) >= FEWEST_JUDGED:
        learned = Described(described.tokens, described.of[rest])
        gains = []
        for one in L2S:
            found = token_map(learned, recent[rest], one)
            scores = np.asarray(found.mean + described.of[apart] @ found.token)
            without = np.tile(found.mean, (len(apart), 1))
            gain = _ndcg(scores, taken[apart]) - _ndcg(without, taken[apart])
            gains.append((gain.mean() - 1.96 * gain.std() / np.sqrt(len(gain)), one))
        low, best = max(gains)
        if low > 0.0:
            return token_map(described, recent, best)
    return token_map(described, recent, np.inf)


class CustomerMap:
    """What customers with such attributes take lately, in the factors of any model that was fitted on the same log."""

    def __init__(
        self, profiles: Sequence[Mapping[str, Any]], recent: sparse.csr_matrix, taken: sparse.csr_matrix,
        l2: float | None,
    ) -> None:  # fmt: skip
        """`recent` and `taken` (n_rows, n_offers), of the customers with these profiles."""
        self.described = described_customers(profiles)
        self._offers = customer_map(self.described, recent, taken, l2)

    def split(
        self, customers: NDArray[np.float32], offers: NDArray[np.float32], biases: NDArray[np.float32]
    ) -> tuple[TokenMap, NDArray[np.float32]]:
        """The map to factors (k,) whose product with the offers comes nearest, and what is left to each customer.

        On the scale of the customers' scores: `customers` (n_rows, k), `offers` (n_offers, k), `biases` (n_offers,).
        """
        mean, token = (self._offers.mean.astype(np.float64), self._offers.token.astype(np.float64))
        some = customers[np.linspace(0, len(customers) - 1, min(len(customers), SAMPLED)).astype(int)]
        spread = float(np.median((some @ offers.T + biases).std(axis=1)))
        scale = spread / max(float(mean.std()), 1e-12)
        centred = offers.astype(np.float64) - offers.mean(axis=0)  # a shift of all scores changes no order
        gram = centred.T @ centred
        gram += np.eye(len(gram)) * (1e-6 * np.trace(gram) / max(len(gram), 1) + 1e-12)
        target = np.vstack([scale * mean - biases, scale * token])
        found = np.linalg.solve(gram, centred.T @ (target - target.mean(axis=1, keepdims=True)).T).T
        mapped = TokenMap(found[0].astype(np.float32), found[1:].astype(np.float32))
        return mapped, (customers - self.described.of @ mapped.token).astype(np.float32)


def _ndcg(scores: NDArray[Any], taken: sparse.csr_matrix, k: int = 10) -> NDArray[np.float64]:
    """(n_rows,) of what was taken, for the first k by score."""
    k = min(k, scores.shape[1])
    best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1), axis=1)
    hits = np.take_along_axis((taken > 0).toarray(), best, axis=1)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(taken.getnnz(axis=1), k) - 1]
    found: NDArray[np.float64] = (hits * discount).sum(axis=1) / ideal
    return found


def like_offers(offers: Sequence[Offer], was_taken: NDArray[np.bool_], n_like: int) -> LikeOffers:
    """The descriptions of offers that somebody took; a token weighs the log of how rare it is."""
    found = described_offers(offers)
    of = found.of[was_taken.nonzero()[0]].tocsc()
    rows = np.flatnonzero(was_taken).astype(np.int32)
    count = np.diff(of.indptr)
    weight = np.log((1.0 + len(rows)) / (1.0 + count))
    norm = np.sqrt(np.asarray(found.of @ weight**2).ravel())
    return LikeOffers(
        tokens=found.tokens,
        n_like=n_like,
        token_weight=weight.astype(np.float32),
        token_start=of.indptr.astype(np.int64),
        token_of=rows[of.indices],
        norm=norm.astype(np.float32),
    )
