"""One release and one version of the catalogue, prepared together; swapped whole, so that no answer mixes two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.definitions import FeatureSet
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow
from training.scorers import Release

PRIOR_ACCEPTANCE = 0.02  # P(accept) of an offer that nobody has been shown, when there is no model to ask


class Customers(Protocol):
    """One read of one customer."""

    feature_set: FeatureSet

    @property
    def has_store(self) -> bool:
        """Whether stored features can be read at all."""
        ...

    def read(self, customer_id: str, now_us: int) -> CustomerNow: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """What the models say of every offer for one customer; shapes (n_offers,)."""

    p_accept: NDArray[np.float64]
    affinity: NDArray[np.float32]
    p_churn: float | None


class Edition:
    """A release prepared for the live catalogue; `release` is None before the first promotion."""

    def __init__(
        self,
        view: CatalogueView,
        customers: Customers,
        release: Release | None,
        offer_features: Mapping[str, Mapping[str, Any]],
        now_us: int,
    ) -> None:
        self.view, self.customers, self.release, self.offers_as_of_us = view, customers, release, now_us
        self._offers_known = frozenset(release.offer_map if release is not None else ())
        self._no_affinity = np.zeros(len(view), np.float32)
        if release is None:
            self.prior = np.array([_acceptance_rate(offer_features.get(o.offer_id)) for o in view.offers], np.float64)
            return
        self._affinity_side = release.recommender.prepare(view.offers)
        self._acceptance_side = release.acceptance.prepare(view.offers, offer_features, now_us)

    @property
    def versions(self) -> dict[str, str | None]:
        if self.release is None:
            return {"release": None, "recommender": None, "acceptance": None, "churn": None}
        return dict(self.release.versions)

    def known(self, row: int) -> bool:
        """Whether the release was trained with this offer."""
        return self.view.offers[row].offer_id in self._offers_known

    def score(
        self, customer_id: str, features: Mapping[str, Any], context: Mapping[str, Any], *, churn: bool = True
    ) -> Scores:
        """Scores of every offer in one placement; without a release, the offers' smoothed acceptance rates."""
        if self.release is None:
            return Scores(self.prior, self._no_affinity, None)
        # An acceptance model learned from taste; without one, the recommendation itself is what there is.
        recommender, side = self.release.recommender, self._affinity_side
        ask = recommender.taste if self.release.calibrated else recommender.affinity
        affinity = ask(customer_id, features, side)
        p_accept = self.release.acceptance.p_accept(features, context, affinity, self._acceptance_side)
        p_churn = self.release.churn.p_churn(features) if churn and self.release.churn is not None else None
        return Scores(p_accept, affinity, p_churn)


def context_of(moment: datetime, channel: str, placement_id: str) -> dict[str, Any]:
    """The context that models are trained with; `moment` in UTC."""
    return {"channel": channel, "placement_id": placement_id, "hour": moment.hour, "weekday": moment.weekday()}


def _acceptance_rate(features: Mapping[str, Any] | None) -> float:
    """The offer's smoothed rate over the longest window, which is declared last; the prior where none is stored."""
    rates = [value for name, value in (features or {}).items() if name.startswith("offer_acceptance_rate_")]
    return float(rates[-1]) if rates else PRIOR_ACCEPTANCE
