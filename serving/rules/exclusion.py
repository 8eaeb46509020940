"""Offers that the caller excluded are not shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from serving.rules.masks import Said

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class ExclusionRule:
    name: ClassVar[str] = "exclusion"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view

    def allows(self, asked: Asked) -> Said:
        if not asked.exclude_offer_ids:
            return None
        row_of = self._view.row
        rows = [row_of[offer_id] for offer_id in asked.exclude_offer_ids if offer_id in row_of]
        return rows or None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        return {"exclude_offer_ids": [self._view.offers[row].offer_id]}
