"""T-learner: one model of the outcome per arm; uplift is the difference of their chances.

Source: Künzel, Sekhon, Bickel and Yu, Metalearners for estimating heterogeneous treatment effects (PNAS 2019),
https://doi.org/10.1073/pnas.1804597116
"""

from __future__ import annotations

from training.encoder import Encoder
from training.scorers.uplift import Effect
from training.uplift.bases import Base
from training.uplift.trial import Trial


def fit_t(encoder: Encoder, trial: Trial, base: Base, seed: int) -> Effect:
    arms = [trial.part(trial.treated == arm) for arm in (False, True)]
    return Effect("difference", tuple((base.kind, base.chance(encoder, arm.rows, arm.y, seed)) for arm in arms))
