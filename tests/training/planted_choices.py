"""Impressions of a logging policy that knows more than the model: acceptance, chances and positions are planted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from features.definitions import feature_set
from features.events import US_PER_DAY
from features.live import Instant, feature_table
from tests.training.builders import START_US, offer
from training.models.acceptance import AcceptanceTable
from training.split import split_with_gap

FEATURES = feature_set((1, 7), {"age": "number"})
OFFERS = tuple(offer(f"o{i}") for i in range(3))
AT_REST = np.array([0.10, 0.20, 0.15])  # acceptance of each offer by customers who are not in the mood
IN_THE_MOOD = np.array([0.50, 0.20, 0.15])  # and by those who are: half of them, and nobody tells the model
SEEN = np.array([1.0, 0.6, 0.3])  # what is left of acceptance at positions 1, 2 and 3
EPSILON = 0.25  # of impressions are drawn uniformly; in the others the first offer goes to those in the mood


def planted(n=16_000, seed=0, *, logged=True, positions=False):
    """(table, split, mood of each row)."""
    rng = np.random.default_rng(seed)
    mood = rng.random(n) < 0.5
    at_random = rng.random(n) < EPSILON
    by_policy = np.where(mood, 0, rng.integers(1, 3, n))
    shown = np.where(at_random, rng.integers(0, 3, n), by_policy)
    wanted = np.where(mood, np.where(shown == 0, 1.0, 0.0), np.where(shown > 0, 0.5, 0.0))
    chance = EPSILON / 3 + (1 - EPSILON) * wanted
    position = rng.integers(1, 4, n) if positions else np.ones(n, np.int64)
    p = np.where(mood, IN_THE_MOOD[shown], AT_REST[shown]) * SEEN[position - 1]
    us = START_US + np.sort(rng.integers(0, 40, n)) * US_PER_DAY
    age = rng.uniform(20, 60, n)
    instants = [Instant(None, (), (a,), int(t)) for a, t in zip(age.tolist(), us.tolist(), strict=True)]
    nobody = [Instant(None, (), (), int(t)) for t in us.tolist()]
    table = AcceptanceTable(
        customers=[f"c{i}" for i in range(n)],
        offers=[OFFERS[i] for i in shown.tolist()],
        us=us,
        customer_features=pd.DataFrame(feature_table(FEATURES, "customer", instants)),
        offer_features=pd.DataFrame(feature_table(FEATURES, "offer", nobody)),
        context={
            "channel": np.full(n, "web", object), "placement_id": np.full(n, "hero", object),
            "hour": np.full(n, 12.0), "weekday": np.full(n, 1.0), "position": position.astype(float),
        },
        affinity=None,
        is_new=np.zeros(n, bool),
        y=rng.random(n) < p,
        chance=chance if logged else None,
        at_random=at_random if logged else None,
    )  # fmt: skip
    return table, split_with_gap(us, us + 3 * US_PER_DAY, list(table.customers)), mood


def cross_entropy(truth, said):
    """Expected log loss of saying `said` where the truth is `truth`."""
    return -(truth * np.log(said) + (1 - truth) * np.log(1 - said))
