"""A customer is contacted at most so often: with an offer, a category, in a placement, on a channel, at all."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.rules.limits import Limits, distinct, limits_of
from serving.rules.masks import Said, without
from serving.rules.tally import Capping, Tally
from serving.state.contacts import ContactHistory

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules import Room
    from serving.rules.asked import Asked

FOREVER = sys.maxsize


class CapsRule:
    """A policy's cap holds for every offer on its channels, an offer's own only for that offer. Limits are above 0."""

    name: ClassVar[str] = "caps"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._limits = limits_of(view)
        self._policies = self._limits.of_policies
        self._own = _grouped(view, self._limits)
        self._capped = np.array([offer.offer_id in self._limits.of_offer for offer in view.offers], dtype=bool)
        self._in_category = {name: view.category == code for code, name in enumerate(view.category_names)}
        # No cap is reached by fewer contacts than this.
        self._least = min([*(cap.limit for cap in self._policies), *(own.least for own in self._own)], default=FOREVER)
        self._last: tuple[ContactHistory, int, Tally] | None = None

    def allows(self, asked: Asked) -> Said:
        history = asked.history
        if history is not None and len(history.contacts) < self._least:
            return None
        policies = [cap for cap in self._policies if cap.channels is None or asked.channel in cap.channels]
        if history is None:
            return np.zeros(len(self._view), dtype=bool) if policies else ~self._capped
        tally = self._tally(asked, history)
        closed: list[Any] = []
        for cap in policies:
            if tally.may_reach(cap, cap.limit):
                closed += self._over(cap, tally, asked)
        for own in self._own:
            if own.may_reach(tally):
                closed += [rows for rows in (own.over(tally, asked),) if len(rows)]
        if all(isinstance(rows, list) for rows in closed):
            return [row for rows in closed for row in rows] or None
        allowed = without(len(self._view), ())
        for rows in closed:
            allowed[rows] = False
        return allowed

    def rooms(self, asked: Asked) -> Sequence[Room]:
        """What policies' caps leave to this decision. An offer's own caps are left to the claim: they bind only it."""
        from serving.rules import Room

        if asked.history is None:
            return ()
        placement = self._view.placements.get(asked.placement_id)
        most = placement.max_offers if placement is not None else len(self._view)
        rooms = []
        for cap in self._policies:
            if cap.of == "offer" or (cap.channels is not None and asked.channel not in cap.channels):
                continue
            if cap.limit - len(asked.history.contacts) >= most:
                continue
            tally = self._tally(asked, asked.history)
            if cap.of == "category":
                counted = tally.by(cap)
                for name, rows in self._in_category.items():
                    if 0 < (left := cap.limit - counted.get(name, 0)) < most:
                        rooms.append(Room(rows, left, self.name))
            elif 0 < (left := cap.limit - tally.of(cap, "", None, asked.placement_id, asked.channel)) < most:
                rooms.append(Room(None, left, self.name))
        return rooms

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.history is None:
            return {"contacts": "could not be read"}
        offer = self._view.offers[row]
        tally = self._tally(asked, asked.history)
        for cap in (*self._policies, *self._limits.of_offer.get(offer.offer_id, ())):
            if cap.channels is None or asked.channel in cap.channels:
                n = tally.of(cap, offer.offer_id, offer.category, asked.placement_id, asked.channel)
                if n >= cap.limit:
                    whose = {"contact_policy": cap.policy_id} if cap.policy_id is not None else {}
                    return {**whose, "of": cap.of, "window": cap.window.text, "limit": cap.limit, "counted": n}
        return {}

    def _tally(self, asked: Asked, history: ContactHistory) -> Tally:
        last = self._last
        if last is not None and last[0] is history and last[1] == asked.now_us:
            return last[2]  # the rooms ask again what the mask has counted
        tally = Tally(history, asked.now_us, asked.time_zone, self._limits.categories)
        self._last = history, asked.now_us, tally
        return tally

    def _over(self, cap: Capping, tally: Tally, asked: Asked) -> list[Any]:
        """The rows that a policy's cap closes, as one or more selections."""
        if cap.of not in ("offer", "category"):
            n = tally.of(cap, "", None, asked.placement_id, asked.channel)
            return [slice(None)] if n >= cap.limit else []
        over = [name for name, _ in tally.reaching(cap, cap.limit)]
        if cap.of == "offer":
            row_of = self._view.row
            return [[row_of[name] for name in over if name in row_of]] if over else []
        return [self._in_category[name] for name in over if name in self._in_category]


class _Own:
    """Caps of single offers that count the same contacts; each has its own limit."""

    def __init__(self, cap: Capping, rows: Sequence[int], limits: Sequence[int], names: Sequence[str | None]) -> None:
        self._cap = cap
        self._rows, self._limits = np.array(rows, np.intp), np.array(limits, np.int64)
        # By offer id or category: of one offer each its row and limit, of several where they stand.
        self._only: dict[str | None, tuple[int, int]] = dict(zip(names, zip(rows, limits, strict=True), strict=True))
        self._at: dict[str | None, NDArray[np.intp]] = {}
        self.least = min(limits)
        if len(self._only) == len(names):
            return
        at: dict[str | None, list[int]] = {}
        for i, name in enumerate(names):
            at.setdefault(name, []).append(i)
        self._only = {name: (rows[held[0]], limits[held[0]]) for name, held in at.items() if len(held) == 1}
        self._at = {name: np.array(held, np.intp) for name, held in at.items() if len(held) > 1}

    def may_reach(self, tally: Tally) -> bool:
        return tally.may_reach(self._cap, self.least)

    def over(self, tally: Tally, asked: Asked) -> Sequence[int] | NDArray[np.intp]:
        """The rows whose limit is reached."""
        if self._cap.of not in ("offer", "category"):
            n = tally.of(self._cap, "", None, asked.placement_id, asked.channel)
            return self._rows[self._limits <= n]
        found: list[int] = []
        for name, n in tally.reaching(self._cap, self.least):
            only = self._only.get(name)
            if only is not None:
                if n >= only[1]:
                    found.append(only[0])
            elif name in self._at:
                at = self._at[name]
                found.extend(self._rows[at][self._limits[at] <= n].tolist())
        return found


def _grouped(view: CatalogueView, limits: Limits) -> tuple[_Own, ...]:
    rows_of: dict[int, list[int]] = {id(caps): [] for caps in distinct(limits.of_offer)}
    for offer_id, caps in limits.of_offer.items():
        rows_of[id(caps)].append(view.row[offer_id])
    groups: dict[tuple[str, str], _Group] = {}
    for caps in distinct(limits.of_offer):
        for cap in caps:
            groups.setdefault((cap.of, cap.window.text), _Group(cap, [], [], [])).add(cap, rows_of[id(caps)], view)
    return tuple(_Own(*group) for group in groups.values() if group.rows)


class _Group(NamedTuple):
    """What `_Own` is made of."""

    cap: Capping
    rows: list[int]
    limits: list[int]
    names: list[str | None]

    def add(self, cap: Capping, rows: Sequence[int], view: CatalogueView) -> None:
        if cap.of == "category":  # without one nothing is counted
            rows = [row for row in rows if view.offers[row].category is not None]
        self.rows.extend(rows)
        self.limits.extend([cap.limit] * len(rows))
        if cap.of == "offer":
            self.names.extend(view.offers[row].offer_id for row in rows)
        else:
            self.names.extend(view.offers[row].category if cap.of == "category" else None for row in rows)
