"""Store I/O beside the event loop: one thread per store, which serves all who wait together, and may be late alone.

Who asks waits as long as its deadline lets it, and goes on without what has not come. A store that is stuck holds up
its own lane only, and nobody waits for a lane that is known to be stuck.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, NamedTuple, TypeVar

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 64
STUCK_S = 0.1  # a batch that takes longer is not waited for by newcomers

Q = TypeVar("Q")
A = TypeVar("A")


class Waiting(Generic[Q, A]):
    """One question in a lane. It is answered on the event loop, or given up there."""

    __slots__ = ("answered", "given_up", "question")

    def __init__(self, question: Q, answered: Callable[[A | None], None]) -> None:
        self.question, self.answered = question, answered
        self.given_up = False


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
        self._queue: SimpleQueue[Waiting[Q, A] | None] = SimpleQueue()
        self._began: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"lane-{name}", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after what was asked; one that is stuck is left behind."""
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

    def ask(self, question: Q, answered: Callable[[A | None], None]) -> Waiting[Q, A]:
        """`answered` is called on the event loop, with None if the store failed, unless it is given up before."""
        waiting: Waiting[Q, A] = Waiting(question, answered)
        self._queue.put(waiting)
        return waiting

    def _run(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch and not self._serve(batch):
                return

    def _next_batch(self) -> tuple[list[Waiting[Q, A]], bool]:
        """What is waiting, and whether it is the last."""
        batch: list[Waiting[Q, A]] = []
        waiting = self._queue.get()
        try:
            while waiting is not None:
                if not waiting.given_up:
                    batch.append(waiting)
                if len(batch) == MOST_AT_ONCE:
                    return batch, False
                waiting = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _serve(self, batch: list[Waiting[Q, A]]) -> bool:
        """False when nobody is left who could be answered."""
        self._began = time.monotonic()
        answers: Sequence[A | None]
        try:
            answers = self._work([waiting.question for waiting in batch])
        except Exception as error:
            self.n_failed += len(batch)
            logger.warning("%s: %s", self.name, error)
            answers = [None] * len(batch)
        finally:
            self._began = None
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, batch, answers)
        except RuntimeError:  # the loop has ended
            return False
        return True

    def _deliver(self, batch: list[Waiting[Q, A]], answers: Sequence[A | None]) -> None:
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.given_up:
                waiting.answered(answer)
            elif answer is not None and self._too_late is not None:
                self._too_late(waiting.question, answer)


class Answers(NamedTuple, Generic[A]):
    """Of several lanes, each None if there is none."""

    given: list[A | None]
    late: tuple[str, ...]  # lanes that were not, or no longer, waited for


async def all_until(asks: Sequence[tuple[Lane[Q, A], Q]], until: float) -> Answers[A]:
    """What several lanes answer before `until`, of the loop's clock. A lane that is known to be stuck is not asked."""
    loop = asyncio.get_running_loop()
    answers: list[A | None] = [None] * len(asks)
    came = [False] * len(asks)
    done: asyncio.Future[None] = loop.create_future()
    n_open = 0
    asked: list[Waiting[Q, A]] = []

    def put(at: int, answer: A | None) -> None:
        nonlocal n_open
        answers[at], came[at] = answer, True
        n_open -= 1
        if n_open == 0:
            _end(done)

    for at, (lane, question) in enumerate(asks):
        if not lane.is_stuck:
            n_open += 1
            asked.append(lane.ask(question, lambda answer, at=at: put(at, answer)))  # type: ignore[misc]
    if asked:
        timer = loop.call_at(until, _end, done)
        try:
            await done
        finally:
            timer.cancel()
            for waiting in asked:
                waiting.given_up = True
    return Answers(answers, tuple([asks[at][0].name for at, is_here in enumerate(came) if not is_here]))


def _end(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
