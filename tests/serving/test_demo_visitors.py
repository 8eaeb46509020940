"""The visitors of the simulated shop, played against a service that is a ten-line fake."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import islice
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from features.events import check_event
from serving.demo.panel import Level, Tally, line, watch
from serving.demo.response import new_crowd, on_offer
from serving.demo.visitors import QUESTIONS, Visit, Visitors
from serving.demo.world import PLACEMENTS, Size, make_world

NOW = datetime.now(UTC)
WORLD = make_world(3, Size(n_customers=100, n_offers=20, n_days=10), NOW)


class FakeService:
    """Answers with offers that run, drawn uniformly or as told, and keeps what it was sent."""

    def __init__(self, choose: Callable[[int], list[int]] | None = None) -> None:
        running = np.flatnonzero(on_offer(WORLD, np.array([WORLD.now_us]))[0])
        rng = np.random.default_rng(1)
        self.choose = choose or (lambda n: rng.choice(running, n, replace=False).tolist())
        self.questions: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path == "/v1/events":
            self.events += body["events"]
            return httpx.Response(202, json={})
        self.questions.append(body)
        rows = self.choose(sum(asked["limit"] for asked in body["placements"]))
        chosen = iter([{"offer_id": WORLD.offer_ids[row]} for row in rows])
        placements = [
            {
                "placement_id": asked["placement_id"],
                "offers": list(islice(chosen, asked["limit"])),
            }
            for asked in body["placements"]
        ]
        decision_id = f"d-{len(self.questions)}"
        return httpx.Response(200, json={"decision_id": decision_id, "placements": placements, "degraded": []})


def visitors(service: FakeService) -> Visitors:
    client = httpx.Client(transport=httpx.MockTransport(service), base_url="http://shop")
    return Visitors(WORLD, new_crowd(WORLD), client, np.random.default_rng(5), per_second=1e6)


def test_each_page_asks_for_its_own_placements() -> None:
    by_channel = [[(asked["placement_id"], asked["limit"]) for asked in question] for question in QUESTIONS]
    assert by_channel == [[("home-hero", 1), ("home-strip", 3)], [("app-card", 2)]]
    assert {place for question in by_channel for place, _ in question} == {one.placement_id for one in PLACEMENTS}


def test_what_visitors_report_is_what_the_service_takes() -> None:
    service, began = FakeService(), datetime.now(UTC)
    visits = list(visitors(service).come(200))
    checked = [check_event(event, datetime.now(UTC)) for event in service.events]
    assert len({event.event_id for event in checked}) == len(checked)
    counted = {kind: sum(event.event_type == kind for event in checked) for kind in ("visit", "impression", "accept")}
    assert counted == {
        "visit": 200,
        "impression": sum(visit.n_impressions for visit in visits),
        "accept": sum(visit.n_accepts for visit in visits),
    }
    assert all(event.decision_id is not None for event in checked if event.event_type != "visit")
    assert max(event.occurred_at for event in checked) - began < timedelta(minutes=5)


def test_a_random_service_earns_what_random_offers_earn_and_no_service_more_than_the_best() -> None:
    visits = list(visitors(FakeService()).come(400))
    earned, at_random = (
        np.array([getattr(visit, name) for visit in visits]) for name in ("expected", "expected_random")
    )
    difference = earned - at_random
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(visits))
    assert all(visit.expected <= visit.expected_best + 1e-12 for visit in visits)


def test_showing_one_offer_for_ever_tires_the_crowd_of_it() -> None:
    crowd = visitors(service := FakeService(choose=lambda n: [0]))
    crowd.per_second = 1.0  # hardly any time passes for the crowd
    for _ in range(300):
        crowd.visit()
    felt = crowd.crowd.fatigue
    assert felt[:, 0].max() > 3
    assert (felt[:, 1:] == 0).all()
    assert {event.get("offer_id", WORLD.offer_ids[0]) for event in service.events} == {WORLD.offer_ids[0]}


def test_a_page_without_offers_is_a_visit_and_nothing_more() -> None:
    service = FakeService(choose=lambda n: [])
    (visit,) = visitors(service).come(1)
    assert (visit.n_impressions, visit.n_accepts, visit.expected) == (0, 0, 0.0)
    assert [event["event_type"] for event in service.events] == ["visit"]


def test_a_service_that_fails_ends_the_visits_loudly() -> None:
    client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(500)), base_url="http://shop")
    with pytest.raises(httpx.HTTPStatusError):
        next(Visitors(WORLD, new_crowd(WORLD), client, np.random.default_rng(5)).come(1))


def test_the_panel_counts_by_hand() -> None:
    tally = Tally(Level(acceptance_rate=0.05, value_per_impression=0.5))
    tally.add(Visit(4, 2, 1, 10.0, 0.5, 0.2, 1.0, 0.004, 0))
    tally.add(Visit(1, 0, 0, 0.0, 0.3, 0.2, 0.5, 0.006, 1))
    figures = tally.figures()
    assert figures["acceptance rate"] == 1 / 5
    assert figures["value accepted per impression"] == 2.0
    assert figures["expected value, first place"] == pytest.approx(0.4)
    assert figures["decision p50, ms"] == pytest.approx(5.0)
    assert figures["degraded"] == 1
    assert line(tally).startswith(
        "2 visits, value per impression 2.00 (history, almost random: 0.50), acceptance 20.0%"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_the_watching_and_keeps_the_tally(terminal: bool) -> None:
    def come():
        yield from [Visit(4, 2, 1, 10.0, 0.5, 0.2, 1.0, 0.004, 0)] * 3
        raise KeyboardInterrupt

    output = StringIO()
    tally = watch(come(), Level(0.05, 0.5), Console(file=output, force_terminal=terminal))
    assert tally.n_visits == 3
    assert "closing the shop" in output.getvalue()
