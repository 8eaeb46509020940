"""The scorer of churn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from training.scorers.base import Arrays
from training.scorers.classifier import Classifier


@dataclass(frozen=True, slots=True)
class ChurnScorer:
    """P(churn) of one customer, inside (0, 1)."""

    KIND: ClassVar[str] = "churn"
    version: str
    classifier: Classifier

    def p_churn(self, features: Mapping[str, Any]) -> float:
        return self.classifier.one(features)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return self.classifier.parts()

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> ChurnScorer:
        return cls(meta["version"], Classifier.made_of(meta, arrays))
