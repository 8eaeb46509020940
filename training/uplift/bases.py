"""What the learners of uplift are built on: a model of a chance, and one of a number, as arrays that serve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from training.encoder import Encoder
from training.linear import Linear
from training.scorers.classifier import Raw
from training.trees import flatten
from training.uplift.trial import Flags, Rows

Numbers = NDArray[np.float64]
# Effects are small beside outcomes, so trees are fewer and leaves larger than those that predict an outcome. Of ten
# settings the ones whose effects came nearest to doubly robust ones on half of Hillstrom's customers.
TREES = {"learning_rate": 0.05, "max_iter": 40, "max_leaf_nodes": 4, "min_samples_leaf": 200, "l2_regularization": 10.0}


class Base(Protocol):
    """One kind of model; `kind` is how serving reads it."""

    @property
    def kind(self) -> str: ...

    def chance(self, encoder: Encoder, rows: Rows, y: Flags, seed: int) -> Raw:
        """A model whose value is the log-odds of y."""
        ...

    def number(self, encoder: Encoder, rows: Rows, target: Numbers, seed: int) -> Raw:
        """A model whose value is the mean of the target."""
        ...


class Trees:
    kind = "trees"

    def chance(self, encoder: Encoder, rows: Rows, y: Flags, seed: int) -> Raw:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            **TREES, categorical_features=encoder.categorical or None, early_stopping=False, random_state=seed
        )
        with threadpool_limits(1, user_api="openmp"):  # the same sums, so the same trees, on any number of cores
            return flatten(model.fit(rows, y))

    def number(self, encoder: Encoder, rows: Rows, target: Numbers, seed: int) -> Raw:
        from sklearn.ensemble import HistGradientBoostingRegressor

        model = HistGradientBoostingRegressor(
            **TREES, categorical_features=encoder.categorical or None, early_stopping=False, random_state=seed
        )
        with threadpool_limits(1, user_api="openmp"):
            return flatten(model.fit(rows, target))


@dataclass(frozen=True, slots=True)
class Logistic:
    """A logistic regression of a chance, a linear one of a number; columns are standardised."""

    c: float = 0.03  # inverse penalty of the first, and the penalty of the second
    alpha: float = 300.0
    kind: str = "linear"

    def chance(self, encoder: Encoder, rows: Rows, y: Flags, seed: int) -> Raw:
        from sklearn.linear_model import LogisticRegression

        shape = _shape(encoder, rows)
        fitted = LogisticRegression(C=self.c, max_iter=500).fit(_design(shape, rows), y)
        return _weighed(shape, fitted.coef_[0], float(fitted.intercept_[0]))

    def number(self, encoder: Encoder, rows: Rows, target: Numbers, seed: int) -> Raw:
        from sklearn.linear_model import Ridge

        shape = _shape(encoder, rows)
        fitted = Ridge(alpha=self.alpha, solver="sparse_cg", tol=1e-8).fit(_design(shape, rows), target)
        return _weighed(shape, fitted.coef_, float(fitted.intercept_))


BASES: dict[str, Base] = {"trees": Trees(), "logistic": Logistic()}


def _shape(encoder: Encoder, rows: Rows) -> Linear:
    """A linear model of these columns, centred and scaled by these rows, with all weights 0."""
    numbers = np.array([at for at, of in enumerate(encoder.columns) if of.values is None], dtype=np.int64)
    categories = np.array([at for at, of in enumerate(encoder.columns) if of.values is not None], dtype=np.int64)
    values = rows[:, numbers]
    logs = np.sign(values) * np.log1p(np.abs(values))
    known = ~np.isnan(logs)
    n_known = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, logs, 0.0).sum(axis=0) / n_known
    spread = np.sqrt(np.where(known, (logs - centre) ** 2, 0.0).sum(axis=0) / n_known)
    sizes = [len(encoder.columns[at].values or ()) + 1 for at in categories]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Linear(
        numbers=numbers,
        centre=centre,
        scale=np.where(spread > 1e-9, spread, 1.0),
        weights=np.zeros(len(numbers)),
        missing_weights=np.zeros(len(numbers)),
        categories=categories,
        starts=starts,
        category_weights=np.zeros(int(starts[-1])),
        intercept=np.zeros(1),
    )


def _design(shape: Linear, rows: Rows) -> sparse.csr_matrix:
    """Numbers, whether each is missing, and one column per code; what a weight each then stands for."""
    z = shape.standardised(rows)
    missing = np.isnan(z)
    parts = [sparse.csr_matrix(np.where(missing, 0.0, z)), sparse.csr_matrix(missing.astype(np.float64))]
    for at, column in enumerate(shape.categories):
        size = int(shape.starts[at + 1] - shape.starts[at])
        codes = np.where(np.isnan(rows[:, column]), size - 1, rows[:, column]).astype(np.int64)
        at_rows = (np.arange(len(rows)), np.minimum(codes, size - 1))
        parts.append(sparse.csr_matrix((np.ones(len(rows)), at_rows), shape=(len(rows), size)))
    return sparse.hstack(parts, format="csr")


def _weighed(shape: Linear, weights: Numbers, intercept: float) -> Linear:
    k = len(shape.numbers)
    return replace(
        shape,
        weights=weights[:k].copy(),
        missing_weights=weights[k : 2 * k].copy(),
        category_weights=weights[2 * k :].copy(),
        intercept=np.array([intercept]),
    )
