"""The flattened forest says what scikit-learn says."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from training.scorers import logistic
from training.trees import flatten

N, COLUMNS = 3000, 12


@pytest.fixture(scope="module")
def case():
    """Numbers with ties, categories with gaps in their codes, NaN everywhere, categorical columns in the middle."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(N, COLUMNS))
    rows[:, 3] = rng.integers(0, 200, N)
    rows[:, 7] = rng.choice([0, 5, 31, 32, 63, 64, 254], N)
    rows[:, 5] = np.round(rows[:, 5])
    rows[rng.random(rows.shape) < 0.15] = np.nan
    liked = rng.integers(0, 200, 70)
    y = np.nan_to_num(rows[:, 0]) + 2 * np.isin(rows[:, 3], liked) + (rows[:, 7] == 63) + rng.normal(size=N) > 1
    model = HistGradientBoostingClassifier(max_iter=60, categorical_features=[3, 7], random_state=0).fit(rows, y)
    return model, rows, rng


def odd(rows, rng):
    """The rows with values that training never saw."""
    rows = rows.copy()
    for column in range(COLUMNS):
        at = rng.integers(0, len(rows), 200)
        values = [250.0, 1.0, np.nan] if column in (3, 7) else [np.inf, -np.inf, 0.0, -0.0, np.nan]
        rows[at, column] = rng.choice(values, len(at))
    return rows


def test_forest_equals_predict_proba_on_nan_ties_categories_and_infinities(case):
    model, rows, rng = case
    forest = flatten(model)
    for given in (rows, odd(rows, rng)):
        np.testing.assert_allclose(logistic(forest.raw(given)), model.predict_proba(given)[:, 1], rtol=0, atol=1e-12)


def test_values_exactly_at_a_threshold_go_left_as_in_sklearn(case):
    model, rows, rng = case
    forest = flatten(model)
    at_threshold = rows[:500].copy()
    for row, node in zip(range(500), rng.choice(np.flatnonzero(forest.kind == 1), 500), strict=True):
        at_threshold[row, forest.column[node]] = forest.threshold[node]
    np.testing.assert_allclose(
        logistic(forest.raw(at_threshold)), model.predict_proba(at_threshold)[:, 1], rtol=0, atol=1e-12
    )


def test_naming_the_columns_that_do_not_vary_changes_nothing(case):
    model, rows, _ = case
    forest = flatten(model)
    varies = np.zeros(COLUMNS, bool)
    varies[[0, 3, 5]] = True
    for one in range(20):
        of_one = np.where(varies, rows[:50], rows[one])
        np.testing.assert_array_equal(forest.raw(of_one, varies), forest.raw(of_one))


def test_first_trees_are_the_model_stopped_there(case):
    model, rows, _ = case
    staged = next(p for n, p in enumerate(model.staged_predict_proba(rows), start=1) if n == 7)
    np.testing.assert_allclose(logistic(flatten(model, 7).raw(rows)), staged[:, 1], rtol=0, atol=1e-12)


def test_model_without_categories_is_flattened_too():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3))
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows, rows[:, 1] > 0)
    np.testing.assert_allclose(logistic(flatten(model).raw(rows)), model.predict_proba(rows)[:, 1], atol=1e-12)


def test_category_codes_above_255_are_refused():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (500, 1)) * 300.0
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[0]).fit(rows, rows[:, 0] > 0)
    with pytest.raises(ValueError, match="category codes"):
        flatten(model)
