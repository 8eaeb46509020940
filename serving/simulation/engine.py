"""What a closed loop asks of a service, in process or over HTTP, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from serving.demo.response import Bools
from serving.demo.visitors import QUESTIONS
from serving.demo.world import PAGES, PLACEMENTS, Ints, World
from serving.simulation.visits import Visits

PLACE = {one.placement_id: place for place, one in enumerate(PLACEMENTS)}
SLOTS = tuple({place: np.flatnonzero(page == place) for place in set(page.tolist()) - {-1}} for page in PAGES)

Met = tuple[tuple[str, str], ...]  # (experiment, variant)


@dataclass(frozen=True, slots=True)
class Pages:
    """What was decided for n visits; k places."""

    offers: Ints  # (n, k) rows of the world's offers, -1: nothing
    decision_ids: Sequence[str]
    at_us: Ints  # (n,) when, by the service's clock
    met: Sequence[Met]
    degraded: Bools  # (n,)

    @property
    def filled(self) -> Bools:
        return self.offers >= 0


class Engine(Protocol):
    """A service that learns from what it is told."""

    step_us: int  # a moment, by the service's clock: a second where it is simulated

    def ask(self, visits: Visits) -> Pages: ...

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        """Events as the API takes them, in the order of time."""
        ...


def page_of(world_rows: dict[str, int], channel: int, placements: Sequence[Any]) -> Ints:
    """Offers by place, (k,), of an answer's placements, each with `placement_id` and `offers`."""
    page = np.full(PAGES.shape[1], -1)
    for placement in placements:
        slots = SLOTS[channel][PLACE[placement["placement_id"]]]
        for slot, offer in zip(slots, placement["offers"], strict=False):
            page[slot] = world_rows[offer["offer_id"]]
    return page


def rows_of(world: World) -> dict[str, int]:
    return {offer_id: row for row, offer_id in enumerate(world.offer_ids)}


__all__ = ["QUESTIONS", "Engine", "Met", "Pages", "page_of", "rows_of"]
