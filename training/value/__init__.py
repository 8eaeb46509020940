"""What customers are worth from their purchases alone: how often they will buy, how much each time, and until when.

Buy till you die: BG/NBD for the number of purchases, Gamma-Gamma for their size, by maximum likelihood.
"""

from __future__ import annotations

from training.value.bgnbd import BgNbd, fit_bgnbd
from training.value.clv import Worth, expected_loss, worth_of
from training.value.gamma_gamma import GammaGamma, fit_gamma_gamma
from training.value.history import Repeats, repeats_of
from training.value.holdout import ValueReport, by_frequency, judge_value, money_of

__all__ = [
    "BgNbd",
    "GammaGamma",
    "Repeats",
    "ValueReport",
    "Worth",
    "by_frequency",
    "expected_loss",
    "fit_bgnbd",
    "fit_gamma_gamma",
    "judge_value",
    "money_of",
    "repeats_of",
    "worth_of",
]
