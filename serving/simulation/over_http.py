"""A real `nbo serve` of its own for one arm, asked and told over HTTP as a website would.

Its clock is the real one, so that visits that lie days apart in the world are decided within minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np

from features.errors import StoreUnavailable
from features.events import parse_time, to_us
from features.home import Home
from serving.demo.service import running_service
from serving.demo.world import CHANNELS, World
from serving.keys import SCOPES, Keys
from serving.simulation.arms import Arm
from serving.simulation.engine import QUESTIONS, Met, Pages, page_of, rows_of
from serving.simulation.visits import N_PLACES, Visits

MOST_EVENTS = 1_000  # of one request
DEADLINE_MS = 2_000  # many are decided at once, and nobody waits
TIMEOUT_S = 60.0


class OverHttp:
    """One arm's service. Use `over_http`."""

    step_us = 1_000

    def __init__(self, world: World, client: httpx.Client) -> None:
        self.client = client
        self._rows = rows_of(world)
        self._customer_ids = world.customer_ids

    def ask(self, visits: Visits) -> Pages:
        asked = zip(visits.customers.tolist(), visits.channel.tolist(), strict=True)
        requests = [
            {
                "customer_id": self._customer_ids[customer],
                "placements": QUESTIONS[channel],
                "channel": CHANNELS[channel],
                "deadline_ms": DEADLINE_MS,
            }
            for customer, channel in asked
        ]
        decided = [_decision(one) for one in self.post("/v1/decisions/batch", {"requests": requests})["results"]]
        pages = [
            page_of(self._rows, channel, one["placements"])
            for channel, one in zip(visits.channel.tolist(), decided, strict=True)
        ]
        return Pages(
            np.array(pages, dtype=np.int64).reshape(len(pages), N_PLACES),
            [one["decision_id"] for one in decided],
            np.array([to_us(parse_time(one["decided_at"])) for one in decided]),
            [_met(one) for one in decided],
            np.array([bool(one["degraded"]) for one in decided], dtype=bool),
        )

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        """`StoreUnavailable` unless every event is taken."""
        now = datetime.now(UTC)  # what the world dates ahead of the service happens now
        for start in range(0, len(events), MOST_EVENTS):
            some = [
                {**one, "occurred_at": min(one["occurred_at"], now).isoformat()}
                if one["event_type"] == "cancel"
                else {**one, "occurred_at": one["occurred_at"].isoformat()}
                for one in events[start : start + MOST_EVENTS]
            ]
            answer = self.post("/v1/events", {"events": some})
            if answer["rejected"]:
                raise StoreUnavailable(f"the service took an event for wrong: {answer['rejected'][0]}")

    def post(self, path: str, body: Any) -> Any:
        return self._sent("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self._sent("PUT", path, body)

    def _sent(self, method: str, path: str, body: Any) -> Any:
        answer = self.client.request(method, path, json=body)
        if answer.is_error:
            raise StoreUnavailable(f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


def _decision(result: dict[str, Any]) -> dict[str, Any]:
    if "decision" not in result:
        raise StoreUnavailable(f"a decision was refused: {result.get('problem')}")
    decision: dict[str, Any] = result["decision"]
    return decision


def _met(decision: dict[str, Any]) -> Met:
    return tuple((one["experiment_id"], one["variant"]) for one in decision["experiments"])


@contextmanager
def over_http(home: Home, world: World, arm: Arm) -> Iterator[OverHttp]:
    """The service of one arm, on a home that is a copy; its own output is in `serve.log` there."""
    with closing(Keys(home.facts_db)) as keys:
        secret = keys.create("secret", SCOPES, "simulation", datetime.now(UTC))
    headers = {"Authorization": f"Bearer {secret}"}
    with (
        running_service(home, home.root / "serve.log", arm.environ()) as url,
        httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S) as client,
    ):
        yield OverHttp(world, client)
