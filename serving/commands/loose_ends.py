"""Catalogue objects that name others which are not there: allowed, and rarely meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from features.catalogue import Offer, Placement
from features.facts import Catalogue
from serving.api.kinds import CatalogueObject


def loose_ends(objects: Iterable[CatalogueObject], known: Catalogue) -> Iterator[tuple[CatalogueObject, str]]:
    """Each object with a sentence for each name that leads nowhere; `objects` count as known too."""
    objects = list(objects)
    offers = {one.offer_id for one in [*known.offers, *objects] if isinstance(one, Offer)}
    placements = {one.placement_id for one in [*known.placements, *objects] if isinstance(one, Placement)}
    for one in objects:
        if isinstance(one, Offer):
            for field, name in _placements_of(one):
                if name not in placements:
                    yield one, _told(field, name, "placement", placements)
        elif isinstance(one, Placement):
            for field, name in _offers_of(one):
                if name not in offers:
                    yield one, _told(field, name, "offer", offers)


def _placements_of(offer: Offer) -> Iterator[tuple[str, str]]:
    yield from (("placements", name) for name in offer.placements)
    for i, treatment in enumerate(offer.treatments):
        yield from ((f"treatments.{i}.placements", name) for name in treatment.placements)


def _offers_of(placement: Placement) -> Iterator[tuple[str, str]]:
    if placement.fallback_offer_id is not None:
        yield "fallback_offer_id", placement.fallback_offer_id
    yield from (("guaranteed_offer_ids", name) for name in placement.guaranteed_offer_ids)


def _told(field: str, name: str, kind: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), 3)
    return f"{field} names {name}, which is no {kind}" + (f"; close is {', '.join(close)}" if close else "")
