"""Reasons add up exactly, are Shapley values where trees give them, and name what moves the chance."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from features.errors import BadInput
from tests.training.builders import churn_scorer, encoder, fitted_trees
from training.encoder import Column, Encoder
from training.models.classifiers import Part, fit_logistic
from training.reasons import churn_reasons, contributions, linear_terms
from training.scorers import Calibration, Classifier
from training.shap_trees import _weighted, numeric_trees
from training.trees import flatten

COLUMNS = encoder()
SIZES = {at: len(COLUMNS.columns[at].values) for at in COLUMNS.categorical}


def encoded(n, seed=1, columns=COLUMNS):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, len(columns.columns)))
    for at in columns.categorical:
        rows[:, at] = rng.integers(0, len(columns.columns[at].values), n)
    rows[rng.random(rows.shape) < 0.15] = np.nan
    return rows


ODD = st.sampled_from([0.0, 1.0, np.nan, 5.0, -3.0, 1e300, np.inf, -np.inf])
TREES = flatten(fitted_trees(COLUMNS, n=400))
LOGISTIC = fit_logistic(COLUMNS, Part(encoded(300), encoded(300)[:, 0] > 0), 1.0)


def through(tree, row):
    at = 0
    while tree.left[at] >= 0:
        x = row[tree.column[at]]
        at = tree.default[at] if np.isnan(x) else tree.left[at] if x <= tree.threshold[at] else tree.right[at]
    return tree.value[at]


@pytest.fixture(scope="module")
def many_categories():
    """Two columns of 12 and 30 names that matter in no order, and a number."""
    columns = Encoder(
        (
            Column("customer", "city", tuple(f"c{i:02}" for i in range(30))),
            Column("customer", "age"),
            Column("customer", "country", tuple(f"k{i:02}" for i in range(12))),
        )
    )
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.integers(0, 30, 3000), rng.normal(size=3000), rng.integers(0, 12, 3000)]).astype(float)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    effect = (
        rng.normal(size=30)[np.nan_to_num(rows[:, 0]).astype(int)]
        * rng.normal(size=12)[np.nan_to_num(rows[:, 2]).astype(int)]
    )
    y = effect + 0.5 * np.nan_to_num(rows[:, 1]) + rng.normal(size=3000) > 0
    model = HistGradientBoostingClassifier(max_iter=30, categorical_features=[0, 2], random_state=0).fit(rows, y)
    return columns, flatten(model), rows


def test_trees_with_numeric_splits_say_what_the_trees_said(many_categories):
    for columns, forest, rows in (
        (COLUMNS, flatten(fitted_trees(COLUMNS)), encoded(300)),
        (many_categories[0], many_categories[1], many_categories[2][:300]),
    ):
        sizes = {at: len(columns.columns[at].values) for at in columns.categorical}
        trees = numeric_trees(forest, sizes)
        found = [forest.baseline[0] + sum(through(tree, row) for tree in trees) for row in rows]
        np.testing.assert_allclose(found, forest.raw(rows), rtol=1e-12, atol=1e-12)


def test_the_base_of_trees_is_the_mean_of_the_background():
    forest, background = flatten(fitted_trees(COLUMNS)), encoded(500)
    found = contributions(Classifier("trees", COLUMNS, forest, Calibration()), encoded(5, 2), background)
    assert found.base == pytest.approx(forest.raw(background).mean(), abs=1e-3)


@pytest.mark.parametrize("kind", ["trees", "linear", "many categories"])
def test_base_and_contributions_sum_to_the_log_odds(kind, many_categories):
    columns, rows = COLUMNS, encoded(200, 2)
    if kind == "many categories":
        columns, model, rows = many_categories
        rows = rows[:200]
    elif kind == "trees":
        model = flatten(fitted_trees(COLUMNS))
    else:
        model = fit_logistic(COLUMNS, Part(encoded(800), encoded(800)[:, 0] > 0), 1.0)
    found = contributions(Classifier("linear" if kind == "linear" else "trees", columns, model, Calibration()), rows)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), model.raw(rows), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.raw, model.raw(rows))


def shapley(tree, rows_below, row, n_columns):
    """By definition: over all orders of the columns; of an unknown split both ways count, by their rows."""

    def expected(known, at=0):
        if tree.left[at] < 0:
            return tree.value[at]
        x, left, right = row[tree.column[at]], tree.left[at], tree.right[at]
        if tree.column[at] in known:
            return expected(known, tree.default[at] if np.isnan(x) else left if x <= tree.threshold[at] else right)
        weights = rows_below[[left, right]]
        return float((weights * [expected(known, left), expected(known, right)]).sum() / weights.sum())

    used = sorted({column for column in tree.column if column >= 0})
    values = np.zeros(n_columns)
    for column in used:
        others = [c for c in used if c != column]
        for size in range(len(others) + 1):
            share = factorial(size) * factorial(len(others) - size) / factorial(len(used))
            for some in combinations(others, size):
                values[column] += share * (expected({*some, column}) - expected(set(some)))
    return values


def test_contributions_of_trees_are_shapley_values_by_their_definition(many_categories):
    columns, forest, rows = many_categories
    few = replace(forest, roots=forest.roots[:4])
    found = contributions(Classifier("trees", columns, few, Calibration()), rows[:6], rows[:400])
    trees = numeric_trees(few, {0: 30, 2: 12})
    for row in range(6):
        by_hand = sum(shapley(tree, _weighted(tree, rows[:400])[0], rows[row], 3) for tree in trees)
        np.testing.assert_allclose(found.values[row], by_hand, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.lists(ODD, min_size=len(COLUMNS.columns), max_size=len(COLUMNS.columns)))
def test_odd_values_add_up_all_the_same(values):
    row = np.array(values)[None, :]
    for at, size in SIZES.items():
        row[0, at] = row[0, at] if row[0, at] in range(size) else np.nan
    model = LOGISTIC
    assert model.intercept[0] + linear_terms(model, row).sum() == pytest.approx(model.raw(row)[0], abs=1e-9)
    found = contributions(Classifier("trees", COLUMNS, TREES, Calibration()), row, encoded(50))
    assert found.base + found.values.sum() == pytest.approx(TREES.raw(row)[0], abs=1e-9)


def test_reasons_name_the_features_that_weigh_most_with_their_values():
    scorer = churn_scorer()  # churn when the age is above 0; the gender says nothing
    people = pd.DataFrame({"age": [2.0, -2.0, np.nan], "gender": ["F", "M", None]})
    many = pd.DataFrame({"age": np.linspace(-2, 2, 50), "gender": ["F", "M"] * 25})
    found = churn_reasons(scorer.classifier, people, k=1, background=many)
    assert found[found["row"] < 2]["feature"].tolist() == ["age", "age"]
    assert found["contribution"].iloc[0] > 0 > found["contribution"].iloc[1]
    assert found["value"].iloc[:2].tolist() == [2.0, -2.0]
    overall = contributions(scorer.classifier, np.column_stack([many["age"], np.tile([0.0, 1.0], 25)])).overall()
    assert overall["feature"].iloc[0] == "age"


def test_rows_of_other_columns_and_no_rows_are_refused():
    scorer = churn_scorer()
    for bad in (np.zeros((3, 5)), np.zeros((0, 2))):
        with pytest.raises(BadInput, match="shape"):
            contributions(scorer.classifier, bad)
