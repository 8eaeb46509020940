"""X-learner: what each unit gained by its arm, told by the other arm's model, and these gains learned in turn.

Made for arms of unequal size: the smaller arm's gains are told by the model of the larger. Source: Künzel, Sekhon,
Bickel and Yu, Metalearners for estimating heterogeneous treatment effects (PNAS 2019),
https://doi.org/10.1073/pnas.1804597116
"""

from __future__ import annotations

from training.encoder import Encoder
from training.scorers.classifier import logistic
from training.scorers.uplift import Effect
from training.uplift.bases import Base
from training.uplift.trial import Trial


def fit_x(encoder: Encoder, trial: Trial, base: Base, seed: int) -> Effect:
    control, treated = (trial.part(trial.treated == arm) for arm in (False, True))
    of_control = base.chance(encoder, control.rows, control.y, seed)
    of_treated = base.chance(encoder, treated.rows, treated.y, seed)
    gained = treated.y - logistic(of_control.raw(treated.rows))
    missed = logistic(of_treated.raw(control.rows)) - control.y
    models = (
        (base.kind, base.number(encoder, control.rows, missed, seed)),
        (base.kind, base.number(encoder, treated.rows, gained, seed)),
    )
    # The paper's weight is the propensity; of its function of the customer only the mean is kept, so that a customer
    # is weighed by two models and not by three. The gains of the smaller arm weigh more, as they are told better.
    return Effect("weighted", models, share=float(trial.treated.mean()))
