"""The asymptotic confidence sequence: its formula, where it is tightest, and that it holds at all looks at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from experiments.statistics.confidence_sequence import best_rho2, multiplier
from features.errors import BadInput


def test_the_multiplier_is_the_papers_formula():
    """Theorem 2.2 by hand: rho^2 = x / 10,000 and n = 5,000 give sqrt((x/2 + 1) / (x/2) * log((x/2 + 1) / 0.05^2))."""
    half = best_rho2(0.05) / 2
    by_hand = math.sqrt((half + 1) / half * math.log((half + 1) / 0.0025))
    assert multiplier(5_000, 0.05, 10_000) == pytest.approx(by_hand)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2])
def test_lamberts_w_finds_the_minimum_that_a_search_finds(alpha):
    found = minimize_scalar(
        lambda x: (x + 1) / x * math.log((x + 1) / alpha**2),
        bounds=(0.1, 100),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert best_rho2(alpha) == pytest.approx(found.x, rel=1e-5)


def test_it_is_tightest_where_it_was_told_to_be():
    n = np.arange(100, 40_000, 100)
    widths = multiplier(n, 0.05, 10_000)
    assert n[widths.argmin()] == 10_000
    assert widths.min() == pytest.approx(3.035, abs=1e-3)  # about one and a half times a fixed interval's 1.96


def test_before_the_first_unit_nothing_is_known():
    assert multiplier(0) == math.inf


def test_all_looks_hold_at_once():
    """2,000 walks of normal steps with a look after each of 1,000: at most alpha ever leave (planted truth 0)."""
    rng = np.random.default_rng(3)
    n = np.arange(1, 1_001)
    z = np.cumsum(rng.normal(size=(2_000, 1_000)), axis=1) / np.sqrt(n)
    left = (np.abs(z) > multiplier(n, 0.05, 1_000)).any(axis=1).mean()
    naive = (np.abs(z) > 1.96).any(axis=1).mean()
    assert left <= 0.05
    assert naive > 0.4


def test_alpha_and_size_are_checked():
    with pytest.raises(BadInput, match="alpha is 1"):
        multiplier(10, 1.0)
    with pytest.raises(BadInput, match="more than 0"):
        multiplier(10, 0.05, 0)
