"""What a decision asks its stores for: together in one lane while all is well, each store in its own when one is not.

To wake a thread costs more than most questions, and what one thread has read another must fetch from its caches, so
that one thread reads all stores for everybody who waits, draws, and reserves what was drawn. While a store is stuck,
decisions are made on the event loop, and each store is asked in a lane of its own; who is known to be stuck is not
waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

from features.errors import StoreUnavailable
from serving.customer import Happened, Told
from serving.decide import Decider
from serving.drafting import Known
from serving.edition import Customers
from serving.lanes import LATE, Lane, all_until, in_time
from serving.rules.limits import Limits
from serving.state.contacts import Claim, Claimed, Stock
from serving.together import Asks, Counted, Whole, decide_all

logger = logging.getLogger(__name__)
A = TypeVar("A")
STOCK_FRESH_S = 0.02
SLOW_S = 0.012  # a store that takes longer at once is not waited for to the end
APART_S = 0.5  # for so long every store must have been quick before they are asked together again


class History(NamedTuple):
    """Whom the contacts' lane is asked about."""

    customer_id: str
    now_us: int


class Claiming(NamedTuple):
    claim: Claim
    limits: Limits


class Cancel(NamedTuple):
    decision_id: str


class Reach(NamedTuple):
    """Whether reservations can be made, without making one."""

    limits: Limits


class Stores:
    """The lanes of one worker."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider
        self.told: Lane[Asks, Told] = Lane("profiles", _told)
        self.happened: Lane[Asks, Happened] = Lane("features", _happened)
        self.counted: Lane[Any, Any] = Lane("contacts", self.work)
        self.claims: Lane[Any, Any] = Lane("reservations", self.work, too_late=self._give_back)
        self.apart: tuple[Lane[Any, Any], ...] = (self.told, self.happened, self.counted, self.claims)
        self.together: Lane[Whole, bool] = Lane("together", partial(decide_all, self), too_late=self._give_up)
        self._apart_until = 0.0
        self._asking_since: float | None = None  # for the lane together: when the store that it waits for was asked
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
        return *self.apart, self.together

    @property
    def are_well(self) -> bool:
        """Whether no store is stuck, nor was a moment ago."""
        if self.together.is_stuck or any(lane.is_shut for lane in self.apart):
            self._stay_apart()
        return time.monotonic() >= self._apart_until

    @property
    def keeps_waiting(self) -> bool:
        """Whether one store has kept the lane together for longer than all of a decision takes."""
        since = self._asking_since
        return since is not None and time.monotonic() - since > SLOW_S

    async def decided(self, whole: Whole, soon: float, until: float) -> bool:
        """Whether the decision was made in time: `soon`, if a store is slow. What was read stands in its answers."""
        whole.given_up = not await in_time(self.together, whole, soon, until, lambda: self.keeps_waiting)
        if whole.given_up and self.together.is_stuck:
            self._stay_apart()
        return not whole.given_up

    async def read(self, whole: Whole, limits: Limits, until: float) -> Known:
        """What is known of a customer; what has not been read is asked for, each store for itself."""
        asks, answers = whole.asks, whole.answers
        counts = len(answers) > 2
        ways: list[tuple[Lane[Any, Any], Any]] = [(self.told, asks), (self.happened, asks)]
        if counts and self.claims.is_shut:  # then nothing that is counted can be shown
            self.claims.probe(Reach(limits))
            answers[2] = None
        elif counts:
            ways.append((self.counted, History(asks.customer_id, asks.now_us)))
        missing = [at for at in range(len(ways)) if answers[at] is LATE]
        given, late = await all_until([ways[at] for at in missing], until)
        for at, answer in zip(missing, given, strict=True):
            if ways[at][0].name not in late:
                answers[at] = answer
        return whole.known(late)

    async def claim(self, claim: Claim, limits: Limits, until: float) -> Sequence[Claimed] | None:
        """The picks that were lost; None if there was no answer in time, and then nothing stays reserved."""
        if time.monotonic() > until or self.claims.is_shut:
            return None
        (lost,), _ = await all_until([(self.claims, Claiming(claim, limits))], until)
        return lost

    def _stay_apart(self) -> None:
        self._apart_until = time.monotonic() + APART_S

    def work(self, asked: Sequence[Any]) -> list[Any]:
        """One batch for the contacts: what must be given back, then reservations, then reads."""
        contacts = self.decider.contacts
        answers: dict[int, Any] = {}
        of: dict[type, list[int]] = {kind: [] for kind in (Cancel, Reach, Claiming, History)}
        for at, one in enumerate(asked):
            of[type(one)].append(at)
        if of[Cancel]:
            assert contacts is not None
            contacts.cancel([asked[at].decision_id for at in of[Cancel]])
        if of[Reach]:
            assert contacts is not None
            contacts.claim([], asked[of[Reach][0]].limits)
        for limits in {id(asked[at].limits): asked[at].limits for at in of[Claiming]}.values():
            assert contacts is not None
            mine = [at for at in of[Claiming] if asked[at].limits is limits]
            answers.update(zip(mine, self.claimed([asked[at].claim for at in mine], limits), strict=True))
        if of[History]:
            answers.update(zip(of[History], self._counted([asked[at] for at in of[History]]), strict=True))
        return [answers.get(at, ()) for at in range(len(asked))]

    def claimed(self, claims: Sequence[Claim], limits: Limits) -> Sequence[Sequence[Claimed]]:
        """What each of these lost, in the thread of who asks; `StoreUnavailable`."""
        assert self.decider.contacts is not None
        lost = self.decider.contacts.claim(claims, limits)
        if any(lost):
            self._stock = None  # it was older than a last unit
        return lost

    def read_together(self, asked: Sequence[Whole]) -> None:
        """Each store asked once for all of them, in the thread of who asks."""
        if not asked:
            return
        asks = [one.asks for one in asked]
        with self._asking():
            all_told = self.told.answers(asks)
        for one, told in zip(asked, all_told, strict=True):
            one.answers[0] = told
        counting = [one for one in asked if len(one.answers) > 2]
        if counting:
            with self._asking():
                read = self._counted([History(one.asks.customer_id, one.asks.now_us) for one in counting])
            for one, answer in zip(counting, read, strict=True):
                one.answers[2] = answer
        with self._asking():
            all_happened = self.happened.answers(asks)
        for one, happened in zip(asked, all_happened, strict=True):
            one.answers[1] = happened

    def claim_together(self, claims: Sequence[Claim], limits: Limits) -> Sequence[Sequence[Claimed]]:
        """`claimed`, in the lane together."""
        with self._asking():
            return self.claimed(claims, limits)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """While the lane together waits for one store; that one is known by it if it is slow."""
        self._asking_since = time.monotonic()
        try:
            yield
        finally:
            self._asking_since = None

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
            self.claims.ask(Cancel(asked.claim.decision_id))

    def _give_up(self, asked: Whole, _: bool) -> None:
        """A decision that came too late for its answer."""
        if asked.claimed and asked.attempt is not None:
            self.claims.ask(Cancel(asked.attempt.question.decision_id))


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
