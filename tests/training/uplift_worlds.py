"""Trials with a planted effect, for tests of uplift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.encoder import Column, Encoder
from training.uplift import Trial

COLUMNS = Encoder(
    (Column("customer", "age"), Column("customer", "plan", ("basic", "plus")), Column("customer", "spent"))
)


@dataclass(frozen=True)
class Planted:
    trial: Trial
    effect: NDArray[np.float64]  # (n,) the true one


def planted(
    n: int = 6_000, high: float = 0.3, low: float = -0.1, share: float = 0.5, seed: int = 0, missing: float = 0.05
) -> Planted:
    """The effect is `high` where age is above 0, or unknown, and `low` elsewhere; half stay without any contact, and
    more of those who spend. Chance decided who was contacted, with the same `share` for all."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.normal(size=n), rng.integers(0, 2, n), rng.normal(size=n)])
    rows[rng.random(n) < missing, 0] = np.nan
    effect = np.where(rows[:, 0] <= 0.0, low, high)
    treated = rng.random(n) < share
    stays = np.clip(0.4 + 0.1 * np.tanh(rows[:, 2]) + treated * effect, 0.0, 1.0)
    y = rng.random(n) < stays
    return Planted(Trial(rows, y, treated, np.arange(n), np.full(n, share)), effect)
