"""Reward models for off-policy estimators: what each offer would have brought in each row, learned from other rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.logged import Logged, Numbers, Rows

N_FOLDS = 3
MOST_OWN_SLOPES = 1_000  # offers times columns of the context
MOST_PAIRS = 400_000  # of rows and offers that are predicted at once


@dataclass(frozen=True, slots=True)
class Shown:
    """What a reward model is fitted on: the offers that were shown."""

    context: Numbers  # (n, d)
    estimate: Numbers | None  # (n,) of what was shown
    action: Rows  # (n,)
    outcome: Numbers  # (n,)
    n_offers: int


Predict = Callable[[Numbers, Numbers | None], Numbers]  # context (n, d), estimate (n, n_offers) -> (n, n_offers)
Fit = Callable[[Shown], Predict]


def default_fit(outcome: Numbers) -> Fit:
    """Logistic regression of what is either 0 or 1, boosted trees of all else."""
    return fit_logistic if _is_binary(outcome) else fit_boosted_trees


def cross_fitted(logged: Logged, fit: Fit | None = None, n_folds: int = N_FOLDS, seed: int = 0) -> Numbers:
    """Guesses of every reward, (n, n_offers), each row by a model that has seen none of its unit's rows.

    With `worth` in the log, the model learns whether a reward came, and the guess is that chance times the worth.
    Source: Chernozhukov et al., Double/debiased machine learning, Econometrics Journal 21 (2018).
    """
    n = len(logged)
    context = np.zeros((n, 0)) if logged.context is None else logged.context
    outcome = logged.reward if logged.worth is None else (logged.reward != 0.0).astype(np.float64)
    chosen = default_fit(outcome) if fit is None else fit
    shown = None if logged.estimate is None else logged.estimate[np.arange(n), logged.action]
    fold = _folds(logged, n_folds, seed)
    guessed = np.empty((n, len(logged.offers)))
    for k in range(int(fold.max()) + 1):
        learn, judge = fold != k, fold == k
        if not learn.any():
            learn = judge  # one unit only: there is nobody else to learn from
        predict = chosen(
            Shown(
                context[learn],
                None if shown is None else shown[learn],
                logged.action[learn],
                outcome[learn],
                len(logged.offers),
            )
        )
        guessed[judge] = predict(context[judge], None if logged.estimate is None else logged.estimate[judge])
    return guessed if logged.worth is None else guessed * logged.worth


def fit_logistic(shown: Shown) -> Predict:
    """P(1): a level of each offer, a line in the context, and one in the log odds of the estimate. Where offers and
    columns are few, each offer also has a line of its own, drawn to the common one.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(shown.outcome)) < 2:
        return _constant(shown)
    scale = _Scale.of(shown.context)
    dense = scale.columns(shown.context)
    odds = None if shown.estimate is None else _Scale.of(_log_odds(shown.estimate)[:, None])
    of_estimate = np.zeros((len(dense), 0))
    if odds is not None and shown.estimate is not None:
        of_estimate = odds.columns(_log_odds(shown.estimate)[:, None])
    own_lines = dense if dense.shape[1] * shown.n_offers <= MOST_OWN_SLOPES else dense[:, :0]
    blocks = [sparse.csr_matrix(dense), sparse.csr_matrix(of_estimate)]
    blocks += [_own(np.column_stack([np.ones(len(dense)), own_lines]), shown.action, shown.n_offers)]
    model = LogisticRegression(max_iter=2000).fit(sparse.hstack(blocks, "csr"), shown.outcome)
    n_dense, n_estimate = dense.shape[1], of_estimate.shape[1]
    common, slopes, own = np.split(model.coef_[0], [n_dense, n_dense + n_estimate])
    levels = own.reshape(shown.n_offers, -1)

    def predict(context: Numbers, estimate: Numbers | None) -> Numbers:
        columns = scale.columns(context)
        score = model.intercept_[0] + (columns @ common)[:, None] + levels[:, 0]
        if levels.shape[1] > 1:
            score = score + columns @ levels[:, 1:].T
        if odds is not None and estimate is not None:
            score = score + (odds.columns(_log_odds(estimate).reshape(-1, 1)) @ slopes).reshape(estimate.shape)
        chance: Numbers = 1.0 / (1.0 + np.exp(-score))
        return chance

    return predict


def _own(columns: Numbers, action: Rows, n_offers: int) -> Any:
    """Each row's columns in the block of its offer; sparse (n, n_offers * columns)."""
    from scipy import sparse

    n, d = columns.shape
    at = action[:, None] * d + np.arange(d)
    return sparse.csr_matrix((columns.ravel(), at.ravel(), np.arange(0, n * d + 1, d)), shape=(n, n_offers * d))


def fit_boosted_trees(shown: Shown) -> Predict:
    """The mean of any reward, or P(1): offers come in as their own shrunk mean."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    if len(np.unique(shown.outcome)) < 2:
        return _constant(shown)
    binary = _is_binary(shown.outcome)
    level = _levels(shown)
    columns = _tree_columns(shown.context, shown.estimate, level[shown.action])
    kind = HistGradientBoostingClassifier if binary else HistGradientBoostingRegressor
    model = kind(max_iter=100, learning_rate=0.05, max_depth=4, min_samples_leaf=50, random_state=0)
    model.fit(columns, shown.outcome)

    def predict(context: Numbers, estimate: Numbers | None) -> Numbers:
        found = np.empty((len(context), shown.n_offers))
        at_once = max(1, MOST_PAIRS // shown.n_offers)
        for start in range(0, len(context), at_once):
            rows = slice(start, start + at_once)
            some = context[rows]
            pairs = _tree_columns(
                np.repeat(some, shown.n_offers, axis=0),
                None if estimate is None else estimate[rows].ravel(),
                np.tile(level, len(some)),
            )
            said: Any = model.predict_proba(pairs)[:, 1] if binary else model.predict(pairs)
            found[rows] = said.reshape(len(some), shown.n_offers)
        return found

    return predict


def fit_offer_means(shown: Shown) -> Predict:
    """Each offer's shrunk mean, whoever looks at it."""
    level = _levels(shown)
    return lambda context, estimate: np.broadcast_to(level, (len(context), shown.n_offers))


def _folds(logged: Logged, n_folds: int, seed: int) -> Rows:
    """Units are dealt to folds, so that nobody's other rows tell of him; (n,)."""
    units, n_units = logged.units
    if n_units < 2:
        return np.zeros(len(logged), np.int64)
    dealt = np.random.default_rng(seed).permutation(n_units) % min(n_folds, n_units)
    of_rows: Rows = dealt[units].astype(np.int64)
    return of_rows


def _levels(shown: Shown, prior_rows: float = 20.0) -> Numbers:
    """Mean outcome by offer, shrunk to that of all; (n_offers,)."""
    n = np.bincount(shown.action, minlength=shown.n_offers)
    total = np.bincount(shown.action, weights=shown.outcome, minlength=shown.n_offers)
    level: Numbers = (total + prior_rows * shown.outcome.mean()) / (n + prior_rows)
    return level


def _constant(shown: Shown) -> Predict:
    """Everybody answered alike."""
    value = float(shown.outcome.mean())
    return lambda context, estimate: np.full((len(context), shown.n_offers), value)


def _tree_columns(context: Numbers, estimate: Numbers | None, level: Numbers) -> Numbers:
    return np.column_stack([context, level] if estimate is None else [context, level, estimate])


def _log_odds(p: Numbers) -> Numbers:
    inside = np.clip(p, 1e-6, 1.0 - 1e-6)
    odds: Numbers = np.log(inside / (1.0 - inside))
    return odds


def _is_binary(outcome: Numbers) -> bool:
    return bool(np.isin(outcome, (0.0, 1.0)).all())


@dataclass(frozen=True, slots=True)
class _Scale:
    """Columns brought to mean 0 and deviation 1. What is missing becomes the mean, and has a column that says so."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    missing: NDArray[np.int64]  # the columns of which something is missing

    @classmethod
    def of(cls, context: Numbers) -> _Scale:
        known = np.isfinite(context)
        n = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, context, 0.0).sum(axis=0) / n
        spread = np.sqrt((np.where(known, context - mean, 0.0) ** 2).sum(axis=0) / n)
        deviation = np.where(spread > 0.0, spread, 1.0)
        return cls(mean, deviation, np.flatnonzero(~known.all(axis=0)))

    def columns(self, context: Numbers) -> Numbers:
        known = np.isfinite(context)
        filled = np.where(known, (np.where(known, context, 0.0) - self.mean) / self.deviation, 0.0)
        return np.column_stack([filled, (~known[:, self.missing]).astype(np.float64)])
