"""How unsure a fitted model is of its log-odds, for each row: what exploration wants to know.

A few models are fitted again on customers drawn with replacement; how far their log-odds scatter is learned by one
small forest, so that serving asks one forest instead of many. Source of the bootstrap in place of a posterior: Osband
et al., Deep exploration via bootstrapped DQN (NIPS 2016); the scatter learned by one model is our own shortcut.

A bootstrap sees the variance of a model and not its bias, nor what time will change. So held-out rows have a say: as
far off as they permit the model to be, it is taken to be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from training.encoder import Encoder
from training.linear import Linear
from training.models.classifiers import Part, splittable
from training.scorers.acceptance import LARGEST_SPREAD, SMALLEST_SPREAD
from training.trees import Forest, flatten

N_MODELS = 8
MOST_CUSTOMER_ROWS = 20_000  # of the training part, that models are fitted on again
N_TREES, LEAVES = 40, 15

N_CELLS = 8  # of held-out rows by their log-odds, of equal numbers
PERMITTED = 1.645  # standard errors: of errors that are larger, 95 % would have shown

Refit = Callable[[Part, int], Linear | Forest]


class HeldOut(NamedTuple):
    """Rows that a model had not seen, whose log-odds are calibrated; shapes (n,)."""

    p: NDArray[np.float64]
    y: NDArray[np.bool_]
    customers: NDArray[np.int64]  # 0 … n - 1


def permitted_error(samples: Sequence[HeldOut]) -> float:
    """The largest standard deviation of errors of log-odds, beyond chance, that is consistent with what held-out rows
    came to.

    Rows are put into cells by their log-odds. In each the sum of y - p, squared, less its variance by customers, is
    the square of the model's error there; over cells and samples such squares have a mean and a standard error, and
    the upper end of the mean's one-sided interval of 95 % counts. Enough rows of a model that is right make it small.
    """
    found = [_squared_error(sample) for sample in samples if len(sample.y) >= N_CELLS]
    if not found:
        return 0.0
    mean = float(np.mean([square for square, _ in found]))
    error = float(np.sqrt(np.sum([variance for _, variance in found]))) / len(found)
    return float(np.sqrt(max(mean + PERMITTED * error, 0.0)))


def _squared_error(sample: HeldOut) -> tuple[float, float]:
    """The mean square of the errors of log-odds, which chance may bring below 0, and its variance."""
    n = len(sample.y)
    rank = np.empty(n, np.int64)
    rank[np.argsort(sample.p, kind="stable")] = np.arange(n)
    cell, left = rank * N_CELLS // n, sample.y - sample.p
    slope = np.bincount(cell, weights=sample.p * (1.0 - sample.p))
    n_customers = int(sample.customers.max()) + 1
    own = np.bincount(cell * n_customers + sample.customers, weights=left, minlength=N_CELLS * n_customers)
    by_chance = (own.reshape(N_CELLS, n_customers) ** 2).sum(axis=1)
    squares = np.bincount(cell, weights=left) ** 2 - by_chance
    scale = float((slope**2).sum())
    return float(squares.sum()) / scale, float(2.0 * (by_chance**2).sum()) / scale**2


def fit_spread(
    encoder: Encoder, train: Part, customers: NDArray[np.int64], refit: Refit, seed: int, beside: float = 0.0
) -> Forest | None:
    """Its `raw` is the log of the standard deviation of the log-odds of a row; None without columns.

    `beside`: the standard deviation of errors that refitting does not show.
    """
    if not encoder.columns:
        return None
    rng = np.random.default_rng(seed)
    some = _of_customers(customers, MOST_CUSTOMER_ROWS, rng)
    part, owner = train.of(some), customers[some]
    drawn = [part.taken(_drawn(owner, rng)) for _ in range(N_MODELS)]
    # limited out here: each fit limits threads for itself, and would otherwise end the limit of the one beside it
    with threadpool_limits(1, user_api="openmp"), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = pool.map(lambda one, n: refit(one, n).raw(part.rows), drawn, range(N_MODELS))
        scatter = np.stack(list(found)).std(axis=0, ddof=1)
    scatter *= np.sqrt(len(part.y) / len(train.y))  # of fewer rows than the model has seen
    scatter = np.hypot(scatter, beside)
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
