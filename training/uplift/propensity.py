"""The chance of having been contacted: known where chance decided, else estimated, and then said to be."""

from __future__ import annotations

import numpy as np

from training.encoder import Encoder
from training.scorers.classifier import logistic
from training.uplift.bases import Logistic
from training.uplift.trial import Trial, folds

SMALLEST = 0.02  # an estimate nearer to 0 or 1 is moved there: one unit must not stand for more than fifty
N_FOLDS = 5
MODEL = Logistic(c=1.0)  # hardly penalised: who was contacted must not look more like chance than it was


def with_propensity(encoder: Encoder, trial: Trial, seed: int) -> tuple[Trial, float | None]:
    """The trial with P(treated) of every unit, and which share of the estimates was moved; None: known by design.

    Each estimate is from a logistic regression that was fitted without the unit.
    """
    if trial.propensity is not None:
        return trial, None
    fold = folds(trial.clusters, N_FOLDS, seed)
    found = np.empty(len(trial))
    for one in range(N_FOLDS):
        mine = fold == one
        rest = trial.part(~mine)
        found[mine] = logistic(MODEL.chance(encoder, rest.rows, rest.treated, seed).raw(trial.rows[mine]))
    kept = np.clip(found, SMALLEST, 1.0 - SMALLEST)
    return trial.with_propensity(kept), float((kept != found).mean())
