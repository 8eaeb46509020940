"""How unsure a fitted model is of its log-odds, for each row: what exploration wants to know.

A few models are fitted again on customers drawn with replacement; how far their log-odds scatter is learned by one
small forest, so that serving asks one forest instead of many. Source of the bootstrap in place of a posterior: Osband
et al., Deep exploration via bootstrapped DQN (NIPS 2016); the scatter learned by one model is our own shortcut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.encoder import Encoder
from training.linear import Linear
from training.models.classifiers import Part, splittable
from training.scorers.acceptance import LARGEST_SPREAD, SMALLEST_SPREAD
from training.trees import Forest, flatten

N_MODELS = 10
MOST_CUSTOMER_ROWS = 20_000  # of the training part, that models are fitted on again
N_TREES, LEAVES = 40, 15

Refit = Callable[[Part, int], Linear | Forest]


def fit_spread(encoder: Encoder, train: Part, customers: NDArray[np.int64], refit: Refit, seed: int) -> Forest | None:
    """Its `raw` is the log of the standard deviation of the log-odds of a row; None without columns."""
    if not encoder.columns:
        return None
    rng = np.random.default_rng(seed)
    some = _of_customers(customers, MOST_CUSTOMER_ROWS, rng)
    part, owner = train.of(some), customers[some]
    drawn = [part.taken(_drawn(owner, rng)) for _ in range(N_MODELS)]
    scatter = np.stack([refit(one, n).raw(part.rows) for n, one in enumerate(drawn)]).std(axis=0, ddof=1)
    scatter *= np.sqrt(len(part.y) / len(train.y))  # of fewer rows than the model has seen
    return _learned(encoder, part.rows, np.log(np.clip(scatter, SMALLEST_SPREAD, LARGEST_SPREAD)), seed)


def _drawn(owner: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the rows of customers drawn with replacement; a customer's rows come as often as the customer."""
    n = int(owner.max()) + 1
    times = np.bincount(rng.integers(0, n, n), minlength=n)
    return np.repeat(np.arange(len(owner)), times[owner])


def _of_customers(customers: NDArray[np.int64], at_most: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """All rows of as many customers as have about `at_most` rows together."""
    n = int(customers.max()) + 1
    if len(customers) <= at_most:
        return np.ones(len(customers), np.bool_)
    return np.asarray((rng.random(n) < at_most / len(customers))[customers])


def _learned(encoder: Encoder, rows: NDArray[np.float64], target: NDArray[np.float64], seed: int) -> Forest:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=N_TREES, learning_rate=0.2, max_leaf_nodes=LEAVES, min_samples_leaf=40, early_stopping=False,
        categorical_features=encoder.categorical or None, random_state=seed,
    )  # fmt: skip
    with threadpool_limits(1, user_api="openmp"):
        model.fit(splittable(rows), target)
    return flatten(model)
