"""What is believed of each offer's acceptance, relative to the release's estimate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.arrays import read_only

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Beliefs:
    """Per offer, for one segment: the true acceptance is the model's times a factor that is Gamma distributed.

    Shapes (n_offers,), on the edition's offer axis. The factor's mean is shape / rate; without evidence it is 1. What
    follows from the beliefs alone is worked out once for all decisions that see them.
    """

    shape: Numbers
    rate: Numbers
    n_seen: Numbers  # impressions that count as evidence, whatever the release
    position: int = 0  # of the log: what was received up to here has been learned

    @cached_property
    def factor(self) -> Numbers:
        """Expected correction of the model's estimate; (n_offers,), not to be written to."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return read_only(self.shape / self.rate)

    def fewer(self, impressions: int) -> NDArray[np.bool_]:
        """Which offers have been seen less often; (n_offers,), not to be written to."""
        found = self._fewer.get(impressions)
        if found is None:
            found = self._fewer[impressions] = read_only(self.n_seen < impressions)
        return found

    @cached_property
    def _fewer(self) -> dict[int, NDArray[np.bool_]]:
        return {}

    @classmethod
    def none(cls, n_offers: int, strength: float) -> Beliefs:
        """Before any evidence: a factor of 1, as sure of it as `strength` expected acceptances make one."""
        same = read_only(np.full(n_offers, strength))
        return cls(same, same, read_only(np.zeros(n_offers)))
