"""The live catalogue as arrays on one offer axis, in the order of offer ids."""

from __future__ import annotations

import math
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from features.catalogue import SAVE_RATE, ContactPolicy, Lever, Offer, Placement, Treatment
from features.definitions import FeatureSet
from features.events import to_us
from features.experiment import Experiment
from features.facts import Catalogue
from serving.each_offer import EachOffer

FOREVER_US = np.iinfo(np.int64).max


class CatalogueView:
    """One version of the catalogue. Archived offers are left out; drafts stay, so that a rule can say why not."""

    def __init__(
        self, catalogue: Catalogue, feature_set: FeatureSet | None = None, before: CatalogueView | None = None
    ) -> None:
        """`before`: a version to go on from, so that a change costs what changed."""
        self.version = catalogue.version
        self.offers: tuple[Offer, ...] = tuple(o for o in catalogue.offers if o.status != "archived")
        self.placements: dict[str, Placement] = {p.placement_id: p for p in catalogue.placements}
        self.feature_set: FeatureSet | None = feature_set  # what rules may name
        goes_on = before is not None and before.feature_set == feature_set
        each = EachOffer(self.offers, before.each if before is not None and goes_on else None)
        self.each: EachOffer = each
        self.row: dict[str, int] = {name: row for row, name in enumerate(each.of("offer_id", _offer_id))}
        self.approved = np.array(each.of("approved", _approved), dtype=bool)
        self.starts_us = np.array(each.of("starts_us", _starts_us), np.int64)
        self.ends_us = np.array(each.of("ends_us", _ends_us), np.int64)
        self.value = np.array(each.of("value", _value), np.float64)  # (n_offers,), in the deployment's currency
        self.priority = np.array(each.of("priority", _priority), np.int64)
        categories = each.of("category", _category)
        self.category_names = sorted({name for name in categories if name is not None})
        codes: dict[str | None, int] = {name: code for code, name in enumerate(self.category_names)}
        self.category = np.array([codes.get(name, -1) for name in categories], np.int64)
        self.retention = np.array(each.of("retention", _retention), dtype=bool)
        self.any_retention = bool(self.retention.any())
        self.save_rate = np.array(each.of("save_rate", _save_rate), np.float64)  # NaN where the offer names none
        self.ones, self.zeros = np.ones(len(self.offers)), np.zeros(len(self.offers))
        self.level = np.zeros(len(self.offers), np.int64)  # priorities where none counts
        for shared in (self.ones, self.zeros, self.level):
            shared.setflags(write=False)
        self.contact_policies: tuple[ContactPolicy, ...] = catalogue.contact_policies
        self.levers: tuple[Lever, ...] = catalogue.levers
        self.experiments: tuple[Experiment, ...] = catalogue.experiments
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
        return frozenset().union(*set(self.each.of("channels", _channels)))

    def treatment_for(self, placement_id: str, channel: str) -> NDArray[np.int16]:
        """Per offer the index of the first treatment that fits, -1 if none does; shape (n_offers,)."""
        # A channel that no offer names behaves like any other such channel, so callers cannot fill the cache.
        named = channel if channel in self._named_channels else None
        key = (placement_id, named)
        if key not in self._treatments:
            fitting = self.each.of(("treatment", *key), partial(_first_fit, placement_id=placement_id, channel=named))
            self._treatments[key] = np.array(fitting, np.int16)
            fits = self._treatments[key] >= 0
            self._fits[key] = None if fits.all() else fits
        return self._treatments[key]


def _offer_id(offer: Offer) -> str:
    return offer.offer_id


def _approved(offer: Offer) -> bool:
    return offer.status == "approved"


def _starts_us(offer: Offer) -> int:
    return to_us(offer.starts_at) if offer.starts_at else -FOREVER_US


def _ends_us(offer: Offer) -> int:
    return to_us(offer.ends_at) if offer.ends_at else FOREVER_US


def _value(offer: Offer) -> float:
    return offer.value


def _priority(offer: Offer) -> int:
    return offer.priority


def _category(offer: Offer) -> str | None:
    return offer.category


def _retention(offer: Offer) -> bool:
    return offer.retention


def _channels(offer: Offer) -> frozenset[str]:
    """That the offer or one of its treatments names."""
    return frozenset((*offer.channels, *(channel for one in offer.treatments for channel in one.channels)))


def _save_rate(offer: Offer) -> float:
    """The share of leaving customers that this offer is expected to keep, in [0, 1]; NaN if it does not say."""
    rate = offer.attributes.get(SAVE_RATE)
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 <= rate <= 1 else math.nan


def fits_there(one: Offer | Treatment, placement_id: str, channel: str | None) -> bool:
    """Whether it may be shown in a placement, over a channel."""
    return (not one.channels or channel in one.channels) and (not one.placements or placement_id in one.placements)


def _first_fit(offer: Offer, placement_id: str, channel: str | None) -> int:
    if not fits_there(offer, placement_id, channel):
        return -1
    return next((i for i, t in enumerate(offer.treatments) if fits_there(t, placement_id, channel)), -1)
