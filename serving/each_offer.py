"""What was worked out for each offer of one version of the catalogue, so that the next one works out only what changed.

Versions share the offers that did not change, as the same objects; that is how they are told from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer

T = TypeVar("T")


class EachOffer:
    """Values by row, under keys; asked while an edition is prepared, by one thread at a time."""

    def __init__(self, offers: Sequence[Offer], before: EachOffer | None = None) -> None:
        self.offers = offers
        self._found: dict[Hashable, list[Any]] = {}
        self._shared: dict[Hashable, Any] = {}
        self._shared_before = before._shared if before is not None else {}
        self._before = before._found if before is not None else {}
        self.origin = _origin(offers, before.offers if before is not None else ())
        self.fresh: list[int] = np.flatnonzero(self.origin < 0).tolist()
        self._moved = before is None or len(offers) != len(before.offers) or not _in_place(self.origin)

    def of(self, key: Hashable, make: Callable[[Offer], T]) -> list[T]:
        """`make` of every offer, in order; those that the version before had too are not asked again.

        The same key must always come with a function that says the same of the same offer. Not to be written to.
        """
        found = self._found.get(key)
        if found is None:
            known = self._before.get(key)
            if known is None:
                found = [make(offer) for offer in self.offers]
            elif self._moved:
                rows = zip(self.origin.tolist(), self.offers, strict=True)
                found = [known[row] if row >= 0 else make(offer) for row, offer in rows]
            else:
                found = known.copy()
                for row in self.fresh:
                    found[row] = make(self.offers[row])
            self._found[key] = found
        return found

    def shared(self, key: Hashable, make: Callable[[], T], good: Callable[[T], bool]) -> T:
        """One object that versions hand on to each other; made anew where there is none, or none that is good."""
        if key not in self._shared:
            known = self._shared_before.get(key)
            self._shared[key] = known if known is not None and good(known) else make()
        found: T = self._shared[key]
        return found

    def follows(self, before: EachOffer) -> bool:
        """Whether `origin` tells rows of that version."""
        return self._before is before._found


def _origin(offers: Sequence[Offer], before: Sequence[Offer]) -> NDArray[np.intp]:
    """Per offer its row in the version before, -1 where it is new or another now; shape (n_offers,)."""
    if len(offers) == len(before):
        same = [row if offer is old else -1 for row, (offer, old) in enumerate(zip(offers, before, strict=True))]
        if same.count(-1) * 2 <= len(same):
            return np.array(same, np.intp)
    row_of = {id(offer): row for row, offer in enumerate(before)}
    return np.array([row_of.get(id(offer), -1) for offer in offers], np.intp)


def _in_place(origin: NDArray[np.intp]) -> bool:
    return bool(((origin == np.arange(len(origin))) | (origin < 0)).all())
