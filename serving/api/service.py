"""What the door needs of the service behind it, and how an endpoint gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

from fastapi import Depends, Request

from features.events import Event
from features.facts import Facts
from features.log import DecisionRow, ErasedRows, LogEvent
from serving.decision import Decision, DecisionRequest
from serving.erasing import Forgetful
from serving.keys import Keys
from serving.metrics import Meter
from serving.settings import Clock, Settings
from serving.state.contacts import Contacts
from serving.state.idempotency import Idempotency

if TYPE_CHECKING:
    from serving.edition import Edition
    from serving.replay import Replayer


class Check(Protocol):
    """One dependency; `needed` says whether the service cannot answer without it."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def needed(self) -> bool: ...


class Writer(Protocol):
    """The log as the door writes it: many callers, one durable commit."""

    def submit(self, events: Sequence[Event], received_at: datetime) -> Future[list[bool]]: ...
    def submit_decisions(self, rows: Sequence[DecisionRow]) -> Future[list[bool]]: ...
    def hand_over(self, row: DecisionRow) -> None: ...
    @property
    def delayed_s(self) -> float: ...


class Reader(Protocol):
    """The log as the door reads it."""

    def recent(
        self, customer_id: str, since_us: int, after_position: int, limit: int | None = None
    ) -> list[LogEvent]: ...
    def known(self, event_ids: Iterable[str]) -> set[str]: ...
    def decision(self, decision_id: str) -> DecisionRow | None: ...
    def exposed(self, customer_ids: Sequence[str]) -> set[str]: ...
    def erase(self, customer_ids: Sequence[str]) -> ErasedRows: ...


class Decides(Protocol):
    """Answers for the edition it holds."""

    @property
    def edition(self) -> Edition: ...
    def decide(self, request: DecisionRequest) -> Decision: ...


class Answers(Protocol):
    """Decides within the deadline."""

    async def decide(self, request: DecisionRequest, received: float) -> Decision: ...
    async def still_allowed(self, request: DecisionRequest, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """A kept answer without what may not be shown any more; None if all of it may."""
        ...

    def start(self) -> None:
        """On the event loop that will ask."""
        ...

    def close(self) -> None: ...


class Service(Protocol):
    """`serving.wiring.Service`, or a fake."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def currency(self) -> str: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def contacts(self) -> Contacts | None: ...
    @property
    def learner(self) -> Forgetful | None: ...
    @property
    def log(self) -> Writer: ...
    @property
    def log_store(self) -> Reader: ...
    @property
    def decider(self) -> Decides: ...
    @property
    def meter(self) -> Meter: ...
    @property
    def answering(self) -> Answers: ...
    @property
    def replayer(self) -> Replayer: ...
    def start(self) -> None: ...
    def close(self) -> None: ...
    def catalogue_changed(self) -> None: ...
    def readiness(self) -> Sequence[Check]: ...


async def _current(request: Request) -> Service:
    return cast(Service, request.app.state.service)


Served = Annotated[Service, Depends(_current)]
