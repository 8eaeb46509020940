"""The live log: what happened and what was decided, on disk before it is acknowledged, in the order it arrived.

`Log` is the promise (held by tests/contracts/test_logs.py); `sqlite_log.py` is the embedded default. `group_commit.py`
lets many callers share one durable transaction, `log_export.py` copies the log to the lake.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

from features.events import Event


class LogEvent(NamedTuple):
    """One event as the log or its tail holds it."""

    position: int  # in the log, from 1; 0 in the tail
    event_id: str
    event_type: str
    customer_id: str
    occurred_us: int
    decision_id: str | None
    offer_id: str | None
    placement_id: str | None
    session_id: str | None
    channel: str | None
    category: str | None
    value: Decimal | None  # 4 decimals
    currency: str | None
    properties_json: str
    received_us: int = 0


class Exposure(NamedTuple):
    """That a unit met a variant of an experiment, in one of its phases."""

    experiment_id: str
    phase: int
    unit_id: str
    variant: str


class DecisionRow(NamedTuple):
    """One decision as logged; the payload is opaque here."""

    decision_id: str
    customer_id: str
    decided_us: int
    payload: bytes
    position: int = 0  # set when read
    exposures: Sequence[Exposure] = ()  # written with it, as far as they are the first; not read back


class ShadowRow(NamedTuple):
    """What a release that is never shown would have decided; the payload is opaque here."""

    decision_id: str
    release: str
    customer_id: str
    decided_us: int
    payload: bytes
    position: int = 0  # set when read


class ExposureRow(NamedTuple):
    """The first exposure of a unit in a phase of an experiment, as logged."""

    position: int  # among exposures, from 1
    experiment_id: str
    phase: int
    unit_id: str
    customer_id: str  # visitor key of the decision
    variant: str
    exposed_us: int
    decision_id: str


class Decided(NamedTuple):
    """That a decision was logged, without what was decided."""

    position: int
    decision_id: str
    decided_us: int


class Batch(NamedTuple):
    """What one caller wants written."""

    events: Sequence[Event]
    received_at: datetime
    decisions: Sequence[DecisionRow] = ()


class ErasedRows(NamedTuple):
    """How much was deleted."""

    events: int
    decisions: int
    tail: int
    exposures: int = 0


class Log(Protocol):
    """Positions grow in the order of commits: a reader that has seen position n will not later find one below n."""

    def write(self, batches: Sequence[Batch]) -> list[list[bool]]:
        """One transaction, durable when this returns. Per batch and event: True if new, False if its id is known.

        A known decision id is left as it is, of exposures the first of a unit in a phase stands, and nothing is written
        of an erased customer. `StoreUnavailable` when nothing was written.
        """
        ...

    def append(self, events: Sequence[Event], received_at: datetime) -> list[bool]: ...

    def append_decisions(self, rows: Sequence[DecisionRow]) -> None: ...

    def recent(self, customer_id: str, since_us: int, after_position: int, limit: int | None = None) -> list[LogEvent]:
        """One customer's events that occurred at or after `since_us` or arrived after `after_position`.

        Each event once, from log and tail, ordered by (occurred_us, event_id); with a limit, the newest ones.
        """
        ...

    def known(self, event_ids: Iterable[str]) -> set[str]:
        """Those of these ids that an event in the log has."""
        ...

    def decision(self, decision_id: str) -> DecisionRow | None: ...

    def events_after(self, position: int, limit: int) -> list[LogEvent]: ...

    def decisions_after(self, position: int, limit: int) -> list[DecisionRow]: ...

    def append_shadows(self, rows: Sequence[ShadowRow]) -> None:
        """As decisions are written; a release is a shadow of a decision once."""
        ...

    def shadows_after(self, position: int, limit: int) -> list[ShadowRow]: ...

    def decided_after(self, position: int, limit: int) -> list[Decided]:
        """The same decisions without their payloads, which are large."""
        ...

    def exposures_after(self, position: int, limit: int) -> list[ExposureRow]:
        """In the order of their own positions."""
        ...

    def exposed(self, customer_ids: Sequence[str]) -> set[str]:
        """Those of these visitors under whose key any exposure was logged."""
        ...

    def last_position(self) -> int:
        """Of events and decisions; 0 when empty."""
        ...

    def replace_tail(self, events: Iterable[LogEvent], snapshot_us: int) -> None:
        """From now on `recent` sees exactly these events beside the log; until then, exactly the former ones."""
        ...

    def tail_snapshot_us(self) -> int | None:
        """The instant that the tail begins at; None before the first `replace_tail`."""
        ...

    def erase(self, customer_ids: Sequence[str]) -> ErasedRows:
        """Delete all of these customers, and take nothing of them any more, from whichever process it comes."""
        ...

    def close(self) -> None: ...
