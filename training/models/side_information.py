"""What attributes say of customers and offers that the log does not know: learned maps from tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from features.catalogue import Offer
from training.scorers.like import LikeOffers, described
from training.tokens import WORDS, Tokens, fit_tokens, fit_words

BUCKETS, MIN_COUNT = 8, 5  # per number; rows that a category, or a word, needs to become a token


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


def token_map(
    described: Described, targets: NDArray[Any] | sparse.csr_matrix, l2: float, weight: NDArray[Any] | None = None
) -> TokenMap:
    """Targets (n_rows, m) by tokens, each row counting `weight` (n_rows,); `l2` is in rows, as if so many were average.

    The tokens of each field have mean 0, so that a row without tokens is the mean.
    """
    tokens = described.of.astype(np.float64)
    weight = np.ones(tokens.shape[0]) if weight is None else np.asarray(weight, np.float64)
    total = max(float(weight.sum()), 1e-12)
    share = np.asarray(tokens.T @ weight).ravel() / total
    mean = np.asarray(targets.T @ weight).ravel() / total
    if not described.tokens.n_tokens or not tokens.shape[0]:
        return TokenMap(mean.astype(np.float32), np.zeros((described.tokens.n_tokens, len(mean)), np.float32))
    weighted = sparse.diags(weight) @ tokens
    gram = (tokens.T @ weighted).toarray() - total * np.outer(share, share)
    product = weighted.T @ targets
    product = np.asarray(product.todense() if sparse.issparse(product) else product) - total * np.outer(share, mean)
    found = np.linalg.solve(gram + l2 * np.eye(len(gram)), product)
    for start, field in zip(described.tokens.starts, described.tokens.fields, strict=True):
        part = slice(start, start + field.n_tokens)
        if share[part].sum() > 0:
            found[part] -= share[part] @ found[part] / share[part].sum()
    return TokenMap(mean.astype(np.float32), found.astype(np.float32))


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
