"""A service behind the door with real stores and a decider of ten lines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from features.catalogue import Offer, Placement, Treatment
from features.errors import BadInput
from features.facts import Facts
from features.group_commit import GroupCommit
from features.home import Home
from features.sqlite_log import SqliteLog
from serving.decision import Decision, DecisionRequest, OfferAnswer, PlacementAnswer
from serving.keys import SCOPES, Keys
from serving.metrics import Meter
from serving.settings import Settings
from serving.state.idempotency import Idempotency

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
VERSIONS = {"release": "12", "recommender": "4", "acceptance": "7", "churn": "3"}


@dataclass
class FakeDecider:
    """Offers `o-1` wherever `hero` is asked for; counts what it was asked."""

    edition: Any
    asked: list[DecisionRequest] = field(default_factory=list)

    def decide(self, request: DecisionRequest) -> Decision:
        for i, placement in enumerate(request.placements):
            if placement.placement_id not in ("hero", "strip"):
                raise BadInput(f"there is no placement {placement.placement_id!r}", f"/placements/{i}/placement_id")
        self.asked.append(request)
        offer = OfferAnswer(
            rank=1,
            offer_id="o-1",
            treatment_id="o-1/a",
            score=0.5,
            p_accept=0.05,
            selection_probability=0.975,
            value=10.0,
            reason_codes=("similar_customers",),
            payload={"title": "hello"},
        )
        decision = Decision(
            decision_id=f"01J{len(self.asked):023}",
            customer_id=request.customer_id,
            decided_at=NOW,
            expires_at=NOW + timedelta(minutes=30),
            currency="EUR",
            placements=tuple(PlacementAnswer(placement_id=p.placement_id, offers=(offer,)) for p in request.placements),
            policy="greedy",
            model_versions=dict(VERSIONS),
        )
        return msgspec.structs.replace(decision, log_payload=msgspec.json.encode(decision))


@dataclass
class FakeAnswering:
    decider: FakeDecider

    async def decide(self, request: DecisionRequest, received: float) -> Decision:
        return self.decider.decide(request)

    async def still_allowed(self, request: DecisionRequest, answer: Any) -> None:
        return None

    def start(self) -> None: ...

    def close(self) -> None: ...


class FakeCustomers:
    def read(self, customer_id: str, now_us: int) -> Any:
        return SimpleNamespace(features={}, snapshot_us=None)


class FakeService:
    """`serving.wiring.Service` with every store real, and no models."""

    def __init__(self, root: Path, **settings: Any) -> None:
        home = Home(root)
        self.settings = replace(Settings(home=home), **settings)
        self.now = NOW
        self.clock = lambda: self.now
        self.currency = "EUR"
        self.facts = Facts(home.facts_db)
        self.keys = Keys(home.facts_db)
        self.log_store = SqliteLog(home.log_db)
        self.log = GroupCommit(self.log_store)
        self.idempotency = Idempotency(home.state_db, self.clock)
        self.contacts: Any = None
        self.learner: Any = None
        offer = Offer(
            offer_id="o-1",
            name="one",
            value=10.0,
            currency="EUR",
            category="shoes",
            status="approved",
            treatments=(Treatment(treatment_id="o-1/a", payload={"title": "hello"}),),
        )
        self.facts.put(offer, NOW)
        self.facts.put(Placement(placement_id="hero", name="hero", channel="web"), NOW)
        view = SimpleNamespace(row={"o-1": 0}, offers=[offer], feature_set=None)
        self.decider = FakeDecider(SimpleNamespace(view=view, customers=FakeCustomers(), release=None))
        self.answering = FakeAnswering(self.decider)
        self.meter = Meter()
        self.checks: list[Any] = [SimpleNamespace(name="log", ok=True, detail="writing", needed=True)]
        self.secret = self.keys.create("secret", SCOPES, "test", NOW)

    def start(self) -> None: ...

    def close(self) -> None:
        self.log.close()
        self.log_store.close()
        self.idempotency.close()
        self.keys.close()
        self.facts.close()

    def catalogue_changed(self) -> None:
        pass

    def readiness(self) -> list[Any]:
        return self.checks
