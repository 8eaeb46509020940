"""A column held at a value: the model says what it said of rows that have the value there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.builders import encoder, fitted_trees, offer
from tests.training.test_for_offers import linear
from training.neutral import held_at, without
from training.trees import flatten

MODELS = {"linear": linear(), "trees": flatten(fitted_trees(encoder()))}
NUMBERS = [at for at, column in enumerate(encoder().columns) if column.values is None]


def odd_rows(n=300):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(n, len(encoder().columns))) * 3
    for at in encoder().categorical:
        rows[:, at] = rng.integers(0, 2, n)
    rows[rng.random(rows.shape) < 0.2] = np.nan
    return rows


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("column", NUMBERS)
@pytest.mark.parametrize("value", [0.0, -1.25, 40.0])
def test_the_log_odds_are_those_of_rows_with_the_value(model, column, value):
    rows = odd_rows()
    held, columns = held_at(model, encoder(), column, value)
    there = rows.copy()
    there[:, column] = value
    np.testing.assert_allclose(held.raw(without(rows, column)), model.raw(there), rtol=0, atol=1e-12)
    assert [c.name for c in columns.columns] == [c.name for i, c in enumerate(encoder().columns) if i != column]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_is_left_serves_one_customer_against_all_offers(model):
    held, columns = held_at(model, encoder(), NUMBERS[0], 0.5)
    side = columns.prepare((offer("o0", "red", reward=5), offer("new")), {"o0": {"rate": 0.4}})
    found = held.prepare(columns, side).raw({"age": 3.0, "seen_by_offer": {"o0": 2.0}}, {"hour": 4}, None)
    expected = held.raw(columns.fill(side, {"age": 3.0, "seen_by_offer": {"o0": 2.0}}, {"hour": 4}, None))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_a_category_cannot_be_held():
    with pytest.raises(ValueError, match="a category"):
        held_at(MODELS["trees"], encoder(), encoder().categorical[0], 1.0)
