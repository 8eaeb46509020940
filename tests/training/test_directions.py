"""What the business expects of a column holds in every fitted model, whatever the data say."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.data_settings import Acceptance
from features.errors import BadRecipe
from tests.training.builders import encoder
from training.directions import directions_of, named
from training.encoder import Column, Encoder
from training.models.classifiers import Part, TreeSettings, fit_forest, fit_logistic, fit_trees
from training.node import LEAF

COLUMNS = Encoder((Column("offer", "value"), Column("customer", "gender", ("F", "M")), Column("customer", "age")))
DOWN = (-1, 0, 0)
VALUES = st.sampled_from([np.nan, 0.0, 1e300, -1e300]) | st.floats(-4, 4)


def part(n=1_500, seed=0):
    """Acceptance falls with the value at first, and rises again: against what is expected."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.uniform(-3, 3, n), rng.integers(0, 2, n).astype(float), rng.normal(size=n)])
    rows[rng.random(rows.shape) < 0.05] = np.nan
    odds = np.nan_to_num(np.abs(rows[:, 0])) + 0.5 * np.nan_to_num(rows[:, 2]) - 1.5
    return Part(rows, rng.random(n) < 1 / (1 + np.exp(-odds)))


@cache
def forest(directions):
    trees = TreeSettings(max_trees=40, min_samples_leaf=20)
    return fit_trees(COLUMNS, part(), part(seed=1), trees, 0, directions).forest


def partial_dependence(model, row, at, values):
    rows = np.repeat(row[None, :], len(values), axis=0)
    rows[:, at] = values
    return model.raw(rows)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from([0.0, 1.0, np.nan]))
def test_log_odds_never_rise_with_a_number_that_acceptance_should_fall_with(age, gender):
    values = np.r_[-np.inf, np.linspace(-4, 4, 61), np.inf]
    found = partial_dependence(forest(DOWN), np.array([0.0, gender, age]), 0, values)
    assert (np.diff(found) <= 1e-12).all()


def test_without_a_direction_the_same_forest_follows_the_data_up_again():
    found = partial_dependence(forest((0, 0, 0)), np.array([0.0, 1.0, 0.0]), 0, np.array([0.0, 2.9]))
    assert found[1] > found[0] + 0.5


def test_a_logistic_regression_leaves_out_what_goes_against_its_direction():
    rows = part()
    rising = Part(rows.rows, np.nan_to_num(rows.rows[:, 0]) + 0.3 * np.nan_to_num(rows.rows[:, 2]) > 0)
    free, held = fit_logistic(COLUMNS, rising, 1.0), fit_logistic(COLUMNS, rising, 1.0, directions=DOWN)
    assert free.weights[free.numbers == 0] > 0
    assert held.numbers.tolist() == [2]
    assert set(held.categories) == {1}


def test_directions_are_declared_with_the_features_and_a_data_set_may_differ():
    columns = Encoder(
        (
            Column("customer", "dismissed_7d"), Column("customer", "days_since_dismissed"),
            Column("by_offer", "dismissed_by_offer_30d"), Column("offer_feature", "offer_acceptance_rate_7d"),
            Column("offer", "value"), Column("offer", "offer_id", ("a", "b")), Column("customer", "age"),
        )
    )  # fmt: skip
    assert directions_of(columns, {}).tolist() == [-1, 1, -1, 1, 0, 0, 0]
    own = {"offer.value": -1, "dismissed_*": 0, "offer.offer_id": 1}
    assert directions_of(columns, own).tolist() == [0, 1, 0, 1, -1, 0, 0]
    assert named(columns, directions_of(columns, {"value": -1}))["offer.value"] == -1


def test_a_category_never_has_a_direction():
    assert not directions_of(encoder(), {"*": 1})[encoder().categorical].any()


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(BadRecipe, match=r"acceptance\.expected\['offer\.value'\] == 2, expected -1, 0 or 1"):
        Acceptance(expected={"offer.value": 2})


def test_a_column_of_which_a_part_knows_nothing_is_not_split_on():
    """scikit-learn fails on it; a block of time before a feature was first known has such columns."""
    blank = part()
    blank.rows[:, 2] = np.nan
    found = fit_forest(COLUMNS, blank, TreeSettings(min_samples_leaf=20), 10, 0)
    assert 2 not in found.column[found.kind != LEAF]
