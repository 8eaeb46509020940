"""What happened at some visits, as events that the API takes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from features.events import from_us
from serving.demo.response import Bools, Response
from serving.demo.world import CHANNELS, CURRENCY, PAGES, PLACEMENTS, World
from serving.simulation.engine import Pages
from serving.simulation.visits import Visits

STEPS = {"impression": 1, "click": 4, "dismiss": 4, "accept": 30, "purchase": 31}  # moments after the decision


def events_of(
    world: World, visits: Visits, pages: Pages, seen: Bools, response: Response, step_us: int, run: str
) -> list[dict[str, Any]]:
    """In the order of visits, and of time within each. Ids begin with `run`, and repeat where it does."""
    customer_ids, offer_ids = world.customer_ids, world.offer_ids
    done = {
        "impression": seen, "click": response.clicked, "dismiss": response.dismissed, "accept": response.accepted,
        "purchase": response.accepted,
    }  # fmt: skip
    found: list[dict[str, Any]] = []
    for row, (number, customer, channel) in enumerate(
        zip(visits.number.tolist(), visits.customers.tolist(), visits.channel.tolist(), strict=True)
    ):
        at_us, session = int(pages.at_us[row]), f"{run}-{number}"
        shared = {"customer_id": customer_ids[customer], "session_id": session, "channel": CHANNELS[channel]}
        found.append(_event("visit", from_us(at_us), session, shared))
        for event_type, mask in done.items():
            moment = from_us(at_us + STEPS[event_type] * step_us)
            for place in mask[row].nonzero()[0].tolist():
                offer = int(pages.offers[row, place])
                shown: dict[str, Any] = {
                    "decision_id": pages.decision_ids[row],
                    "offer_id": offer_ids[offer],
                    "placement_id": PLACEMENTS[PAGES[channel, place]].placement_id,
                }
                if event_type == "purchase":
                    shown |= {"value": round(float(world.price[offer]), 2), "currency": CURRENCY}
                found.append(_event(event_type, moment, f"{session}-{event_type}-{place}", shared | shown))
    return found


def _event(event_type: str, moment: datetime, event_id: str, rest: dict[str, Any]) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": event_type, "occurred_at": moment, **rest}
