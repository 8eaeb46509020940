"""Keeps one worker's beliefs as new as the log: folds it, or takes over what another worker folded, every 250 ms.

A decision reads beliefs that lie ready, and never waits for a store. While a store does not answer, the beliefs stay as
they are and `delay_s` grows.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from features.catalogue import Offer
from features.data_settings import Attribution
from features.errors import StoreUnavailable
from features.log import Log
from serving.catalogue_view import CatalogueView
from serving.learning.beliefs import Beliefs
from serving.learning.cells import Cells, packed, unpacked
from serving.learning.evidence import MOST_SEGMENTS, Caution, Change, Rules
from serving.learning.fold import fold
from serving.learning.memory import Checkpoint, SqliteMemory

logger = logging.getLogger(__name__)
POLL_S = 0.25
FOLD_ROWS = 2_000  # events in one transaction
TAKE_ROWS = 500  # changes taken in at once; a decision that asks for a new segment waits for no more
CHECKPOINT_ROWS = 10_000  # changes between two checkpoints, at least: what a restart and a replay have to take in
CHANGES_PER_CELL = 10  # and at least as many as make a checkpoint small beside the journal
FORGET_EVERY_US = 3_600_000_000
WINDOWS_LIVE_S = 10.0  # how long the offers' own windows are kept
UNUSED_REFRESHES = 2_400  # after which prepared beliefs are dropped: ten minutes

OwnWindows = Callable[[], dict[str, float]]


class _Ready:
    """Beliefs that lie ready for one view, release and segment."""

    __slots__ = ("beliefs", "release", "segment", "unused", "view")

    def __init__(self, view: CatalogueView, release: str, segment: str | None, beliefs: Beliefs) -> None:
        self.view, self.release, self.segment, self.beliefs, self.unused = view, release, segment, beliefs, 0


class Learner:
    """What one worker has learned. `start` before use, `close` at the end; `refresh` takes in what the log has now."""

    def __init__(
        self,
        log: Log,
        path: Path,
        *,
        prior_strength: float,
        attribution: Attribution | None = None,
        own_windows: OwnWindows = dict,
        caution: Caution | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """`path` is shared by all workers; `own_windows` gives the attribution windows of offers that have their own,
        see `own_windows_of`.
        """
        self._log, self._path, self._poll_s, self._own_windows = log, path, poll_s, own_windows
        self._attribution = Attribution() if attribution is None else attribution
        self._caution = Caution() if caution is None else caution
        self._strength = prior_strength
        self.error: str | None = None  # why the last refresh did not get to the end of the log
        self._memory: SqliteMemory | None = None
        self._cells: Cells | None = None  # changed under `_lock` alone
        self._windows: dict[str, float] = {}
        self._windows_until = 0.0  # of the monotonic clock
        self._position = self._checked_seq = 0  # of the log; of the newest checkpoint known
        self._ready: dict[tuple[int, str, str | None], _Ready] = {}
        self._heard: dict[str, frozenset[str]] = {}
        self._caught_up_at = time.monotonic()
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="learner", daemon=True)

    def start(self) -> None:
        """Take over what was learned before, then keep up in the background."""
        with self._refreshing:
            self._try(self._take_over)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._refreshing:
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    @property
    def position(self) -> int:
        """Of the log: what was received up to here has been learned."""
        return self._position

    @property
    def delay_s(self) -> float:
        """For how long the end of the log has been out of reach; 0 while learning keeps up."""
        return max(0.0, time.monotonic() - self._caught_up_at - 2 * self._poll_s)

    def refresh(self) -> None:
        """Take in what the log has now, and renew what lies ready. Never raises; see `error`."""
        with self._refreshing:
            self._try(self._catch_up)

    def beliefs(self, view: CatalogueView, release: str, segment: str) -> Beliefs:
        """What is believed now of each offer of a view; `release` is its number, or "none"."""
        heard = self._heard.get(release, ())
        known = segment if segment in heard else "" if len(heard) >= MOST_SEGMENTS else None
        ready = self._ready.get((view.version, release, known))
        if ready is not None and ready.view is view:
            ready.unused = 0
            return ready.beliefs
        return self._prepare(view, release, segment)

    def beliefs_at(self, position: int, view: CatalogueView, release: str, segment: str) -> Beliefs:
        """What was believed when the log had been learned up to `position`, bit for bit, within the last 30 days.

        `StoreUnavailable` if what was learned cannot be read.
        """
        memory = SqliteMemory(self._path)
        try:
            cells = cells_at(memory, self._strength, position)
        finally:
            memory.close()
        return cells.beliefs(view.row, release, cells.heard_as(release, segment), position)

    def erase(self, customer_id: str) -> int:
        """Drop what is kept of one customer, how many rows there were; sums over many customers stay."""
        memory = SqliteMemory(self._path)
        try:
            return memory.erase(customer_id)
        finally:
            memory.close()

    # In the background

    def _run(self) -> None:
        while not self._stop.wait(self._poll_s):
            self.refresh()

    def _try(self, work: Callable[[SqliteMemory], None]) -> None:
        try:
            if self._memory is None:
                self._memory = SqliteMemory(self._path)
            work(self._memory)
            self.error = None
        except Exception as error:  # learning may stop, deciding may not
            if self.error is None:
                unexpected = not isinstance(error, StoreUnavailable)
                logger.warning("learning waits: %s", error, exc_info=unexpected)
            self.error = str(error)

    def _catch_up(self, memory: SqliteMemory) -> None:
        last = self._log.last_position()
        refused: StoreUnavailable | None = None
        while refused is None and memory.folded()[0] < last and not self._stop.is_set():
            rules = self._rules()
            try:
                with memory.step():
                    fold(memory, self._log, rules, FOLD_ROWS)
                    if memory.clock_us - memory.forgotten_us() > FORGET_EVERY_US:
                        memory.forget(rules.keep_us, rules.caution.span_days)
            except StoreUnavailable as error:  # perhaps another worker is at it: what it found is taken over
                refused = error
            self._take_over(memory)
        self._take_over(memory)
        if self._position >= last:
            self._caught_up_at = time.monotonic()
        elif refused is not None:
            raise refused

    def _rules(self) -> Rules:
        """The catalogue is asked only where it matters, and seldom: it may be large."""
        if self._attribution.window_attribute is not None and time.monotonic() >= self._windows_until:
            self._windows = self._own_windows()
            self._windows_until = time.monotonic() + WINDOWS_LIVE_S
        return Rules(attribution=self._attribution, caution=self._caution, own_windows=self._windows)

    def _take_over(self, memory: SqliteMemory) -> None:
        """Take in what was found since the last time, by whichever worker."""
        position, last = memory.folded()
        if self._cells is None:
            cells = cells_at(memory, self._strength, None)
            with self._lock:
                self._cells, self._position = cells, cells.position
                self._ready.clear()
                self._heard = _heard(cells)
        cells = self._cells
        changed: set[str] = set()
        while cells.seq < last:
            changes = _next_changes(memory, cells.seq, last)
            with self._lock:
                for seq, change in changes:
                    cells.take(seq, change)
                    changed.add(change.offer_id)
                # whoever asks for a new view or segment from here on gets exactly what is known up to here
                self._position = position if cells.seq == last else cells.position
        if changed or position != self._position:
            self._renew(cells, changed, position)
        self._keep_checkpoint(memory, cells)

    def _renew(self, cells: Cells, changed: Iterable[str], position: int) -> None:
        with self._lock:
            self._position = position
            self._heard = _heard(cells)
            for key, ready in list(self._ready.items()):
                ready.unused += 1
                if ready.unused > UNUSED_REFRESHES:
                    del self._ready[key]
                elif changed:
                    rows, old = ready.view.row, ready.beliefs
                    ready.beliefs = cells.renewed(old, changed, rows, ready.release, ready.segment, position)
                else:
                    ready.beliefs = dataclasses.replace(ready.beliefs, position=position)

    def _keep_checkpoint(self, memory: SqliteMemory, cells: Cells) -> None:
        due = max(CHECKPOINT_ROWS, CHANGES_PER_CELL * sum(len(one) for one in cells.releases.values()))
        if cells.seq - self._checked_seq < due:
            return
        newest = memory.checkpoint_before()  # another worker may have been quicker
        self._checked_seq = 0 if newest is None else newest.seq
        if cells.seq - self._checked_seq >= due:
            memory.keep_checkpoint(Checkpoint(cells.seq, cells.position, packed(cells)))

    def _prepare(self, view: CatalogueView, release: str, segment: str) -> Beliefs:
        with self._lock:
            if self._cells is None:
                return Beliefs.none(len(view), self._strength)
            known = self._cells.heard_as(release, segment)
            beliefs = self._cells.beliefs(view.row, release, known, self._position)
            self._ready[view.version, release, known] = _Ready(view, release, known, beliefs)
            return beliefs


def own_windows_of(offers: Iterable[Offer], attribution: Attribution) -> dict[str, float]:
    """Attribution windows in days, by offer, where an attribute of the offer says so."""
    if attribution.window_attribute is None:
        return {}
    said = ((offer.offer_id, offer.attributes.get(attribution.window_attribute)) for offer in offers)
    return {offer_id: float(days) for offer_id, days in said if isinstance(days, int | float)}


def _heard(cells: Cells) -> dict[str, frozenset[str]]:
    return {release: frozenset(segments) for release, segments in cells.segments.items()}


def _next_changes(memory: SqliteMemory, seq: int, last: int) -> list[tuple[int, Change]]:
    """Some changes up to number `last`, and with each all others of its position of the log."""
    limit = TAKE_ROWS
    while True:
        found = [one for one in memory.changes_after(seq, limit) if one[0] <= last]
        if len(found) < limit or found[-1][0] == last:
            return found
        whole = [one for one in found if one[1].position != found[-1][1].position]
        if whole:
            return whole
        limit *= 2


def cells_at(memory: SqliteMemory, strength: float, position: int | None) -> Cells:
    """All evidence, as of a position of the log or of now."""
    checkpoint = memory.checkpoint_before(position)
    cells = Cells(strength) if checkpoint is None else unpacked(checkpoint.body)
    cells.strength = strength
    while changes := memory.changes_after(cells.seq, TAKE_ROWS, position):
        for seq, change in changes:
            cells.take(seq, change)
    return cells
