"""Many callers, one durable transaction of the log."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue

from features.errors import NboError, StoreUnavailable
from features.events import Event, from_us
from features.log import Batch, DecisionRow, Log

USUAL_S = 0.1  # a transaction that takes longer is worth a word
COMPANY_S = 0.025  # with two commits, of which the first is on its way, still within the promised 50 ms


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    answer: Future[list[bool]] | None  # None: nobody waits

    def fail(self, error: Exception) -> None:
        if self.answer is not None:
            self.answer.set_exception(error)


_Asked = _Waiting | DecisionRow  # a row alone: nobody waits for it


class GroupCommit:
    """Many callers, one durable transaction: what arrives while one commit is on its way goes into the next.

    A group that the store refuses is tried again alone per caller, so that one bad row fails only its own. Decisions
    that nobody waits for are tried again until the store takes them; `delayed_s` says for how long they have waited.
    Where there are decisions alone, the first one waits `company_s` for others: a commit costs more than a row.
    """

    def __init__(
        self,
        log: Log,
        *,
        max_rows: int = 5_000,
        max_kept: int = 100_000,
        retry_s: float = 0.1,
        company_s: float = COMPANY_S,
    ) -> None:
        self.log = log
        self.error: NboError | None = None  # of the last transaction
        self.n_lost = 0  # decisions given up: `max_kept` others were waiting, or no store would take the row
        self._max_rows, self._max_kept, self._retry_s, self._company_s = max_rows, max_kept, retry_s, company_s
        self._hurry = threading.Event()  # somebody waits for what is in the queue
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._kept: deque[tuple[float, DecisionRow]] = deque()
        self._began: float | None = None  # when the transaction on its way began
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def submit(self, events: Sequence[Event], received_at: datetime) -> Future[list[bool]]:
        """Resolves when the events are on disk: True if new, False if known. `StoreUnavailable` if they are not."""
        return self._enqueue(Batch(events, received_at))

    def submit_decisions(self, rows: Sequence[DecisionRow]) -> Future[list[bool]]:
        """Resolves when the rows are on disk, or fails as soon as the store does; they are then tried again."""
        return self._enqueue(Batch((), from_us(0), rows))

    def hand_over(self, row: DecisionRow) -> None:
        """As `submit_decisions` of one row, for who does not wait for it: much cheaper."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the log's writer is closed")
            self._queue.put(row)

    @property
    def delayed_s(self) -> float:
        """How long the oldest decision that is not on disk has been waiting beyond what is usual; 0.0 if none has."""
        now, began = time.monotonic(), self._began
        writing_s = now - began if began is not None else 0.0
        try:
            return max(now - self._kept[0][0], writing_s)
        except IndexError:
            return writing_s if writing_s > USUAL_S else 0.0

    def close(self) -> None:
        """Writes what was submitted, tries the kept decisions once more, and ends the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
            self._hurry.set()
        self._thread.join()

    def _enqueue(self, batch: Batch) -> Future[list[bool]]:
        answer: Future[list[bool]] = Future()
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the log's writer is closed")
            self._queue.put(_Waiting(batch, answer))
            if not batch.decisions:
                self._hurry.set()
        return answer

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            self._began = time.monotonic()
            self._write_group(_batches(group))
            self._write_kept()
            self._began = None

    def _next_group(self) -> tuple[list[_Asked], bool]:
        """What is waiting, up to `max_rows`, and whether it is the last."""
        group: list[_Asked] = []
        n_rows = 0
        try:
            one = self._queue.get(timeout=self._retry_s if self._kept else None)
            if self._company_s:
                self._hurry.wait(self._company_s)
                self._hurry.clear()
            while one is not None:
                group.append(one)
                n_rows += 1 if isinstance(one, DecisionRow) else len(one.batch.events) + len(one.batch.decisions)
                if n_rows >= self._max_rows:
                    return group, False
                one = self._queue.get_nowait()
        except Empty:
            return group, False
        return group, True

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        if not group:
            return
        try:
            answers = self.log.write([one.batch for one in group])
        except StoreUnavailable as error:
            self.error = error
            for one in group:
                self._keep(one.batch.decisions)
                one.fail(error)
        except Exception as error:  # a row that cannot be written: find whose it is
            single = [part for one in group for part in _parts(one)]
            if len(single) == 1:
                self.n_lost += len(single[0].batch.decisions)
                single[0].fail(error)
                return
            for one in single:
                self._write_group([one])
        else:
            self.error = None
            for one, answer in zip(group, answers, strict=True):
                if one.answer is not None:
                    one.answer.set_result(answer)

    def _keep(self, rows: Sequence[DecisionRow]) -> None:
        room = max(self._max_kept - len(self._kept), 0)
        self._kept.extend((time.monotonic(), row) for row in rows[:room])
        self.n_lost += len(rows[room:])

    def _write_kept(self) -> None:
        if not self._kept:
            return
        try:
            self.log.append_decisions([row for _, row in self._kept])
        except StoreUnavailable as error:
            self.error = error
        except Exception:  # a row that no store takes; the thread must live on
            self.n_lost += len(self._kept)
            self._kept.clear()
        else:
            self.error = None
            self._kept.clear()


def _batches(group: Sequence[_Asked]) -> list[_Waiting]:
    """Of those who still wait, and one of all rows that nobody waits for."""
    found = [one for one in group if isinstance(one, _Waiting) and _still_wanted(one)]
    rows = [one for one in group if isinstance(one, DecisionRow)]
    if rows:
        found.append(_nobody_waits(rows))
    return found


def _still_wanted(one: _Waiting) -> bool:
    return one.answer is None or one.answer.set_running_or_notify_cancel()


def _parts(one: _Waiting) -> list[_Waiting]:
    """What may fail for itself: what one caller wants written stands or falls together."""
    return [one] if one.answer is not None else [_nobody_waits([row]) for row in one.batch.decisions]


def _nobody_waits(rows: Sequence[DecisionRow]) -> _Waiting:
    return _Waiting(Batch((), from_us(0), rows), None)
