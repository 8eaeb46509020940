"""Novelty: a planted fading is found, a steady effect is left alone, too few days are no trend."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.cells import cells_of
from experiments.statistics.novelty import line, novelty


def days_with(effect_of_day, seed=1, n=2_000, n_days=10):
    """Units with a level of their own over all days, and a planted effect that depends on the day."""
    rng = np.random.default_rng(seed)
    variant = np.tile(rng.choice(["control", "variant"], n), n_days)
    day = np.repeat(np.arange(n_days), n)
    level = np.tile(rng.gamma(2, 1, n), n_days)
    values = level + rng.normal(0, 1, n * n_days) + np.where(variant == "variant", effect_of_day(day), 0.0)
    return cells_of("m", variant, values, day=day)


@pytest.mark.parametrize(
    ("effect", "trend"),
    [
        (lambda day: 1.0 * np.exp(-day / 2), "fades"),
        (lambda day: -1.0 * np.exp(-day / 2), "fades"),
        (lambda day: 0.3 * np.log1p(day), "grows"),
        (lambda day: 0.5 + 0.0 * day, "steady"),
        (lambda day: 0.0 * day, "steady"),
    ],
)
def test_the_planted_trend_is_found(effect, trend):
    found = novelty(days_with(effect), "m", "control", "variant")
    assert found.trend == trend
    assert found.days == tuple(range(10))
    assert len(found.effects) == 10


def test_steady_effects_are_seldom_blamed():
    """15 steady effects with persons who differ; at 0.01 a careful test blames none of them, or one by chance."""
    trends = [novelty(days_with(lambda d: 0.5 + 0 * d, seed, n=300), "m", "control", "variant") for seed in range(15)]
    assert sum(one.trend != "steady" for one in trends) <= 1


def test_the_line_is_numpys_weighted_fit():
    found = novelty(days_with(lambda day: 0.3 * np.log1p(day)), "m", "control", "variant")
    errors = np.array([e.standard_error for e in found.effects])
    slope, _ = np.polyfit(np.log1p(np.arange(10)), [e.absolute for e in found.effects], 1, w=1 / errors)
    assert line(found.days, found.effects)[0] == pytest.approx(slope)


def test_two_days_are_no_trend():
    found = novelty(days_with(lambda day: 1.0 - day, n_days=2), "m", "control", "variant")
    assert found.trend == "unknown"
    assert found.slope is None
    assert found.flags == ("2 days with an effect, 3 are needed for a trend",)
