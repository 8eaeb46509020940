"""What is believed of each offer's acceptance, relative to the release's estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.arrays import read_only

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Per offer, for one segment: the true acceptance is the model's times a factor that is Gamma distributed.

    Shapes (n_offers,), on the edition's offer axis. The factor's mean is shape / rate; without evidence it is 1.
    """

    shape: Numbers
    rate: Numbers
    n_seen: Numbers  # impressions that count as evidence, whatever the release
    position: int = 0  # of the log: what was received up to here has been learned

    @property
    def factor(self) -> Numbers:
        """Expected correction of the model's estimate; (n_offers,)."""
        return self.shape / self.rate

    @classmethod
    def none(cls, n_offers: int, strength: float) -> Beliefs:
        """Before any evidence: a factor of 1, as sure of it as `strength` expected acceptances make one."""
        same = read_only(np.full(n_offers, strength))
        return cls(same, same, read_only(np.zeros(n_offers)))
