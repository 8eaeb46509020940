"""Uplift: by how much a contact moves the chance of an outcome, for whom, and whether that may be claimed at all."""

from __future__ import annotations

from collections.abc import Callable

from training.encoder import Encoder
from training.scorers.uplift import Effect
from training.uplift.bases import BASES, Base
from training.uplift.dr_learner import fit_dr
from training.uplift.t_learner import fit_t
from training.uplift.trial import Trial
from training.uplift.x_learner import fit_x

Learner = Callable[[Encoder, Trial, Base, int], Effect]  # columns, units, base learner, seed
UPLIFT: dict[str, Learner] = {"t": fit_t, "x": fit_x, "dr": fit_dr}

__all__ = ["BASES", "UPLIFT", "Base", "Learner", "Trial"]
