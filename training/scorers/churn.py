"""The scorer of churn: the chance of silence for as long as serves, for longer and shorter, and who is worth what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.errors import BrokenRelease
from training.scorers.base import Arrays, expect
from training.scorers.classifier import Classifier

P = TypeVar("P", float, NDArray[np.float64])


@dataclass(frozen=True, slots=True)
class Step:
    """From a horizon to its neighbour towards the one that serves.

    A longer horizon: the chance that silence lasts on to it, of who is silent for the neighbour's. A shorter one: the
    chance of silence for it, of who comes back within the neighbour's.
    """

    horizon_days: int
    classifier: Classifier


@dataclass(frozen=True, slots=True)
class ChurnScorer:
    """P(churn) of one customer, inside (0, 1): no activity for `horizon_days`, 0 where the release does not say."""

    KIND: ClassVar[str] = "churn"
    version: str
    classifier: Classifier
    horizon_days: int = 0
    steps: tuple[Step, ...] = ()
    if_staying: Mapping[str, float] = field(default_factory=dict)  # customer id -> currency; of whoever bought

    def p_churn(self, features: Mapping[str, Any]) -> float:
        return self.classifier.one(features)

    def hazard(self, features: Mapping[str, Any]) -> dict[int, float]:
        """P(churn) by horizon in days, ascending: a longer silence is never more likely than a shorter one."""
        one = {step.horizon_days: step.classifier.one(features) for step in self.steps}
        return by_horizon(self.horizon_days, self.p_churn(features), one)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta, arrays = self.classifier.parts()
        steps = []
        for step in self.steps:
            of_step, its_arrays = step.classifier.parts()
            steps.append({"horizon_days": step.horizon_days, **of_step})
            arrays |= {f"{_prefix(step.horizon_days)}{name}": array for name, array in its_arrays.items()}
        if self.if_staying:
            arrays["if_staying"] = np.fromiter(self.if_staying.values(), np.float64, len(self.if_staying))
        valued = {"valued": list(self.if_staying)}
        return {**meta, "horizon_days": self.horizon_days, "steps": steps, **valued}, arrays

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> ChurnScorer:
        steps = tuple(
            Step(of["horizon_days"], Classifier.made_of(of, _under(_prefix(of["horizon_days"]), arrays)))
            for of in meta.get("steps", ())
        )
        valued = meta.get("valued", [])
        worth = arrays["if_staying"] if valued else np.zeros(0)
        expect("if_staying", worth, (len(valued),))
        if not np.isfinite(worth).all():
            raise BrokenRelease("if_staying holds a value that is not a finite number")
        if_staying = dict(zip(valued, worth.tolist(), strict=True))
        return cls(meta["version"], Classifier.made_of(meta, arrays), meta.get("horizon_days", 0), steps, if_staying)


def by_horizon(serving_days: int, p: P, steps: Mapping[int, P]) -> dict[int, P]:
    """P(churn) by horizon from that of the one that serves and the chances of the steps; floats or arrays (n,)."""
    found = {serving_days: p}
    shorter = longer = p
    for days in sorted((d for d in steps if d < serving_days), reverse=True):
        shorter = found[days] = shorter + (1.0 - shorter) * steps[days]
    for days in sorted(d for d in steps if d > serving_days):
        longer = found[days] = longer * steps[days]
    return dict(sorted(found.items()))


def _prefix(horizon_days: int) -> str:
    return f"h{horizon_days}_"


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
