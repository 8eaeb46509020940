"""An answer in time, always: the decision, and what to do without what did not come.

The deadline runs from when the body was there to the answer handed to the socket. Reads may take a part of it, the
reservation another; what is left is for drawing and writing the answer, and grows with how long that takes and how late
the event loop comes round (`serving/pace.py`). Where no time is left for a decision, or too many are before it, none is
made: it would be late, and delay those behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from features.events import to_us
from serving.decide import NO_DECISION, Attempt, Decider
from serving.decision import Decision, DecisionRequest
from serving.drafting import placements_of
from serving.edition import Edition
from serving.lanes import Lane
from serving.pace import Pace
from serving.stores import Stores
from serving.together import Asks, Whole, begun, unreserved
from serving.withdrawn import without_withdrawn

OVER = ("deadline", "no time was left for a decision, so nothing was offered")
TURN_SHARE = 0.6  # of the deadline: who would have to wait longer for their turn is answered with nothing at once
TOGETHER_SHARE = 0.4  # then each store that has not answered is asked for itself, if one is stuck
WAIT_SHARE = 0.7  # for a decision on its way, where none is
READ_SHARE = 0.55  # reads that take longer are done without
CLAIM_SHARE = 0.65  # a reservation that takes longer is given up
LEFT_SHARE, LEFT_S = 0.25, 0.012  # for drawing and writing at least, whichever is less
WRITE_SHARE, WRITE_S = 0.1, 0.004  # for writing alone


class Times(NamedTuple):
    """The instants of one decision, of the monotonic clock."""

    turn: float  # when its turn must have come
    together: float  # how long the one thread for all is waited for while a store is stuck
    waited: float  # and while none is
    read: float
    claimed: float
    begun: float  # a draw that begins later is late

    @classmethod
    def of(cls, received: float, deadline_s: float, pace: Pace) -> Times:
        """Who waits is woken up to `lag_s` late."""
        lag_s, end = pace.lag_s, received + deadline_s
        written = end - min(WRITE_S, WRITE_SHARE * deadline_s)
        begun = end - lag_s - max(pace.work_s, min(LEFT_S, LEFT_SHARE * deadline_s))
        return cls(
            turn=min(received + TURN_SHARE * deadline_s, written - lag_s - pace.each_s),
            together=min(received + TOGETHER_SHARE * deadline_s, begun - lag_s),
            waited=min(received + WAIT_SHARE * deadline_s, written - lag_s),
            read=min(received + READ_SHARE * deadline_s, begun - lag_s),
            claimed=min(received + CLAIM_SHARE * deadline_s, begun - lag_s),
            begun=begun,
        )


class Answering:
    """Decides for the HTTP door. `start` on its event loop, `close` at the end."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.pace = Pace()
        self.stores = Stores(decider)
        self._n_open = 0  # decisions on their way

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
        if time.monotonic() + self._n_open * self.pace.each_s > times.turn:
            return self._over(edition, request)
        self._n_open += 1
        try:
            return await self._decided(edition, request, times, received)
        finally:
            self._n_open -= 1

    async def _decided(self, edition: Edition, request: DecisionRequest, times: Times, received: float) -> Decision:
        """On the thread that reads while all is well; here, from what could be read, where a store keeps that one."""
        asks = Asks(edition.customers, request.customer_id, to_us(self.decider.clock()))
        counts = edition.limits.any and self.decider.contacts is not None
        whole = Whole(asks, counts, edition, request, received)
        if not self.stores.are_well:
            return await self._here(whole, times, received)
        if not await self.stores.decided(whole, times.together, times.waited):
            if self.stores.together.is_stuck or self.stores.keeps_waiting:
                return await self._here(whole, times, received)
            return self._over(edition, request)  # it is the processor that is missing, and to ask again costs more
        if whole.error is not None:
            raise whole.error
        if whole.attempt is None or not whole.ready:
            return self.decider.nothing(edition, request, NO_DECISION)
        self.pace.turned(whole.took_s)
        if whole.decision is not None:
            self.pace.worked(whole.took_s)
            self.decider.given(whole.attempt)
            return whole.decision
        if request.explain:
            return await self._finished(whole.attempt, whole.took_s, received)
        return self.decider.nothing(edition, request, NO_DECISION)  # its answer could not be written

    async def _here(self, whole: Whole, times: Times, received: float) -> Decision:
        """On the event loop; each store is asked for itself."""
        edition, request = whole.edition, whole.request
        known = await self.stores.read(whole, edition.limits, times.read)
        began = time.monotonic()
        if began > times.begun:
            return self._over(edition, request)
        attempt = begun(self.decider, edition, request, known)
        if attempt is None:
            return self.decider.nothing(edition, request, NO_DECISION)
        worked_s = time.monotonic() - began
        self.pace.turned(worked_s)
        while (claim := attempt.claim) is not None:
            lost = await self.stores.claim(claim, edition.limits, times.claimed)
            if lost is not None and not lost:
                break
            if time.monotonic() > times.begun:
                return self._over(edition, request)
            attempt = unreserved(self.decider, attempt) if lost is None else self.decider.again(attempt, lost)
        return await self._finished(attempt, worked_s, received)

    async def _finished(self, attempt: Attempt, worked_s: float, received: float) -> Decision:
        """The answer and its row; `worked_s` is what the decision took so far, waiting not counted."""
        if attempt.question.request.explain:  # takes as long as there are offers: others are answered meanwhile
            return await asyncio.to_thread(self.decider.finish, attempt, received)
        began = time.monotonic()
        decision = self.decider.finish(attempt, received)
        self.pace.worked(worked_s + time.monotonic() - began)
        return decision

    def _over(self, edition: Edition, request: DecisionRequest) -> Decision:
        """Nothing, in time: what would come now is late, and delays those behind it."""
        if self._n_open <= 1:  # else those before it will say how long they take
            self.pace.spared()
        return self.decider.nothing(edition, request, OVER)

    async def still_allowed(self, request: DecisionRequest, answer: Mapping[str, Any]) -> dict[str, Any] | None:
        """A kept answer without what was withdrawn or refused since; None if all of it may still be shown."""
        return await asyncio.to_thread(without_withdrawn, self.decider, request, answer)
