"""One release and one version of the catalogue, prepared together; swapped whole, so that no answer mixes two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.definitions import FeatureSet
from features.events import US_PER_DAY
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow, Happened, Told
from serving.learning.beliefs import Beliefs
from serving.levers import Levers
from serving.rules import Rules
from serving.rules.limits import limits_of
from training.again import Moved, acceptance_again, recommender_again
from training.scorers import Release

if TYPE_CHECKING:
    from serving.experimenting import Arms

US_PER_HOUR = 3_600_000_000
NOTHING_LEARNED = 1e6  # strength of a belief that nothing moves
PRIOR_ACCEPTANCE = 0.02  # P(accept) of an offer that nobody has been shown, when there is no model to ask


Believe = Callable[[CatalogueView, str, str], Beliefs]  # view, release, segment


class Customers(Protocol):
    """One read of one customer."""

    feature_set: FeatureSet

    @property
    def has_store(self) -> bool:
        """Whether stored features can be read at all."""
        ...

    def read(self, customer_id: str, now_us: int) -> CustomerNow: ...

    # The same in three parts, each of which may be late or fail for itself; the stores are asked for many at once.
    def happened(self, asked: Sequence[tuple[str, int]]) -> list[Happened]: ...
    def told(self, customer_ids: Sequence[str]) -> list[Told]: ...
    def assembled(self, customer_id: str, happened: Happened | None, told: Told | None, now_us: int) -> CustomerNow: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """What the models say of every offer for one customer; shapes (n_offers,)."""

    p_model: NDArray[np.float64]  # P(accept) as the release has it
    affinity: NDArray[np.float32]


class Edition:
    """A release prepared for the live catalogue; `release` is None before the first promotion."""

    def __init__(
        self,
        view: CatalogueView,
        customers: Customers,
        release: Release | None,
        offer_features: Mapping[str, Mapping[str, Any]],
        now_us: int,
        believe: Believe | None = None,
        inputs: Mapping[str, str] | None = None,
        before: Edition | None = None,
    ) -> None:
        """`before`: an edition to go on from, so that a change of the catalogue costs what changed."""
        self.view, self.customers, self.release, self.offers_as_of_us = view, customers, release, now_us
        self.rules = Rules(view)
        self.levers = Levers(view)
        self.lever_ids = frozenset([one.lever_id for one in view.levers])
        self.with_fewer_levers: dict[frozenset[str], Edition] = {}  # see `serving/experimenting.py`, as is the next
        self.arms: Arms | None = None  # None: nobody experiments
        self.shadow: Edition | None = None  # of a release that is scored beside this one, and never shown
        self.limits = limits_of(view)
        self._believe, self._offer_features = believe, offer_features
        self.inputs: Mapping[str, str] = inputs or {}  # digests of what it was made from, kept for replay
        self._bare: Edition | None = None
        self._nothing_learned = Beliefs.none(len(view), NOTHING_LEARNED)
        self._offers_known = frozenset(release.offer_map if release is not None else ())
        self._no_affinity = np.zeros(len(view), np.float32)
        if release is None:
            self.prior = np.array([_acceptance_rate(offer_features.get(o.offer_id)) for o in view.offers], np.float64)
            return
        self._affinity_side: Any
        self._acceptance_side: Any
        if before is None or not self._goes_on_from(before):
            self._affinity_side = release.recommender.prepare(view.offers)
            self._acceptance_side = release.acceptance.prepare(view.offers, offer_features, now_us)
            return
        moved, offers = Moved(view.each.origin, view.each.fresh), view.offers
        self._affinity_side = recommender_again(release.recommender, offers, before._affinity_side, moved)
        self._acceptance_side = acceptance_again(
            release.acceptance, offers, offer_features, now_us, before._acceptance_side, moved
        )

    def _goes_on_from(self, before: Edition) -> bool:
        """Whether the same models read the same of offers that did not change."""
        same_inputs = bool(self.inputs) and self.inputs == before.inputs
        same_hour = self.offers_as_of_us == before.offers_as_of_us
        follows = self.view.each.follows(before.view.each)
        return self.release is before.release and same_inputs and same_hour and follows

    def without_models(self) -> Edition:
        """The same catalogue, scored by popularity: for when a model fails while it decides."""
        if self._bare is None:
            self._bare = Edition(
                self.view, self.customers, None, self._offer_features, self.offers_as_of_us, self._believe, self.inputs
            )
        return self._bare

    @property
    def versions(self) -> dict[str, str | None]:
        if self.release is None:
            return {"release": None, "recommender": None, "acceptance": None, "churn": None}
        return dict(self.release.versions)

    @property
    def release_number(self) -> str:
        """For what is learned relative to a release; "none" before the first."""
        return "none" if self.release is None else self.release.number

    def known(self, row: int) -> bool:
        """Whether the release was trained with this offer."""
        return self.view.offers[row].offer_id in self._offers_known

    def beliefs(self, segment: str) -> Beliefs:
        """What was learned since the release about each offer, among this segment."""
        if self._believe is None:
            return self._nothing_learned
        return self._believe(self.view, self.release_number, segment)

    def score(self, customer_id: str, features: Mapping[str, Any], context: Mapping[str, Any]) -> Scores:
        """Scores of every offer in one placement; without a release, the offers' smoothed acceptance rates."""
        if self.release is None:
            return Scores(self.prior, self._no_affinity)
        # An acceptance model learned from taste; without one, the recommendation itself is what there is.
        recommender, side = self.release.recommender, self._affinity_side
        ask = recommender.taste if self.release.calibrated else recommender.affinity
        affinity = ask(customer_id, features, side)
        return Scores(self.release.acceptance.p_accept(features, context, affinity, self._acceptance_side), affinity)

    def p_churn(self, features: Mapping[str, Any]) -> float | None:
        """None without a churn model."""
        if self.release is None or self.release.churn is None:
            return None
        return self.release.churn.p_churn(features)

    def predicted_value(self, customer_id: str) -> float:
        """What the customer will bring on staying, by the release: currency, 0 of who is unknown to it."""
        if self.release is None or self.release.churn is None or not self.view.any_retention:
            return 0.0
        return self.release.churn.if_staying.get(customer_id, 0.0)

    def uplift(self, features: Mapping[str, Any]) -> float | None:
        """By how much a retention offer moves the chance that the customer stays; None if the release does not know,
        or nothing on offer is one.
        """
        if self.release is None or self.release.uplift is None or not self.view.any_retention:
            return None
        return self.release.uplift.uplift(features)


def context_of(now_us: int, channel: str, placement_id: str) -> dict[str, Any]:
    """The context that models are trained with: hour and weekday in UTC, Monday is 0, and the instant itself."""
    days, rest = divmod(now_us, US_PER_DAY)
    hour, weekday = rest // US_PER_HOUR, (days + 3) % 7  # 1970 began on a Thursday
    return {"channel": channel, "placement_id": placement_id, "hour": hour, "weekday": weekday, "us": now_us}


def _acceptance_rate(features: Mapping[str, Any] | None) -> float:
    """The offer's smoothed rate over the longest window, which is declared last; the prior where none is stored."""
    rates = [value for name, value in (features or {}).items() if name.startswith("offer_acceptance_rate_")]
    return float(rates[-1]) if rates else PRIOR_ACCEPTANCE
