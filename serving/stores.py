"""What a decision asks its stores for: together in one lane while all is well, each store in its own when one is not.

To wake a thread costs more than most questions, so that one thread reads all three stores for everybody who waits, and
makes reservations. Of what it has not brought in time, each store is asked in a lane of its own; and until all of them
have been in time for a second, they are asked apart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from features.errors import StoreUnavailable
from serving.customer import Happened, Told
from serving.decide import Decider
from serving.edition import Customers
from serving.lanes import LATE, Lane, all_until
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed, ContactHistory, Stock

logger = logging.getLogger(__name__)
A = TypeVar("A")
STOCK_FRESH_S = 0.02
APART_S = 1.0  # for so long every store must have been in time before they are asked together again


class Until(NamedTuple):
    """How long reads are waited for, of the monotonic clock: by one lane for all, and by a lane for each."""

    together: float
    apart: float


class Asks(NamedTuple):
    """Whom the customers' lanes are asked about."""

    reader: Customers
    customer_id: str
    now_us: int


class History(NamedTuple):
    """Whom the contacts' lane is asked about."""

    customer_id: str
    now_us: int


class Claiming(NamedTuple):
    claim: Claim
    limits: Limits


class Cancel(NamedTuple):
    decision_id: str


class Counted(NamedTuple):
    """What the contacts' lane says of a customer."""

    history: ContactHistory
    stock: Stock


class Everything:
    """All that is to be read of a customer; each answer stands here as soon as it is there, None if its store fails."""

    __slots__ = ("answers", "asks")

    def __init__(self, asks: Asks, counts: bool) -> None:
        self.asks = asks
        self.answers: list[Any] = [LATE] * (3 if counts else 2)  # Told, Happened, Counted


class Read(NamedTuple):
    """What was read of a customer; None is what could not be, or not in time."""

    told: Told | None
    happened: Happened | None
    counted: Counted | None
    late: tuple[str, ...]  # lanes that were not, or no longer, waited for


class Stores:
    """The lanes of one worker."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.told: Lane[Asks, Told] = Lane("profiles", _told)
        self.happened: Lane[Asks, Happened] = Lane("features", _happened)
        self.counted: Lane[Any, Any] = Lane("contacts", self.work, too_late=self._give_back)
        self.together: Lane[Any, Any] = Lane("together", self.work, too_late=self._give_back)
        self._apart_until = 0.0
        self._stock: Stock | None = None
        self._stock_at = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        for lane in self.lanes:
            lane.start(loop)

    def close(self) -> None:
        for lane in self.lanes:
            lane.close()

    @property
    def lanes(self) -> tuple[Lane[Any, Any], ...]:
        return self.told, self.happened, self.counted, self.together

    @property
    def are_well(self) -> bool:
        return time.monotonic() >= self._apart_until and not self.together.is_stuck

    async def read(self, asks: Asks, counts: bool, until: Until) -> Read:
        """What the stores say of a customer; `counts`: of contacts and stock too."""
        everything = Everything(asks, counts)
        late: tuple[str, ...] = ()
        if self.are_well:
            _, late = await all_until([(self.together, everything)], until.together)
        if LATE in everything.answers:
            late = await self._read_apart(everything, until.apart)
        if late:
            self._apart_until = time.monotonic() + APART_S
        told, happened, *rest = (None if answer is LATE else answer for answer in everything.answers)
        return Read(told, happened, rest[0] if rest else None, late)

    async def _read_apart(self, everything: Everything, until: float) -> tuple[str, ...]:
        """Ask for what is missing, each store in its lane; which of them were late."""
        answers, asks = everything.answers, everything.asks
        history = History(asks.customer_id, asks.now_us)
        ways: list[tuple[Lane[Any, Any], Any]] = [(self.told, asks), (self.happened, asks), (self.counted, history)]
        missing = [at for at, answer in enumerate(answers) if answer is LATE]
        given, late = await all_until([ways[at] for at in missing], until)
        for at, answer in zip(missing, given, strict=True):
            if ways[at][0].name not in late:
                answers[at] = answer
        return tuple([ways[at][0].name for at in missing if answers[at] is LATE])

    async def claim(self, claim: Claim, limits: Limits, until: float) -> Sequence[Claimed] | None:
        """The picks that were lost; None if there was no answer in time, and then nothing stays reserved."""
        if time.monotonic() > until:
            return None
        lane = self.together if self.are_well else self.counted
        (lost,), late = await all_until([(lane, Claiming(claim, limits))], until)
        if late:
            self._apart_until = time.monotonic() + APART_S
        return lost

    def work(self, asked: Sequence[Any]) -> list[Any]:
        """One batch: what must be given back, then reservations, then reads."""
        contacts = self.decider.contacts
        answers: dict[int, Any] = {}
        of: dict[type, list[int]] = {kind: [] for kind in (Cancel, Claiming, History, Everything)}
        for at, one in enumerate(asked):
            of[type(one)].append(at)
        if of[Cancel]:
            assert contacts is not None
            contacts.cancel([asked[at].decision_id for at in of[Cancel]])
        for limits in {id(asked[at].limits): asked[at].limits for at in of[Claiming]}.values():
            assert contacts is not None
            mine = [at for at in of[Claiming] if asked[at].limits is limits]
            lost = contacts.claim([asked[at].claim for at in mine], limits)
            answers.update(zip(mine, lost, strict=True))
            if any(lost):
                self._stock = None  # it was older than a last unit
        if of[History]:
            answers.update(zip(of[History], self._counted([asked[at] for at in of[History]]), strict=True))
        if of[Everything]:
            self._read_together([asked[at] for at in of[Everything]])
        return [answers.get(at, ()) for at in range(len(asked))]

    def _read_together(self, asked: Sequence[Everything]) -> None:
        asks = [one.asks for one in asked]
        for one, told in zip(asked, self.told.answers(asks), strict=True):
            one.answers[0] = told
        counting = [one for one in asked if len(one.answers) > 2]
        if counting:
            read = self._counted([History(one.asks.customer_id, one.asks.now_us) for one in counting])
            for one, counted in zip(counting, read, strict=True):
                one.answers[2] = counted
        for one, happened in zip(asked, self.happened.answers(asks), strict=True):
            one.answers[1] = happened

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
