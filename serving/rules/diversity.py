"""Not too much of the same: a placement shows only so many offers of one category, and of one brand.

What earlier placements of the same decision show counts too, so that a page is as mixed as its slots want to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.catalogue import Offer, Placement
from serving.rules.masks import without

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked

Rows = NDArray[np.intp]


class Kinds:
    """Which offers are alike: those with the same code; -1 is like no other."""

    def __init__(self, codes: NDArray[np.int64]) -> None:
        self.of: list[int] = codes.tolist()  # by row
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(codes.max(initial=-1) + 2)).tolist()
        self.rows: list[Rows] = [order[first:last] for first, last in pairwise(ends)]  # by code


class Crowd(Struct, eq=False):
    """Of the offers with the same code at most `most` are shown."""

    kinds: Kinds
    most: int
    shown: dict[int, int]  # by code, in this decision

    def take(self, row: int) -> Rows | None:
        """One more is shown: the rows that no longer fit, if there are any."""
        code = self.kinds.of[row]
        if code < 0:
            return None
        n = self.shown[code] = self.shown.get(code, 0) + 1
        return self.kinds.rows[code] if n >= self.most else None


class DiversityRule:
    name: ClassVar[str] = "diversity"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._category, self._brand = Kinds(view.category), Kinds(_coded(view.each.of("brand", brand_of)))
        self._limits = {name: self._limits_of(placement) for name, placement in view.placements.items()}

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        if not asked.earlier:
            return None
        closed = [crowd.kinds.rows[code].tolist() for crowd in self.rooms(asked) for code in _full(crowd)]
        return without(len(self._view), chain.from_iterable(closed)) if closed else None

    def rooms(self, asked: Asked) -> list[Crowd]:
        """What is shown already counts: a room that is full is said by `allows`."""
        limits = self._limits.get(asked.placement_id)
        if not limits:
            return []
        if not asked.earlier:
            return [Crowd(kinds, most, {}) for kinds, most in limits]
        shown = self._shown(asked)
        return [Crowd(kinds, most, _counted(kinds, shown)) for kinds, most in limits]

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

    def _limits_of(self, placement: Placement) -> list[tuple[Kinds, int]]:
        wanted = ((self._category, placement.max_per_category), (self._brand, placement.max_per_brand))
        return [(kinds, most) for kinds, most in wanted if most is not None]

    def _shown(self, asked: Asked) -> list[int]:
        return [self._view.row[offer_id] for offer_id in asked.earlier if offer_id in self._view.row]


def brand_of(offer: Offer) -> str | None:
    """Its attribute `brand`, if that is a text."""
    brand = offer.attributes.get("brand")
    return brand if isinstance(brand, str) and brand else None


def _coded(names: list[str | None]) -> NDArray[np.int64]:
    code = {name: at for at, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([-1 if name is None else code[name] for name in names], np.int64)


def _counted(kinds: Kinds, rows: Sequence[int]) -> dict[int, int]:
    counted: dict[int, int] = {}
    for row in rows:
        code = kinds.of[row]
        if code >= 0:
            counted[code] = counted.get(code, 0) + 1
    return counted


def _full(crowd: Crowd) -> list[int]:
    return [code for code, n in crowd.shown.items() if n >= crowd.most]
