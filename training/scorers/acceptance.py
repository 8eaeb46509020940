"""The scorers of acceptance: the fitted model, and the stated prior where nothing was ever shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.errors import BrokenRelease
from training.encoder import OfferSide
from training.scorers.base import SMALLEST, Affinity, Arrays
from training.scorers.classifier import Classifier, RawForOffers, logistic
from training.trees import Forest, ForestRows

SMALLEST_SPREAD, LARGEST_SPREAD = 0.02, 3.0  # standard deviations of log-odds
SPREAD = "spread_"  # how its arrays are named


class AcceptanceModel(Protocol):
    """P(accept | customer, offer, context); always inside (0, 1)."""

    @property
    def version(self) -> str: ...
    def prepare(self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int) -> Any: ...
    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: Any
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class AcceptanceScorer:
    """The fitted acceptance model."""

    KIND: ClassVar[str] = "acceptance"
    version: str
    classifier: Classifier
    doubt: Forest | None = None  # the log of the standard deviation of the log-odds, by the classifier's columns

    def prepare(
        self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int
    ) -> RawForOffers:
        """`offer_features` as of `now_us`; anew when the catalogue or the offers' statistics change."""
        encoder = self.classifier.encoder
        self.classifier.calibration(np.zeros(1))  # compiled now, not by the first customer
        return self.classifier.model.prepare(encoder, encoder.prepare(offers, offer_features))

    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: RawForOffers
    ) -> NDArray[np.float64]:
        """Shape (n_offers,). `context` has channel, placement_id, hour and weekday (UTC, Monday is 0)."""
        return self.classifier.calibration(side.raw(features, context, affinity))

    def spread(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: RawForOffers
    ) -> NDArray[np.float64]:
        """Shape (n_offers,): the standard deviation of each offer's log-odds, as other customers to learn from would
        have moved them; before calibration. Zeros where the release has none."""
        of_offers: OfferSide = side.side
        if self.doubt is None:
            return np.zeros(len(of_offers.template))
        found = ForestRows(self.doubt, self.classifier.encoder, of_offers).raw(features, context, affinity)
        return np.exp(np.clip(found, np.log(SMALLEST_SPREAD), np.log(LARGEST_SPREAD)))

    def between(
        self,
        features: Mapping[str, Any],
        context: Mapping[str, Any],
        affinity: Affinity,
        side: RawForOffers,
        z: float = 1.96,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shapes (n_offers,): P(accept) with the log-odds `z` standard deviations lower, and higher."""
        raw = side.raw(features, context, affinity)
        away = z * self.spread(features, context, affinity, side)
        return self.classifier.calibration(raw - away), self.classifier.calibration(raw + away)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta, arrays = self.classifier.parts()
        if self.doubt is None:
            return meta, arrays
        return meta, {**arrays, **{f"{SPREAD}{name}": array for name, array in self.doubt.arrays().items()}}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> AcceptanceScorer:
        found = {name.removeprefix(SPREAD): array for name, array in arrays.items() if name.startswith(SPREAD)}
        doubt = Forest(**found) if found else None
        if doubt is not None and int(doubt.column.max(initial=-1)) >= len(meta["columns"]):
            raise BrokenRelease(f"the spread reads column {doubt.column.max()}, there are {len(meta['columns'])}")
        return cls(meta["version"], Classifier.made_of(meta, arrays), doubt)


@dataclass(frozen=True, slots=True)
class UncalibratedAcceptance:
    """Where no impression was ever logged: a stated prior times affinity, said to be uncalibrated.

    p = 2 * prior * logistic((affinity - centre) / scale), so that an offer of average affinity gets the prior and
    none gets more than twice of it. Centre and scale are those of the recommender over its training customers.
    """

    KIND: ClassVar[str] = "prior_times_affinity"
    version: str
    prior: float  # (0, 0.5)
    centre: float
    scale: float

    def prepare(self, offers: Sequence[Offer], offer_features: Mapping[str, Mapping[str, Any]], now_us: int) -> int:
        return len(offers)

    def p_accept(
        self, features: Mapping[str, Any], context: Mapping[str, Any], affinity: Affinity, side: int
    ) -> NDArray[np.float64]:
        z = (affinity.astype(np.float64) - self.centre) / self.scale
        return np.clip(2.0 * self.prior * logistic(z), SMALLEST, 1.0 - SMALLEST)

    def parts(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"prior": self.prior, "centre": self.centre, "scale": self.scale}, {}

    @classmethod
    def made_of(cls, meta: Mapping[str, Any], arrays: Arrays, offer_map: tuple[str, ...]) -> UncalibratedAcceptance:
        if not (0.0 < meta["prior"] < 0.5 and meta["scale"] > 0.0):
            raise BrokenRelease(f"prior {meta['prior']} must be in (0, 0.5) and scale {meta['scale']} above 0")
        return cls(meta["version"], meta["prior"], meta["centre"], meta["scale"])
