"""The ways to turn encoded rows into log-odds: a base rate, one column, a logistic regression, boosted trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from training.encoder import Encoder
from training.linear import Linear
from training.trees import Forest, flatten

Rows = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Part:
    """Encoded rows (n, n_columns) with labels (n,), and how much each row counts, (n,); None: all the same."""

    rows: Rows
    y: Labels
    w: NDArray[np.float64] | None = None

    @property
    def weights(self) -> NDArray[np.float64]:
        return np.ones(len(self.y)) if self.w is None else self.w

    def of(self, mask: NDArray[np.bool_]) -> Part:
        """The rows of a mask, (n,)."""
        return self.taken(np.flatnonzero(mask))

    def taken(self, at: NDArray[np.int64]) -> Part:
        """The rows at these positions, in their order and as often as they come."""
        return Part(self.rows[at], self.y[at], None if self.w is None else self.w[at])


@dataclass(frozen=True, slots=True)
class TreeSettings:
    learning_rate: float = 0.1
    max_leaf_nodes: int = 15
    min_samples_leaf: int = 40
    l2: float = 1.0
    max_features: float = 1.0  # share of the columns that each split may choose from
    max_trees: int = 250
    max_bins: int = 255  # groups of values of a column that a split can lie between
    patience: int = 20  # trees without a better validation log loss


def logit(p: float) -> float:
    return float(np.log(p / (1.0 - p)))


def smoothed_rate(part: Part, prior: float, weight: float = 20.0) -> float:
    w = part.weights
    return float(((w * part.y).sum() + prior * weight) / (w.sum() + weight))


def fit_constant(train: Part) -> Linear:
    """The same log-odds for all."""
    return _linear(intercept=logit(smoothed_rate(train, 0.5, 1.0)))


def fit_base_rates(encoder: Encoder, train: Part, column: str) -> Linear:
    """The smoothed rate of each category of one column, the overall rate for others."""
    at = next(i for i, of in enumerate(encoder.columns) if of.name == column)
    values = encoder.columns[at].values or ()
    overall = smoothed_rate(train, 0.5, 1.0)
    codes = train.rows[:, at]
    odds = [logit(smoothed_rate(train.of(codes == code), overall)) - logit(overall) for code in range(len(values))]
    return _linear(logit(overall), categories=[at], category_weights=[[*odds, 0.0]])


def fit_logistic(
    encoder: Encoder,
    train: Part,
    c: float,
    only: str | None = None,
    directions: Sequence[int] | None = None,
) -> Linear:
    """L2-penalised logistic regression on all columns, or on `only` one; `c` is the inverse penalty.

    Of `directions`, as for trees: a column whose weight goes against its own is left out, and the rest fitted again.
    """
    left = frozenset(i for i, of in enumerate(encoder.columns) if only is None or of.name == only)
    while True:
        fitted = _logistic(encoder, train, c, left)
        wanted = np.zeros(len(fitted.numbers)) if directions is None else np.asarray(directions)[fitted.numbers]
        against = fitted.numbers[fitted.weights * wanted < 0]
        if not against.size:
            return fitted
        left -= set(against.tolist())


def _logistic(encoder: Encoder, train: Part, c: float, among: frozenset[int]) -> Linear:
    from sklearn.linear_model import LogisticRegression

    columns = [(i, of) for i, of in enumerate(encoder.columns) if i in among]
    numbers = np.array([i for i, of in columns if of.values is None], dtype=np.int64)
    categories = np.array([i for i, of in columns if of.values is not None], dtype=np.int64)
    logs = np.sign(train.rows[:, numbers]) * np.log1p(np.abs(train.rows[:, numbers]))
    known = ~np.isnan(logs)
    n_known = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, logs, 0.0).sum(axis=0) / n_known
    spread = np.sqrt(np.where(known, (logs - centre) ** 2, 0.0).sum(axis=0) / n_known)
    scale = np.where(spread > 1e-9, spread, 1.0)
    sizes = [len(encoder.columns[i].values or ()) + 1 for i in categories]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    z = np.clip((logs - centre) / scale, -5.0, 5.0)
    codes = [
        np.where(np.isnan(train.rows[:, i]), size - 1, train.rows[:, i]).astype(np.int64) + start
        for i, size, start in zip(categories, sizes, starts, strict=False)
    ]
    design = sparse.hstack(
        [
            sparse.csr_matrix(np.where(known, z, 0.0)),
            sparse.csr_matrix((~known).astype(np.float64)),
            *[_one_hot(of - start, size) for of, start, size in zip(codes, starts, sizes, strict=False)],
        ],
        format="csr",
    )
    fitted = LogisticRegression(C=c, max_iter=500, tol=1e-4).fit(design, train.y, sample_weight=train.w)
    weights = fitted.coef_[0]
    k = len(numbers)
    return Linear(
        numbers=numbers, centre=centre, scale=scale, weights=weights[:k].copy(),
        missing_weights=weights[k : 2 * k].copy(), categories=categories, starts=starts,
        category_weights=weights[2 * k :].copy(), intercept=fitted.intercept_.astype(np.float64),
    )  # fmt: skip


def _one_hot(codes: NDArray[np.int64], size: int) -> sparse.csr_matrix:
    n = len(codes)
    return sparse.csr_matrix((np.ones(n), (np.arange(n), codes)), shape=(n, size))


def _linear(
    intercept: float, categories: list[int] | None = None, category_weights: list[list[float]] | None = None
) -> Linear:
    weights = category_weights or []
    none = np.zeros(0)
    return Linear(
        numbers=np.zeros(0, np.int64), centre=none, scale=none, weights=none, missing_weights=none,
        categories=np.array(categories or [], dtype=np.int64),
        starts=np.cumsum([0, *[len(of) for of in weights]]).astype(np.int64),
        category_weights=np.array([w for of in weights for w in of], dtype=np.float64),
        intercept=np.array([intercept]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TreeFit:
    forest: Forest
    n_trees: int
    curve: tuple[float, ...]  # validation log loss after each tree, from none


def fit_trees(
    encoder: Encoder,
    train: Part,
    validation: Part,
    settings: TreeSettings,
    seed: int,
    directions: Sequence[int] | None = None,
) -> TreeFit:
    """Boosted until the validation log loss stops falling; the trees after its lowest point are cut off.

    `directions`, (n_columns,): 1 where the log-odds may only rise with a number, -1 where they may only fall, else 0.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        **_boosting(encoder, settings, seed, directions),
        max_iter=settings.max_trees,
        early_stopping=True,
        scoring="loss",
        n_iter_no_change=settings.patience,
        tol=0.0,
    )
    with threadpool_limits(1, user_api="openmp"):  # the same sums, so the same trees, on any number of cores
        model.fit(
            splittable(train.rows),
            train.y,
            sample_weight=train.w,
            X_val=validation.rows,
            y_val=validation.y,
            sample_weight_val=validation.w,
        )
    curve = tuple(-float(loss) for loss in model.validation_score_)
    n_trees = max(int(np.argmin(curve)), 1)
    return TreeFit(flatten(model, n_trees), n_trees, curve)


def fit_forest(
    encoder: Encoder,
    train: Part,
    settings: TreeSettings,
    n_trees: int,
    seed: int,
    directions: Sequence[int] | None = None,
) -> Forest:
    """So many trees, whatever they bring."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        **_boosting(encoder, settings, seed, directions), max_iter=n_trees, early_stopping=False
    )
    with threadpool_limits(1, user_api="openmp"):
        model.fit(splittable(train.rows), train.y, sample_weight=train.w)
    return flatten(model)


def splittable(rows: Rows) -> Rows:
    """The rows with zeros in columns of which nothing is known: scikit-learn fails on these, and a constant is not
    split on."""
    nothing = np.isnan(rows).all(axis=0)
    return np.where(nothing, 0.0, rows) if nothing.any() else rows


def _boosting(encoder: Encoder, settings: TreeSettings, seed: int, directions: Sequence[int] | None) -> dict[str, Any]:
    return {
        "learning_rate": settings.learning_rate,
        "max_leaf_nodes": settings.max_leaf_nodes,
        "min_samples_leaf": settings.min_samples_leaf,
        "l2_regularization": settings.l2,
        "max_features": settings.max_features,
        "max_bins": settings.max_bins,
        "categorical_features": encoder.categorical or None,
        "monotonic_cst": list(directions) if directions is not None and any(directions) else None,
        "random_state": seed,
    }
