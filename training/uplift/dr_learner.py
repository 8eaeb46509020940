"""DR-learner: doubly robust effects of single units, from models that never saw them, learned as any number.

Source: Kennedy, Towards optimal doubly robust estimation of heterogeneous causal effects (2023),
https://doi.org/10.1214/23-EJS2157
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.encoder import Encoder
from training.scorers.classifier import logistic
from training.scorers.uplift import Effect
from training.uplift.bases import Base
from training.uplift.trial import Trial, folds

N_FOLDS = 2


def fit_dr(encoder: Encoder, trial: Trial, base: Base, seed: int) -> Effect:
    effects = unit_effects(encoder, trial, base, seed)
    return Effect("direct", ((base.kind, base.number(encoder, trial.rows, effects, seed)),))


def unit_effects(encoder: Encoder, trial: Trial, base: Base, seed: int, n_folds: int = N_FOLDS) -> NDArray[np.float64]:
    """One unbiased and very noisy effect per unit, (n,): mean over any group it estimates the group's effect.

    Right if either the propensity or the models of the outcome are. The models of a unit's fold were fitted without it.
    """
    assert trial.propensity is not None
    fold, e = folds(trial.clusters, n_folds, seed), trial.propensity
    p = np.empty((2, len(trial)))
    for one in range(n_folds):
        mine = fold == one
        for arm in (False, True):
            of_arm = trial.part(~mine & (trial.treated == arm))
            p[int(arm), mine] = logistic(base.chance(encoder, of_arm.rows, of_arm.y, seed).raw(trial.rows[mine]))
    with_treatment = trial.treated * (trial.y - p[1]) / e
    without = ~trial.treated * (trial.y - p[0]) / (1.0 - e)
    found: NDArray[np.float64] = p[1] - p[0] + with_treatment - without
    return found
