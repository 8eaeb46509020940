"""What off-policy evaluation reads: choices that were made at random, each with its chance, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import BadInput

Numbers = NDArray[np.float64]
Rows = NDArray[np.int64]
CLOSE = 1e-6  # how far chances may be from a sum of 1, and two statements of one chance from each other


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One row per choice of a first rank, and what a candidate policy would have done in its place.

    `BadInput` names the array, the first row that cannot be, and what was expected.
    """

    offers: tuple[str, ...]  # the axis of offers
    action: Rows  # (n,) row of the offer that was shown
    probability: Numbers  # (n,) its chance when it was drawn, in (0, 1]
    reward: Numbers  # (n,) finite
    chances: Numbers  # (n, n_offers) of the candidate policy; each row sums to 1
    propensity: Numbers | None = None  # (n, n_offers) of the policy that was logged, if all its chances are known
    context: Numbers | None = None  # (n, d) what a reward model may learn from; NaN is missing
    estimate: Numbers | None = None  # (n, n_offers) an estimate of the reward, for a reward model to learn from
    worth: Numbers | None = None  # (n, n_offers) each reward is either 0 or this; None: rewards are what they are
    unit: Rows | None = None  # (n,) whose choice it was: rows of one unit are not independent; None: all are

    def __post_init__(self) -> None:
        n = len(self.action)
        if n == 0:
            raise BadInput("there is no row to evaluate: expected at least one logged choice", "action")
        wide = (n, len(self.offers))
        for name in ("action", "probability", "reward", "unit"):
            _expect_shape(name, getattr(self, name), (n,))
        for name in ("chances", "propensity", "estimate", "worth"):
            _expect_shape(name, getattr(self, name), wide)
        if self.context is not None and (self.context.ndim != 2 or len(self.context) != n):
            raise BadInput(f"context has the shape {self.context.shape}, expected ({n}, d)", "context")
        _refuse("action", self.action, (self.action < 0) | (self.action >= wide[1]), f"a row from 0 to {wide[1] - 1}")
        _refuse(
            "probability",
            self.probability,
            ~((self.probability > 0.0) & (self.probability <= 1.0 + CLOSE)),
            "the chance that the offer was drawn with, above 0 and at most 1; a policy that cannot state it cannot be "
            "evaluated from its log",
        )
        _refuse("reward", self.reward, ~np.isfinite(self.reward), "a finite number")
        for name, table in (("chances", self.chances), ("propensity", self.propensity)):
            if table is not None:
                least, total = table.min(axis=1), table.sum(axis=1)  # NaN if one of the row is
                _refuse(name, least, ~(least >= 0.0), "chances from 0 up")
                _refuse(f"{name} summed over offers", total, ~(np.abs(total - 1.0) <= CLOSE), "1")
        if self.propensity is not None:
            stated = self.propensity[np.arange(n), self.action]
            apart = np.abs(stated - self.probability) > CLOSE
            _refuse("propensity", stated, apart, "the same chance of what was shown as in `probability`")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def weights(self) -> Numbers:
        """How much more often the candidate would have shown what was shown; (n,), 0 where it never would."""
        shown: Numbers = self.chances[np.arange(len(self)), self.action] / self.probability
        return shown

    @property
    def units(self) -> tuple[Rows, int]:
        """(n,) numbers from 0 of the units, and how many there are."""
        if self.unit is None:
            return np.arange(len(self)), len(self)
        found, numbers = np.unique(self.unit, return_inverse=True)
        return numbers.astype(np.int64), len(found)

    def of(self, chances: Numbers) -> Logged:
        """The same log for another candidate; (n, n_offers)."""
        return replace(self, chances=np.asarray(chances, np.float64))

    def take(self, rows: NDArray[np.bool_] | Rows) -> Logged:
        """Some of the rows."""
        return replace(
            self,
            action=self.action[rows],
            probability=self.probability[rows],
            reward=self.reward[rows],
            chances=self.chances[rows],
            propensity=None if self.propensity is None else self.propensity[rows],
            context=None if self.context is None else self.context[rows],
            estimate=None if self.estimate is None else self.estimate[rows],
            worth=None if self.worth is None else self.worth[rows],
            unit=None if self.unit is None else self.unit[rows],
        )


def same_for_all(chances: ArrayLike, n: int) -> Numbers:
    """A policy that looks at nothing; (n_offers,) -> (n, n_offers)."""
    one = np.asarray(chances, np.float64)
    return np.broadcast_to(one, (n, len(one)))


def _expect_shape(name: str, found: NDArray[np.generic] | None, shape: tuple[int, ...]) -> None:
    if found is not None and found.shape != shape:
        raise BadInput(f"{name} has the shape {found.shape}, expected {shape}", name)


def _refuse(name: str, values: NDArray[np.generic], bad: NDArray[np.bool_], expected: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise BadInput(
            f"{name} == {values[rows[0]]} in row {rows[0]} ({rows.size:,} such rows), expected {expected}",
            name.split()[0],
        )
