"""An answer in time, always: the decision, and what to do without what did not come.

The deadline runs from the body read to the answer handed to the socket. Reads may take a part of it, the reservation
another; what is left is for drawing and writing the answer, and grows with how long that takes and how late the event
loop comes round (`serving/pace.py`). Where no time is left for a decision, none is made: it would be late, and delay
those behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from features.errors import BadInput
from features.events import to_us
from serving.decide import NO_DECISION, WITHHELD, Attempt, Decider, counted
from serving.decision import Decision, DecisionRequest
from serving.drafting import Known, placements_of
from serving.edition import Edition
from serving.lanes import Lane
from serving.pace import Pace
from serving.stores import Asks, Stores, Until
from serving.withdrawn import without_withdrawn

logger = logging.getLogger(__name__)
OVER = ("deadline", "no time was left for a decision, so nothing was offered")
TOGETHER_SHARE = 0.4  # of the deadline: then each store that has not answered is asked for itself
READ_SHARE = 0.6  # reads that take longer are done without
CLAIM_SHARE = 0.85  # a reservation that takes longer is given up


class Times(NamedTuple):
    """The instants of one decision, of the monotonic clock."""

    read: Until
    claimed: float
    begun: float  # a draw that begins later is late

    @classmethod
    def of(cls, received: float, deadline_s: float, pace: Pace) -> Times:
        """A question waited up to `lag_s` before it was read, and who waits is woken up to `lag_s` late."""
        begun = received + deadline_s - pace.lag_s - pace.work_s
        woken = begun - pace.lag_s
        together, read, claimed = (
            min(received + share * deadline_s, woken) for share in (TOGETHER_SHARE, READ_SHARE, CLAIM_SHARE)
        )
        return cls(Until(together, read), claimed, begun)


class Answering:
    """Decides for the HTTP door. `start` on its event loop, `close` at the end."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.pace = Pace()
        self.stores = Stores(decider)

    def start(self) -> None:
        self.stores.start(asyncio.get_running_loop())

    def close(self) -> None:
        self.stores.close()

    @property
    def lanes(self) -> tuple[Lane[Any, Any], ...]:
        return self.stores.lanes

    async def decide(self, request: DecisionRequest, received: float) -> Decision:
        """The decision, at latest `request.deadline_ms` after `received`, of the monotonic clock. `BadInput` only."""
        edition = self.decider.edition
        placements_of(edition.view, request)
        times = Times.of(received, request.deadline_ms / 1000.0, self.pace)
        self.pace.look(asyncio.get_running_loop())
        if time.monotonic() > times.read.apart:
            return self._over(edition, request)
        known = await self._read(edition, request, times.read)
        began = time.monotonic()
        if began > times.begun:
            return self._over(edition, request)
        attempt = self._begin(edition, request, known)
        if attempt is None:
            return self.decider.nothing(edition, request, NO_DECISION)
        worked_s = time.monotonic() - began
        while (claim := attempt.claim) is not None:
            lost = await self.stores.claim(claim, edition.limits, times.claimed)
            if lost is not None and not lost:
                break
            if time.monotonic() > times.begun:
                return self._over(edition, request)
            if lost is None:
                attempt = self.decider.withhold(attempt, ("state_unavailable", "no reservation in time: " + WITHHELD))
                break
            attempt = self.decider.again(attempt, lost)
        if request.explain:  # takes as long as there are offers: others are answered meanwhile
            return await asyncio.to_thread(self.decider.finish, attempt, received)
        began = time.monotonic()
        decision = self.decider.finish(attempt, received)
        self.pace.worked(worked_s + time.monotonic() - began)
        return decision

    def _over(self, edition: Edition, request: DecisionRequest) -> Decision:
        """Nothing, in time: what would come now is late, and delays those behind it."""
        self.pace.spared()
        return self.decider.nothing(edition, request, OVER)

    async def still_allowed(self, request: DecisionRequest, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """A kept answer without what was withdrawn or refused since; None if all of it may still be shown."""
        return await asyncio.to_thread(without_withdrawn, self.decider, request, answer)

    def _begin(self, edition: Edition, request: DecisionRequest, known: Known) -> Attempt | None:
        """The first draw; with a model that fails, one by popularity; None if even that fails."""
        try:
            return self.decider.begin(edition, request, known)
        except BadInput:
            raise
        except Exception:
            logger.exception("the release %s failed in a decision", edition.release_number)
        try:
            return self.decider.begin(edition, request, known, models=False)
        except Exception:
            logger.exception("a decision by popularity failed")
        return None

    async def _read(self, edition: Edition, request: DecisionRequest, until: Until) -> Known:
        reader, now_us = edition.customers, to_us(self.decider.clock())
        counts = edition.limits.any and self.decider.contacts is not None
        read = await self.stores.read(Asks(reader, request.customer_id, now_us), counts, until)
        customer = reader.assembled(request.customer_id, read.happened, read.told, now_us)
        if read.late:
            customer = customer.but(("deadline", f"went on without waiting for {' and '.join(read.late)}"))
        if not counts:
            return Known(customer)
        if read.counted is None:
            return Known(customer.but(("state_unavailable", WITHHELD)), None, None)
        return counted(customer, read.counted.history, read.counted.stock)
