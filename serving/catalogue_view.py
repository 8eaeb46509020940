"""The live catalogue as arrays on one offer axis, in the order of offer ids."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.catalogue import ContactPolicy, Lever, Offer, Placement
from features.definitions import FeatureSet
from features.events import to_us
from features.facts import Catalogue

FOREVER_US = np.iinfo(np.int64).max


class CatalogueView:
    """One version of the catalogue. Archived offers are left out; drafts stay, so that a rule can say why not."""

    def __init__(self, catalogue: Catalogue, feature_set: FeatureSet | None = None) -> None:
        self.version = catalogue.version
        self.offers: tuple[Offer, ...] = tuple(o for o in catalogue.offers if o.status != "archived")
        self.placements: dict[str, Placement] = {p.placement_id: p for p in catalogue.placements}
        self.row: dict[str, int] = {offer.offer_id: i for i, offer in enumerate(self.offers)}
        self.approved = np.array([o.status == "approved" for o in self.offers], dtype=bool)
        self.starts_us = np.array([to_us(o.starts_at) if o.starts_at else -FOREVER_US for o in self.offers], np.int64)
        self.ends_us = np.array([to_us(o.ends_at) if o.ends_at else FOREVER_US for o in self.offers], np.int64)
        self.value = np.array([o.value for o in self.offers], np.float64)  # (n_offers,), in the deployment's currency
        self.priority = np.array([o.priority for o in self.offers], np.int64)
        self.category_names = sorted({o.category for o in self.offers if o.category is not None})
        codes = {name: code for code, name in enumerate(self.category_names)}
        self.category = np.array([codes[o.category] if o.category is not None else -1 for o in self.offers], np.int64)
        self.retention = np.array([o.retention for o in self.offers], dtype=bool)
        self.any_retention = bool(self.retention.any())
        self.save_rate = np.array([_save_rate(o) for o in self.offers], np.float64)  # NaN where the offer names none
        self.ones, self.zeros = np.ones(len(self.offers)), np.zeros(len(self.offers))
        for shared in (self.ones, self.zeros):
            shared.setflags(write=False)
        self.contact_policies: tuple[ContactPolicy, ...] = catalogue.contact_policies
        self.levers: tuple[Lever, ...] = catalogue.levers
        self.feature_set = feature_set  # what rules may name
        self._treatments: dict[tuple[str, str | None], NDArray[np.int16]] = {}
        self._fits: dict[tuple[str, str | None], NDArray[np.bool_] | None] = {}

    def __len__(self) -> int:
        return len(self.offers)

    def fits(self, placement_id: str, channel: str) -> NDArray[np.bool_] | None:
        """Which offers have a treatment there, shape (n_offers,); None: all."""
        self.treatment_for(placement_id, channel)
        return self._fits[placement_id, channel if channel in self._named_channels else None]

    @cached_property
    def _named_channels(self) -> frozenset[str]:
        of_offers = {channel for o in self.offers for channel in o.channels}
        return frozenset(of_offers | {channel for o in self.offers for t in o.treatments for channel in t.channels})

    def treatment_for(self, placement_id: str, channel: str) -> NDArray[np.int16]:
        """Per offer the index of the first treatment that fits, -1 if none does; shape (n_offers,)."""
        # A channel that no offer names behaves like any other such channel, so callers cannot fill the cache.
        key = (placement_id, channel if channel in self._named_channels else None)
        if key not in self._treatments:
            fitting = [_first_fit(offer, placement_id, channel) for offer in self.offers]
            self._treatments[key] = np.array(fitting, np.int16)
            fits = self._treatments[key] >= 0
            self._fits[key] = None if fits.all() else fits
        return self._treatments[key]


def _save_rate(offer: Offer) -> float:
    """The share of leaving customers that this offer is expected to keep, in [0, 1]; NaN if it does not say."""
    rate = offer.attributes.get("save_rate")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= 1 else math.nan


def _first_fit(offer: Offer, placement_id: str, channel: str) -> int:
    def fits(channels: tuple[str, ...], placements: tuple[str, ...]) -> bool:
        return (not channels or channel in channels) and (not placements or placement_id in placements)

    if not fits(offer.channels, offer.placements):
        return -1
    return next((i for i, t in enumerate(offer.treatments) if fits(t.channels, t.placements)), -1)
