"""Maps from log-odds to probabilities: chosen on rows they were not fitted on, of others and of later times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.calibration import (
    KINDS,
    Ahead,
    calibration_ahead,
    choose_calibration,
    fit_calibration,
    level_ahead,
    moved,
)
from training.scorers import logistic

N = 3_000
ERROR = 0.035  # of a level over two blocks: 1 / sqrt(2 N x mean p (1 - p)), some 0.15
ODD = st.sampled_from([np.inf, -np.inf, 0.0, 700.0, -700.0]) | st.floats(-30, 30)


def drawn(p, seed=0):
    return np.random.default_rng(seed).random(len(p)) < p


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(1).normal(scale=1.5, size=N)


@pytest.mark.parametrize("kind", KINDS)
def test_every_map_is_monotone_and_strictly_inside(kind, raw):
    fitted = fit_calibration(kind, raw, drawn(logistic(raw)))

    @settings(max_examples=40, deadline=None)
    @given(st.lists(ODD, min_size=2, max_size=20))
    def holds(values):
        p = fitted(np.sort(np.array(values)))
        assert (np.diff(p) >= -1e-12).all()
        assert ((p > 0) & (p < 1)).all()
        assert p[0] == pytest.approx(fitted.one(float(np.sort(values)[0])), abs=1e-9)

    holds()


def test_beta_stretches_the_two_ends_by_their_own_amounts(raw):
    """Planted: log-odds of 2 log p - 0.5 log(1 - p) - 0.3, which no sigmoid can follow."""
    p = logistic(raw)
    truth = logistic(2.0 * np.log(p) - 0.5 * np.log1p(-p) - 0.3)
    many = np.tile(raw, 10)
    y = drawn(np.tile(truth, 10))
    off = {kind: np.abs(fit_calibration(kind, many, y)(raw) - truth).mean() for kind in ("none", "sigmoid", "beta")}
    assert off["beta"] < 0.012
    assert off["beta"] < 0.5 * off["sigmoid"] < 0.5 * off["none"]
    kind, losses = choose_calibration(many, y, np.arange(len(y)))
    assert kind.kind in ("beta", "isotonic")
    assert set(losses) == set(KINDS)


def test_rows_count_by_their_weight(raw):
    """Of half the rows nobody accepts; they weigh nothing."""
    y = drawn(logistic(raw))
    y[: N // 2] = False
    w = np.r_[np.zeros(N // 2), np.ones(N - N // 2)]
    by_weight = fit_calibration("sigmoid", raw, y, w)
    alone = fit_calibration("sigmoid", raw[N // 2 :], y[N // 2 :])
    assert by_weight.slope == pytest.approx(alone.slope, abs=1e-3)
    assert by_weight.intercept == pytest.approx(alone.intercept, abs=1e-3)


def blocks_of(raw, shifts):
    return [Ahead(raw, drawn(logistic(raw + shift), seed)) for seed, shift in enumerate(shifts)]


def test_a_steady_drift_is_corrected_by_the_map_of_the_last_block(raw):
    """Each block is half a logit lower than the model that was fitted before it says."""
    found, losses = calibration_ahead(blocks_of(raw, [-0.5, -0.5]))
    assert found is not None
    assert losses[found.kind] < losses["none"]
    assert np.abs(found(raw) - logistic(raw - 0.5)).mean() < 0.03


@pytest.mark.parametrize("shifts", [[0.0, 0.0], [-0.5, 0.5]], ids=["none", "back and forth"])
def test_a_drift_that_does_not_go_on_is_not_followed(raw, shifts):
    assert calibration_ahead(blocks_of(raw, shifts))[0] is None


def test_one_block_or_one_class_tells_nothing(raw):
    whole = Ahead(raw, drawn(logistic(raw)))
    for blocks in ([], [whole], [whole, Ahead(raw, np.zeros(N, bool))], [whole, Ahead(raw[:50], whole.y[:50])]):
        assert calibration_ahead(blocks) == (None, {})


def test_blocks_that_all_come_out_lower_move_the_level(raw):
    assert level_ahead(blocks_of(raw, [-0.25, -0.2])) == pytest.approx(-0.225, abs=3 * ERROR)


@pytest.mark.parametrize(
    "shifts",
    [[0.0, 0.0], [-0.3, 0.3], [0.05, 0.05], [0.4, 0.02]],
    ids=["none", "both ways", "too little", "fading"],
)
def test_blocks_without_one_sure_direction_move_nothing(raw, shifts):
    assert level_ahead(blocks_of(raw, shifts)) == 0.0


def test_one_block_alone_moves_nothing(raw):
    assert level_ahead(blocks_of(raw, [-0.5])) == 0.0


def test_customers_who_come_often_make_nobody_surer(raw):
    """Ten copies of a row are ten observations of one customer, and blocks that are slightly lower are so by chance."""
    few = drawn(logistic(raw[:300] - 0.2), 3)
    copies = Ahead(np.repeat(raw[:300], 10), np.repeat(few, 10))
    assert level_ahead([copies, copies]) != 0.0
    known = replace(copies, customers=np.repeat(np.arange(300), 10))
    assert level_ahead([known, known]) == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_moved_map_differs_by_as_much_in_log_odds(kind, raw):
    fitted = fit_calibration(kind, raw, drawn(logistic(raw)))
    at = fitted.x if len(fitted.x) else np.linspace(-2.0, 2.0, 9)  # points are joined by lines, so exact at points
    before, after = fitted(at), moved(fitted, -0.3)(at)
    inside = (before > 1e-3) & (before < 1 - 1e-3)
    difference = np.log(after / (1 - after)) - np.log(before / (1 - before))
    np.testing.assert_allclose(difference[inside], -0.3, atol=1e-6)
    assert moved(fitted, 0.0) is fitted
