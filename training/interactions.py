"""Who took what, when: the recommender's view of the log, with one row axis per side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.events import US_PER_DAY


@dataclass(frozen=True)
class Interactions:
    """Positive events in time order; the customer and offer axes stay the same in every part of a split."""

    customers: tuple[str, ...]  # visitor keys
    offers: tuple[Offer, ...]  # the full catalogue, ordered by id
    profiles: Sequence[Mapping[str, Any]]  # (n_customers,) attributes by name
    customer: NDArray[np.int32]  # (n,) row of `customers`
    offer: NDArray[np.int32]  # (n,) row of `offers`
    weight: NDArray[np.float32]  # (n,)
    occurred_us: NDArray[np.int64]  # (n,) increasing

    def __len__(self) -> int:
        return len(self.customer)

    @property
    def offer_map(self) -> tuple[str, ...]:
        return tuple(offer.offer_id for offer in self.offers)

    def before(self, us: int) -> Interactions:
        return self.part(self.occurred_us < us)

    def between(self, from_us: int, to_us: int) -> Interactions:
        """`from_us` inclusive, `to_us` exclusive."""
        return self.part((self.occurred_us >= from_us) & (self.occurred_us < to_us))

    def part(self, keep: NDArray[np.bool_]) -> Interactions:
        return replace(
            self,
            customer=self.customer[keep],
            offer=self.offer[keep],
            weight=self.weight[keep],
            occurred_us=self.occurred_us[keep],
        )

    def pairs(self, until_us: int, half_life_days: float | None) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Each (customer, offer) once, as customer * n_offers + offer, and its weight aged to `until_us`."""
        weight = self.weight.astype(np.float64)
        if half_life_days is not None:
            weight = weight * 0.5 ** ((until_us - self.occurred_us) / (US_PER_DAY * half_life_days))
        pair = self.customer.astype(np.int64) * len(self.offers) + self.offer
        unique, at = np.unique(pair, return_inverse=True)
        return unique, np.bincount(at, weights=weight, minlength=len(unique)).astype(np.float64)

    def last_us(self) -> NDArray[np.int64]:
        """When each pair was taken last, in the order of `pairs`."""
        pair = self.customer.astype(np.int64) * len(self.offers) + self.offer
        unique, at = np.unique(pair, return_inverse=True)
        found = np.full(len(unique), np.iinfo(np.int64).min, np.int64)
        np.maximum.at(found, at, self.occurred_us)
        return found

    def taken(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Offers each customer took, as (starts (n_customers + 1,), offer rows), CSR style."""
        pairs = np.unique(self.customer.astype(np.int64) * len(self.offers) + self.offer)
        customer, offer = np.divmod(pairs, max(len(self.offers), 1))
        starts = np.searchsorted(customer, np.arange(len(self.customers) + 1)).astype(np.int64)
        return starts, offer.astype(np.int32)
