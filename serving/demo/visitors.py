"""Visitors of the simulated shop: each asks the service over HTTP, sees, answers as the truth has it, and reports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import numpy as np

from features.events import US_PER_DAY, to_us
from serving.demo.history import SEEN
from serving.demo.response import Context, Crowd, Response, on_offer, p_accept, recover, respond
from serving.demo.world import CHANNELS, CURRENCY, PAGES, PLACEMENTS, Floats, Ints, World

QUESTIONS: tuple[list[dict[str, Any]], ...] = tuple(
    [
        {"placement_id": PLACEMENTS[place].placement_id, "limit": int((page == place).sum())}
        for place in dict.fromkeys(page.tolist())
        if place >= 0
    ]
    for page in PAGES
)  # by channel


class Visit(NamedTuple):
    """What one visit came to. Expected values are of the first place, under the truth, in currency."""

    n_impressions: int
    n_clicks: int
    n_accepts: int
    value: float  # margin of what was accepted
    expected: float
    expected_random: float  # had the offer been drawn uniformly
    expected_best: float  # had the truth been known
    seconds: float  # the decision took, with HTTP
    degraded: int  # 1 if the decision was


@dataclass(slots=True)
class Visitors:
    """The crowd at the door. Tiredness passes in days that last as long as the pace needs for a day's visits."""

    world: World
    crowd: Crowd
    client: httpx.Client  # of the service, with its key
    rng: np.random.Generator
    per_second: float = 20.0
    began: float = field(default_factory=time.monotonic)

    def come(self, n_visits: int | None = None) -> Iterator[Visit]:
        """Visit after visit at the pace, for ever or `n_visits` times."""
        self.began = due = time.monotonic()
        while n_visits is None or n_visits > 0:
            yield self.visit()
            n_visits = None if n_visits is None else n_visits - 1
            due = max(due + 1 / self.per_second, time.monotonic() - 1.0)  # a slow spell is not caught up for ever
            time.sleep(max(0.0, due - time.monotonic()))

    def visit(self) -> Visit:
        rate = self.world.visits_per_day * ~self.crowd.gone
        row = int(self.rng.choice(len(rate), p=rate / rate.sum()))
        channel = int(self.rng.random() < self.world.app_share[row])
        customer_id, session_id = f"c-{row + 1:05d}", uuid4().hex
        started = time.perf_counter()
        question = {"customer_id": customer_id, "placements": QUESTIONS[channel], "channel": CHANNELS[channel]}
        answer = self.client.post("/v1/decisions", json=question)
        seconds = time.perf_counter() - started
        answer.raise_for_status()
        decision = answer.json()
        now = datetime.now(UTC)
        offers, places = self._page(decision)
        asked = np.array([row]), np.array([self._felt_us(now, float(rate.sum()))]), np.array([channel])
        seen = (self.rng.random((1, len(offers))) < SEEN[channel][: len(offers)]).astype(bool)
        expected = self._expected(*asked, offers, places)
        response = respond(self.world, self.crowd, asked[0], offers[None], seen, *asked[1:], places[None], self.rng)
        events = self._events(customer_id, session_id, channel, decision, now, seen[0], response)
        self.client.post("/v1/events", json={"events": events}).raise_for_status()
        accepted = offers[response.accepted[0]]
        return Visit(
            int(seen.sum()), int(response.clicked.sum()), len(accepted), float(self.world.value[accepted].sum()),
            *expected, seconds, int(bool(decision["degraded"])),
        )  # fmt: skip

    def _felt_us(self, now: datetime, visits_per_day: float) -> int:
        """Whole days ahead of now, so that the hour of the day is the one that the service sees."""
        days = int((time.monotonic() - self.began) * self.per_second / visits_per_day)
        return to_us(now) + days * US_PER_DAY

    def _page(self, decision: dict[str, Any]) -> tuple[Ints, Ints]:
        """(offer row, placement) of each place that was filled, (k,)."""
        rows = {offer_id: row for row, offer_id in enumerate(self.world.offer_ids)}
        names = {one.placement_id: place for place, one in enumerate(PLACEMENTS)}
        filled = [
            (rows[offer["offer_id"]], names[placement["placement_id"]])
            for placement in decision["placements"]
            for offer in placement["offers"]
        ]
        offers, places = np.array(filled, dtype=np.int64).reshape(-1, 2).T
        return offers, places

    def _expected(
        self, customers: Ints, us: Ints, channel: Ints, offers: Ints, places: Ints
    ) -> tuple[float, float, float]:
        """Of the offer in the first place, of a random one and of the best one."""
        if not len(offers):
            return 0.0, 0.0, 0.0
        recover(self.crowd, customers, us)
        value: Floats = p_accept(self.world, self.crowd, customers, Context(us, channel, places[:1]))[0]
        value = value * self.world.value
        running = on_offer(self.world, np.array([to_us(datetime.now(UTC))]))[0]
        return float(value[offers[0]]), float(value[running].mean()), float(value[running].max())

    def _events(
        self,
        customer_id: str,
        session_id: str,
        channel: int,
        decision: dict[str, Any],
        now: datetime,
        seen: Sequence[bool] | Any,
        response: Response,
    ) -> list[dict[str, Any]]:
        shared = {
            "customer_id": customer_id, "session_id": session_id, "channel": CHANNELS[channel],
            "occurred_at": now.isoformat(),
        }  # fmt: skip
        events: list[dict[str, Any]] = [{"event_type": "visit", **shared}]
        shown = [
            {"placement_id": placement["placement_id"], "offer_id": offer["offer_id"]}
            for placement in decision["placements"]
            for offer in placement["offers"]
        ]
        for k, place in enumerate(shown):
            happened = {
                "impression": seen[k], "click": response.clicked[0, k], "dismiss": response.dismissed[0, k],
                "accept": response.accepted[0, k], "purchase": response.accepted[0, k],
            }  # fmt: skip
            for event_type, there in happened.items():
                if there:
                    event = {"event_type": event_type, **shared, **place, "decision_id": decision["decision_id"]}
                    if event_type == "purchase":
                        price = self.world.price[self.world.offer_ids.index(place["offer_id"])]
                        event |= {"value": round(float(price), 2), "currency": CURRENCY}
                    events.append(event)
        return [{"event_id": f"{session_id}-{n}", **event} for n, event in enumerate(events)]
