"""What the catalogue limits, as the transaction that reserves checks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.catalogue_view import CatalogueView
from serving.state.contacts import Claim, Claimed, ContactHistory, Stock


class Limits:
    """All limits of one version of the catalogue."""

    def __init__(self, view: CatalogueView) -> None:
        self.any = False  # whether anything is limited at all

    def covers(self, claimed: Claimed) -> bool:
        """Whether something limits this pick, so that it must be reserved."""
        return self.any

    def broken(self, claim: Claim, history: ContactHistory, stock: Stock) -> Sequence[Claimed]:
        """The picks that may not be made after all; empty if the claim stands as a whole."""
        return ()

    def seen_stock(self, stock: Stock) -> dict[str, Any]:
        """What a decision saw of the stock, as plain values, for its row of the log and for replay."""
        return {}
