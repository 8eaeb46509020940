"""The model without tastes; expected values of another library, and planted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from experiments.digest.main_effects import fit

ROWS, COLUMNS = [r for r in "abc" for _ in range(4)], [c for _ in range(3) for c in "wxyz"]


def test_chances_are_those_of_a_logistic_regression():
    """scikit-learn's, without a penalty, on one row per trial."""
    rng = np.random.default_rng(5)
    n = rng.integers(50, 200, 12)
    taken = rng.binomial(n, rng.uniform(0.1, 0.7, 12))
    one_hot = np.array([[r == x for x in "bc"] + [c == x for x in "xyz"] for r, c in zip(ROWS, COLUMNS, strict=True)])
    x = np.repeat(one_hot, 2, axis=0)
    y, weight = np.tile([1, 0], 12), np.stack([taken, n - taken], 1).ravel()
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weight)
    assert fit(ROWS, COLUMNS, n, taken).chance == pytest.approx(model.predict_proba(one_hot)[:, 1], abs=1e-5)


def test_residuals_of_segments_without_tastes_are_standard_normal():
    """Planted: 300 worlds of 3 segments and 4 offers that differ in their level only."""
    rng = np.random.default_rng(6)
    level = np.repeat([-1.5, -0.5, 0.3], 4) + np.tile([-0.4, 0.0, 0.2, 0.6], 3)
    n, p = np.full(12, 300), 1 / (1 + np.exp(-level))
    residuals = []
    for _ in range(300):
        taken = rng.binomial(n, p)
        found = fit(ROWS, COLUMNS, n, taken)
        residuals.append(
            (taken - n * found.chance) / np.sqrt(n * found.chance * (1 - found.chance) * (1 - found.leverage))
        )
    assert np.std(residuals) == pytest.approx(1.0, abs=0.04)
    assert np.mean(np.abs(residuals) > 1.96) == pytest.approx(0.05, abs=0.015)


def test_a_table_of_one_segment_has_nothing_left_to_find():
    found = fit(["a", "a"], ["x", "y"], [10, 20], [3, 0])
    assert found.chance == pytest.approx([0.3, 0.0], abs=1e-6)
    assert found.leverage == pytest.approx([1.0, 1.0], abs=1e-3)
