"""Weights of a linear score: by a softmax per customer over rivals, then group by group for what the first ten hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Values = NDArray[np.float32]
MAX_STEPS = 100
FACTORS = (0.0, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
ROUNDS = 2
LEAST_GAIN = 1e-4  # in NDCG: what is less is noise


class Choices(NamedTuple):
    """For each customer some offers, and which of them were taken afterwards."""

    terms: Values  # (n_customers, n_candidates, n_terms)
    there: NDArray[np.bool_]  # (n_customers, n_candidates) False fills up the rows of customers with fewer
    taken: NDArray[np.bool_]  # (n_customers, n_candidates) within `there`
    n_taken: NDArray[np.int64]  # (n_customers,) of all offers

    @property
    def n_taken_there(self) -> NDArray[np.int64]:
        """(n_customers,) how many of them are among the candidates."""
        found: NDArray[np.int64] = self.taken.sum(axis=1)
        return found

    def part(self, keep: NDArray[np.bool_]) -> Choices:
        return Choices(self.terms[keep], self.there[keep], self.taken[keep], self.n_taken[keep])


class Learned(NamedTuple):
    weights: NDArray[np.float64]  # (n_terms,) for terms as they are
    spread: NDArray[np.float64]  # (n_terms,) a term's standard deviation among the candidates


def learn_weights(windows: Sequence[Choices], prior: NDArray[np.float64], l2: float) -> Learned:
    """Least mean cross-entropy between softmax(terms @ weights) and what was taken, each customer counting once.

    `l2` pulls weights per standard deviation, (n_terms,), towards `prior`. Candidates alone compete: the far end of a
    catalogue, which no list ever shows, does not bend the weights. Source: Cao et al. (2007), "Learning to Rank: From
    Pairwise Approach to Listwise Approach", https://doi.org/10.1145/1273496.1273513
    """
    spread = _spread(windows)
    prepared = [(of.terms / spread.astype(np.float32), of.there, _shares(of.taken)) for of in windows]
    n = sum(len(of.terms) for of in windows)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        off = weights - prior
        total, slope = 0.5 * l2 * float(off @ off), l2 * off
        for terms, there, share in prepared:
            scores = np.where(there, terms @ weights.astype(np.float32), -np.inf)
            scores -= scores.max(axis=1, keepdims=True)
            chance = np.exp(scores)
            sums = chance.sum(axis=1, keepdims=True)
            total -= float((share * np.where(there, scores - np.log(sums), 0.0)).sum()) / n
            slope = slope + np.tensordot(chance / sums - share, terms, axes=2).astype(np.float64) / n
        return total, slope

    found = optimize.minimize(loss, prior, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS, "ftol": 1e-7})
    return Learned(found.x / spread, spread)


def balanced(windows: Sequence[Choices], learned: Learned, groups: Sequence[slice], k: int = 10) -> Learned:
    """The weights of each group of terms times the factor, of `FACTORS`, with which NDCG@k is best; in turn.

    Cross-entropy counts all that was taken alike, lists show the first few: with one number per group what it learned
    is bent towards them, and there is too little freedom to learn the windows by heart.
    """
    parts = [[of.terms[:, :, group] @ learned.weights[group].astype(np.float32) for group in groups] for of in windows]
    factors = np.ones(len(groups))

    def figure(tried: NDArray[np.float64]) -> float:
        found = [
            ndcg(sum(by * part for by, part in zip(tried.tolist(), of_groups, strict=True)), of, k)
            for of, of_groups in zip(windows, parts, strict=True)
        ]
        return float(np.concatenate(found).mean())

    best = figure(factors)
    for _ in range(ROUNDS):
        for at in range(len(groups)):
            for by in FACTORS:
                tried = factors.copy()
                tried[at] = by
                if (value := figure(tried)) > best + LEAST_GAIN:
                    best, factors = value, tried
    weights = learned.weights.copy()
    for group, by in zip(groups, factors.tolist(), strict=True):
        weights[group] *= by
    return Learned(weights, learned.spread)


def ndcg(scores: NDArray[Any], of: Choices, k: int) -> NDArray[np.float64]:
    """Of each customer, binary, over the candidates; shape (n_customers,)."""
    rows = np.where(of.there, scores, -np.inf)
    k = min(k, rows.shape[1])
    first = np.argpartition(-rows, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(rows, first, axis=1), axis=1, kind="stable")
    hits = np.take_along_axis(of.taken, np.take_along_axis(first, order, axis=1), axis=1)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    found: NDArray[np.float64] = (hits @ discount) / np.cumsum(discount)[np.minimum(of.n_taken, k) - 1]
    return found


def _spread(windows: Sequence[Choices]) -> NDArray[np.float64]:
    """Of each term, 1 where it never differs."""
    rows = np.concatenate([of.terms[of.there] for of in windows]).astype(np.float64)
    spread = rows.std(axis=0)
    return np.where(spread > 1e-9, spread, 1.0)


def _shares(taken: NDArray[np.bool_]) -> Values:
    found: Values = (taken / taken.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
