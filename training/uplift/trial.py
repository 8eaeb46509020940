"""Who was contacted, who was not, and what came of it: the one table that uplift is learned from and judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from features.errors import BadInput, NotTrainable

Rows = NDArray[np.float64]
Flags = NDArray[np.bool_]
ARMS = {True: "treated", False: "control"}
MIN_ROWS, MIN_OUTCOMES = 200, 20  # per arm, and of each outcome in it: below that nothing is fitted


@dataclass(frozen=True)
class Trial:
    """Units with what was done to them and what came of it; all axes are n."""

    rows: Rows  # (n, n_columns) encoded, as they were known before the contact; NaN is missing
    y: Flags  # the outcome that is wanted: stayed, visited, bought
    treated: Flags
    clusters: NDArray[np.int64]  # whose row it is, 0 … n_clusters - 1: rows of one customer go together
    propensity: NDArray[np.float64] | None = None  # P(treated), in (0, 1), by design; None: it has to be estimated

    def __len__(self) -> int:
        return len(self.y)

    def part(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Trial:
        e = self.propensity
        return Trial(
            self.rows[which], self.y[which], self.treated[which], self.clusters[which], None if e is None else e[which]
        )

    def with_propensity(self, propensity: NDArray[np.float64]) -> Trial:
        return replace(self, propensity=propensity)


def check_trial(trial: Trial) -> None:
    """`BadInput` names a field that cannot be used, `NotTrainable` an arm with too little in it."""
    n = len(trial.y)
    for name in ("rows", "treated", "clusters"):
        if len(getattr(trial, name)) != n:
            raise BadInput(f"{name} has {len(getattr(trial, name))} rows, y has {n}", name)
    for name in ("y", "treated"):
        if getattr(trial, name).dtype != np.bool_:
            raise BadInput(f"{name} must be bool, this is {getattr(trial, name).dtype}", name)
    infinite = np.flatnonzero(np.isinf(trial.rows).any(axis=0))
    if len(infinite):
        raise BadInput(f"column {int(infinite[0])} of the features holds infinities; missing is NaN", "rows")
    e = trial.propensity
    if e is not None and not (len(e) == n and np.isfinite(e).all() and (e > 0.0).all() and (e < 1.0).all()):
        raise BadInput("propensity must be one number in (0, 1) per row", "propensity")
    for arm, name in ARMS.items():
        y = trial.y[trial.treated == arm]
        least = min(int(y.sum()), int((~y).sum()))
        if len(y) < MIN_ROWS or least < MIN_OUTCOMES:
            raise NotTrainable(
                "uplift",
                f"the {name} arm has {len(y)} rows with the outcome in {int(y.sum())} of them; {MIN_ROWS} rows with "
                f"{MIN_OUTCOMES} of each outcome are needed",
            )


def folds(clusters: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, 0 … n_folds - 1; all rows of one cluster share it."""
    n = int(clusters.max()) + 1 if len(clusters) else 0
    dealt = np.arange(n) % n_folds
    shuffled: NDArray[np.int64] = np.random.default_rng(seed).permutation(dealt)
    return shuffled[clusters]
