"""A small shop's log, written line by line: decisions, impressions and outcomes with ids that tests can name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from features.events import Event, to_us
from features.log import DecisionRow, Log
from features.sqlite_log import SqliteLog
from serving.learning.evidence import Change, Rules
from serving.learning.fold import fold
from serving.learning.learner import Learner
from serving.learning.memory import SqliteMemory

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def payload(offers: dict[str, float | None], release: str | None = "7", segment: str = "web", **more) -> bytes:
    """A decision's row of the log with what learning reads of it; `offers` maps ids to p_model."""
    shown = [{"rank": n, "offer_id": offer_id, "p_model": p} for n, (offer_id, p) in enumerate(offers.items(), 1)]
    row = {
        "placements": [{"placement_id": "hero", "segment": segment, "offers": shown}],
        "model_versions": {"release": release},
        **more,
    }
    return msgspec.json.encode(row)


@dataclass
class Shop:
    """Writes to a log; every call is one commit unless it is given to `together`."""

    log: Log
    now: datetime = NOW
    numbers: count = field(default_factory=count)

    def decision(self, decision_id: str, customer: str = "c-1", at: datetime | None = None, **said) -> None:
        offers = said.pop("offers", {"o-1": 0.1})
        body = said.pop("body", None) or payload(offers, **said)
        self.log.append_decisions([DecisionRow(decision_id, customer, to_us(at or self.now), body)])

    def event(
        self, kind: str, decision_id: str | None, offer_id: str | None = "o-1", customer: str = "c-1",
        at: datetime | None = None, **more,
    ) -> None:  # fmt: skip
        event = Event(
            event_id=f"e-{next(self.numbers)}", event_type=kind, customer_id=customer, occurred_at=at or self.now,
            decision_id=decision_id, offer_id=offer_id, **more,
        )  # fmt: skip
        self.log.append([event], max(self.now, at or self.now))

    def shown(self, decision_id: str, customer: str = "c-1", taken: bool = False, **said) -> None:
        """A decision of one offer, seen, and perhaps taken a minute later."""
        offer_id = next(iter(said.get("offers", {"o-1": 0.1})))
        self.decision(decision_id, customer, **said)
        self.event("impression", decision_id, offer_id, customer)
        if taken:
            self.event("accept", decision_id, offer_id, customer, at=self.now + timedelta(minutes=1))


def shop_at(folder: Path) -> Shop:
    return Shop(SqliteLog(folder / "log.db"))


def open_shop(folder: Path) -> Iterator[Shop]:
    """For a fixture: closed after the test."""
    shop = shop_at(folder)
    yield shop
    shop.log.close()


def open_learners(shop: Shop, folder: Path, prior_strength: float = 20.0) -> Iterator[Callable[..., Learner]]:
    """For a fixture: a function that opens learners of the shop's log, or another; closed after the test."""
    opened: list[Learner] = []

    def make(path: str = "learning.db", log: Log | None = None, **options: Any) -> Learner:
        opened.append(Learner(log or shop.log, folder / path, prior_strength=prior_strength, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def folded(folder: Path, log: Log, rules: Rules | None = None, limit: int = 1_000) -> list[Change]:
    """All that a fold of the whole log finds, `limit` events at a time."""
    with memory_at(folder) as memory:
        while memory.folded()[0] < log.last_position():
            with memory.step():
                fold(memory, log, rules or Rules(), limit)
        return [change for _, change in memory.changes_after(0, 100_000)]


@contextmanager
def memory_at(folder: Path) -> Iterator[SqliteMemory]:
    memory = SqliteMemory(folder / "learning.db")
    try:
        yield memory
    finally:
        memory.close()


def sums(changes: list[Change]) -> dict[tuple[str, str, str], tuple[int, float, float]]:
    """(release, segment, offer) -> (impressions, expected, accepted), rounded."""
    found: dict[tuple[str, str, str], tuple[int, float, float]] = {}
    for one in changes:
        key = (one.release, one.segment, one.offer_id)
        n, expected, accepted = found.get(key, (0, 0.0, 0.0))
        found[key] = (n + one.n, round(expected + one.expected, 9), round(accepted + one.accepted, 9))
    return found
