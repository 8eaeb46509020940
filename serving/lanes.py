"""Store I/O beside the event loop: one thread per store, which serves all who wait together, and may be late alone.

Who asks waits as long as its deadline lets it, and goes on without what has not come. A store that is stuck holds up
its own lane only. Nobody waits for a lane that was stuck the last time it was heard of: one question at a time, whose
answer nobody needs, finds out when it is well again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 64
STUCK_S = 0.05  # a batch that takes longer shuts its lane: newcomers go on without
WELL_S = 0.02  # a batch that takes no longer opens it again

Q = TypeVar("Q")
A = TypeVar("A")
LATE = object()  # stands where no answer came


class Joint:
    """One question put to several lanes: answered on the event loop when the last of them has, or given up there."""

    __slots__ = ("answers", "done", "given_up", "n_open")

    def __init__(self, n: int, done: asyncio.Future[None]) -> None:
        self.answers: list[Any] = [LATE] * n
        self.done, self.n_open, self.given_up = done, 0, False

    def put(self, at: int, answer: Any) -> None:
        self.answers[at] = answer
        self.n_open -= 1
        if self.n_open == 0:
            self.end()

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Waiting(NamedTuple):
    """What one lane is asked, and whose answer it is."""

    question: Any
    joint: Joint | None  # None: nobody waits for it
    at: int

    @property
    def given_up(self) -> bool:
        return self.joint is not None and self.joint.given_up


class Lane(Generic[Q, A]):
    """One thread that asks one store. `work` gets a batch and gives an answer each; what it raises fails them all."""

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Q]], Sequence[A]],
        too_late: Callable[[Q, A], None] | None = None,
    ) -> None:
        """`too_late` is told, on the event loop, of answers that nobody waited for any longer."""
        self.name = name
        self.n_failed = 0
        self._work, self._too_late = work, too_late
        self._asked: list[Waiting] = []  # in this turn of the event loop
        self._queue: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._began: float | None = None
        self._shut = self._probed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"lane-{name}", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after what was asked; one that is stuck is left behind."""
        self._hand_over()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    @property
    def stuck_s(self) -> float:
        """For how long the batch in work has been there; 0.0 if there is none."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    @property
    def is_stuck(self) -> bool:
        return self.stuck_s > STUCK_S

    @property
    def is_shut(self) -> bool:
        """Whether it is stuck, or was, and has not been quick since."""
        return self._shut or self.is_stuck

    def probe(self, question: Q) -> None:
        """Asks without waiting, so that a lane that is shut can show that it is well; one such question at a time."""
        if not self._probed:
            self._probed = True
            self.ask(question)

    def ask(self, question: Q, joint: Joint | None = None, at: int = 0) -> None:
        """Puts the answer into the joint on the event loop, None if the store failed, unless it is given up before.

        What is asked in one turn of the loop goes to the thread together: to wake it costs more than most questions.
        """
        if not self._asked and self._loop is not None:
            self._loop.call_soon(self._hand_over)
        self._asked.append(Waiting(question, joint, at))
        if joint is not None:
            joint.n_open += 1

    def _hand_over(self) -> None:
        if self._asked:
            asked, self._asked = self._asked, []
            self._queue.put(asked)

    def _run(self) -> None:
        last = False
        while not last:
            waiting, last = self._next()
            for first in range(0, len(waiting), MOST_AT_ONCE):
                batch = [one for one in waiting[first : first + MOST_AT_ONCE] if not one.given_up]
                if batch and not self._serve(batch):
                    return

    def _next(self) -> tuple[list[Waiting], bool]:
        """What is waiting, and whether it is the last."""
        waiting: list[Waiting] = []
        asked = self._queue.get()
        try:
            while asked is not None:
                waiting += asked
                if len(waiting) >= MOST_AT_ONCE:
                    return waiting, False
                asked = self._queue.get_nowait()
        except Empty:
            return waiting, False
        return waiting, True

    def answers(self, questions: Sequence[Q]) -> Sequence[A | None]:
        """What the store says to these, in the thread of who asks; None for each if it fails."""
        try:
            return self._work(questions)
        except Exception as error:
            self.n_failed += len(questions)
            logger.warning("%s: %s", self.name, error)
            return [None] * len(questions)

    def _serve(self, batch: list[Waiting]) -> bool:
        """False when nobody is left who could be answered."""
        began = self._began = time.monotonic()
        answers = self.answers([waiting.question for waiting in batch])
        self._began = None
        took_s = time.monotonic() - began
        if took_s > STUCK_S:
            self._shut = True
        elif took_s < WELL_S:
            self._shut = False
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, batch, answers)
        except RuntimeError:  # the loop has ended
            return False
        return True

    def _deliver(self, batch: list[Waiting], answers: Sequence[A | None]) -> None:
        for (question, joint, at), answer in zip(batch, answers, strict=True):
            if joint is None:
                self._probed = False
                continue
            if not joint.given_up:
                joint.put(at, answer)
            elif answer is not None and self._too_late is not None:
                self._too_late(question, answer)


class Answers(NamedTuple, Generic[A]):
    """Of several lanes, each None if there is none."""

    given: list[A | None]
    late: tuple[str, ...]  # lanes that were not, or no longer, waited for


async def all_until(asks: Sequence[tuple[Lane[Q, A], Q]], until: float) -> Answers[A]:
    """What several lanes answer before `until`, of the loop's clock. A lane that is shut is not waited for."""
    joint = Joint(len(asks), asyncio.get_running_loop().create_future())
    for at, (lane, question) in enumerate(asks):
        if lane.is_shut:
            lane.probe(question)
        else:
            lane.ask(question, joint, at)
    try:
        await _wait(joint, until)
    finally:
        joint.given_up = True
    given = joint.answers
    if LATE not in given:
        return Answers(given, ())
    late = tuple([lane.name for (lane, _), answer in zip(asks, given, strict=True) if answer is LATE])
    return Answers([None if answer is LATE else answer for answer in given], late)


async def in_time(lane: Lane[Q, A], question: Q, soon: float, until: float, slow: Callable[[], bool]) -> bool:
    """Whether the lane answers this before `until`, of the loop's clock; after `soon` only if it is neither stuck nor
    `slow`.
    """
    loop = asyncio.get_running_loop()
    joint = Joint(1, loop.create_future())
    lane.ask(question, joint)
    try:
        await _wait(joint, soon)
        if joint.n_open and not lane.is_stuck and not slow():
            joint.done = loop.create_future()
            await _wait(joint, until)
    finally:
        joint.given_up = True
    return joint.answers[0] is not LATE


async def _wait(joint: Joint, until: float) -> None:
    """Until all have answered, at most until then."""
    if joint.n_open:
        timer = joint.done.get_loop().call_at(until, joint.end)
        try:
            await joint.done
        finally:
            timer.cancel()
