"""An answer in time, always: the decision with its store I/O in lanes, and what to do without what did not come.

The deadline runs from the body read to the answer handed to the socket. Reads may take a part of it, the reservation
another; what is left is for drawing and writing the answer, and grows with how long that takes and how late the event
loop comes round (`serving/pace.py`). Where no time is left for a decision, none is made: it would be late, and delay
those behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from features.errors import BadInput, StoreUnavailable
from features.events import to_us
from serving.customer import Happened, Told
from serving.decide import NO_DECISION, WITHHELD, Attempt, Decider, counted
from serving.decision import Decision, DecisionRequest
from serving.drafting import Known, placements_of
from serving.edition import Customers, Edition
from serving.lanes import Lane, all_until
from serving.pace import Pace
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed, ContactHistory, Stock
from serving.withdrawn import without_withdrawn

logger = logging.getLogger(__name__)
A = TypeVar("A")
READ_SHARE = 0.6  # of the deadline: reads that take longer are done without
STOCK_FRESH_S = 0.02
CLAIM_SHARE = 0.85  # of the deadline: a reservation that takes longer is given up
OVER = ("deadline", "no time was left for a decision, so nothing was offered")


class Until(NamedTuple):
    """The instants of one decision, of the monotonic clock."""

    read: float
    claimed: float
    begun: float  # a draw that begins later is late

    @classmethod
    def of(cls, received: float, deadline_s: float, pace: Pace) -> Until:
        """A question waited up to `lag_s` before it was read, and who waits is woken up to `lag_s` late."""
        lag_s, work_s = pace.lag_s, pace.work_s
        begun = received + deadline_s - lag_s - work_s
        woken = begun - lag_s
        return cls(
            min(received + READ_SHARE * deadline_s, woken), min(received + CLAIM_SHARE * deadline_s, woken), begun
        )


class Asks(NamedTuple):
    """Whom the customers' lanes are asked about."""

    reader: Customers
    customer_id: str
    now_us: int


class Counted(NamedTuple):
    """What the contacts' lane says of a customer."""

    history: ContactHistory
    stock: Stock


class History(NamedTuple):
    customer_id: str
    now_us: int


class Claiming(NamedTuple):
    claim: Claim
    limits: Limits


class Cancel(NamedTuple):
    decision_id: str


class Answering:
    """Decides for the HTTP door. `start` on its event loop, `close` at the end."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self._stock: Stock | None = None  # of the contacts' lane alone
        self._stock_at = 0.0
        self.pace = Pace()
        self.happened: Lane[Asks, Happened] = Lane("features", _happened)
        self.told: Lane[Asks, Told] = Lane("profiles", _told)
        self.counted: Lane[Any, Any] = Lane("contacts", self._count, too_late=self._give_back)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        for lane in self.lanes:
            lane.start(loop)

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()

    @property
    def lanes(self) -> tuple[Lane[Any, Any], ...]:
        return self.happened, self.told, self.counted

    async def decide(self, request: DecisionRequest, received: float) -> Decision:
        """The decision, at latest `request.deadline_ms` after `received`, of the monotonic clock. `BadInput` only."""
        edition = self.decider.edition
        placements_of(edition.view, request)
        until = Until.of(received, request.deadline_ms / 1000.0, self.pace)
        self.pace.look(asyncio.get_running_loop())
        if time.monotonic() > until.read:
            return self._over(edition, request)
        known = await self._read(edition, request, until.read)
        began = time.monotonic()
        if began > until.begun:
            return self._over(edition, request)
        attempt = self._begin(edition, request, known)
        if attempt is None:
            return self.decider.nothing(edition, request, NO_DECISION)
        worked_s = time.monotonic() - began
        while (claim := attempt.claim) is not None:
            lost = await self._claim(claim, edition.limits, until.claimed)
            if lost is not None and not lost:
                break
            if time.monotonic() > until.begun:
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

    async def _read(self, edition: Edition, request: DecisionRequest, until: float) -> Known:
        reader, now_us = edition.customers, to_us(self.decider.clock())
        asks = Asks(reader, request.customer_id, now_us)
        counts = edition.limits.any and self.decider.contacts is not None
        wanted: list[tuple[Lane[Any, Any], Any]] = [(self.happened, asks), (self.told, asks)]
        if counts:
            wanted.append((self.counted, History(request.customer_id, now_us)))
        (happened, told, *read), late = await all_until(wanted, until)
        customer = reader.assembled(request.customer_id, happened, told, now_us)
        if late:
            customer = customer.but(("deadline", f"went on without waiting for {' and '.join(late)}"))
        if not counts:
            return Known(customer)
        if read[0] is None:
            return Known(customer.but(("state_unavailable", WITHHELD)), None, None)
        return counted(customer, read[0].history, read[0].stock)

    async def _claim(self, claim: Claim, limits: Limits, until: float) -> Sequence[Claimed] | None:
        """The picks that were lost; None if there was no answer in time, and then nothing stays reserved."""
        if time.monotonic() > until:
            return None
        (lost,), _ = await all_until([(self.counted, Claiming(claim, limits))], until)
        return lost

    def _count(self, asked: Sequence[Any]) -> list[Any]:
        """One batch of the contacts' lane: what must be given back, then reservations, then reads."""
        contacts = self.decider.contacts
        assert contacts is not None
        answers: dict[int, Any] = {}
        kinds = (Cancel, Claiming, History)
        of = {kind: [at for at, one in enumerate(asked) if isinstance(one, kind)] for kind in kinds}
        if of[Cancel]:
            contacts.cancel([asked[at].decision_id for at in of[Cancel]])
        for limits in {id(asked[at].limits): asked[at].limits for at in of[Claiming]}.values():
            mine = [at for at in of[Claiming] if asked[at].limits is limits]
            lost = contacts.claim([asked[at].claim for at in mine], limits)
            answers.update(zip(mine, lost, strict=True))
            if any(lost):
                self._stock = None  # it was older than a last unit
        if of[History]:
            answers.update(zip(of[History], self._counted([asked[at] for at in of[History]]), strict=True))
        return [answers.get(at, ()) for at in range(len(asked))]

    def _counted(self, asked: Sequence[History]) -> Sequence[Counted | None]:
        """None for all if they cannot be had: what the same batch has claimed stands all the same."""
        contacts = self.decider.contacts
        assert contacts is not None
        try:
            self.decider.catch_up()
            histories = contacts.histories([one.customer_id for one in asked])
            stock = self._fresh_stock(max(one.now_us for one in asked))
        except StoreUnavailable as error:
            logger.warning("contacts: %s", error)
            return [None] * len(asked)
        return [Counted(found, stock) for found in histories]

    def _fresh_stock(self, now_us: int) -> Stock:
        """The stock as of a moment ago: what is claimed meanwhile, a reservation sees."""
        assert self.decider.contacts is not None
        now_s = time.monotonic()
        if self._stock is None or now_s - self._stock_at > STOCK_FRESH_S:
            self._stock, self._stock_at = self.decider.contacts.stock(now_us), now_s
        return self._stock

    def _give_back(self, asked: Any, answer: Any) -> None:
        """A reservation that came too late for its answer."""
        if isinstance(asked, Claiming) and not answer:
            self.counted.ask(Cancel(asked.claim.decision_id))


def _happened(asked: Sequence[Asks]) -> list[Happened]:
    return _of_each(asked, lambda reader, some: reader.happened([(one.customer_id, one.now_us) for one in some]))


def _told(asked: Sequence[Asks]) -> list[Told]:
    return _of_each(asked, lambda reader, some: reader.told([one.customer_id for one in some]))


def _of_each(asked: Sequence[Asks], read: Callable[[Customers, Sequence[Asks]], list[A]]) -> list[A]:
    """One answer each; while editions change, a batch may ask two readers."""
    reader = asked[0].reader
    if all(one.reader is reader for one in asked):
        return read(reader, asked)
    return [answer for one in asked for answer in read(one.reader, [one])]
