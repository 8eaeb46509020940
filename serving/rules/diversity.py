"""Not too much of the same: a placement shows only so many offers of one category, and of one brand.

What earlier placements of the same decision show counts too, so that a page is as mixed as its slots want to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer, Placement

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Of the offers with the same code at most `most` are shown; -1 is like no other."""

    codes: Codes  # (n_offers,)
    most: int
    shown: dict[int, int]  # by code, in this decision

    def take(self, row: int) -> NDArray[np.bool_] | None:
        """One more is shown: the offers that no longer fit, if there are any; shape (n_offers,)."""
        code = int(self.codes[row])
        if code < 0:
            return None
        self.shown[code] = self.shown.get(code, 0) + 1
        return self.codes == code if self.shown[code] >= self.most else None


class DiversityRule:
    name: ClassVar[str] = "diversity"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._brand = _coded([brand_of(offer) for offer in view.offers])

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        if next(self._shown(asked), None) is None:
            return None
        closed = [crowd.codes == code for crowd in self.rooms(asked) for code in _full(crowd)]
        return ~np.logical_or.reduce(closed) if closed else None

    def rooms(self, asked: Asked) -> list[Crowd]:
        """What is shown already counts: a room that is full is said by `allows`."""
        placement = self._view.placements.get(asked.placement_id)
        limits = self._limits(placement) if placement is not None else []
        if not limits:
            return []
        shown = list(self._shown(asked))
        return [Crowd(codes, most, _counted(codes, shown)) for codes, most in limits]

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        placement, offer = self._view.placements[asked.placement_id], self._view.offers[row]
        shown = [self._view.offers[other] for other in self._shown(asked)]
        return {
            "category": offer.category,
            "max_per_category": placement.max_per_category,
            "of_category": sum(other.category == offer.category for other in shown) if offer.category else 0,
            "brand": brand_of(offer),
            "max_per_brand": placement.max_per_brand,
            "of_brand": sum(brand_of(other) == brand_of(offer) for other in shown) if brand_of(offer) else 0,
        }

    def _limits(self, placement: Placement) -> list[tuple[Codes, int]]:
        wanted = ((self._view.category, placement.max_per_category), (self._brand, placement.max_per_brand))
        return [(codes, most) for codes, most in wanted if most is not None]

    def _shown(self, asked: Asked) -> Iterator[int]:
        """The offers in earlier placements of this decision: the newest contacts."""
        for contact in reversed(asked.history.contacts if asked.history is not None else ()):
            if contact.decision_id != asked.decision_id or contact.decision_id is None:
                return
            if contact.offer_id in self._view.row:
                yield self._view.row[contact.offer_id]


def brand_of(offer: Offer) -> str | None:
    """Its attribute `brand`, if that is a text."""
    brand = offer.attributes.get("brand")
    return brand if isinstance(brand, str) and brand else None


def _coded(names: list[str | None]) -> Codes:
    code = {name: at for at, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([-1 if name is None else code[name] for name in names], np.int64)


def _counted(codes: Codes, rows: list[int]) -> dict[int, int]:
    counted: dict[int, int] = {}
    for row in rows:
        code = int(codes[row])
        if code >= 0:
            counted[code] = counted.get(code, 0) + 1
    return counted


def _full(crowd: Crowd) -> list[int]:
    return [code for code, n in crowd.shown.items() if n >= crowd.most]
