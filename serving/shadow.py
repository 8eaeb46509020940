"""Shadow releases: what another release would have answered, worked out beside the traffic, logged and never shown.

A share of the decisions is drawn again on a thread of its own, with the shadow's models and everything else as it was:
the same customer, counters, policy and random numbers. When the thread does not keep up, decisions are left out and
counted, so that nobody who asks waits for a shadow.
"""

from __future__ import annotations

import logging
import threading
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

import msgspec

from features.errors import StoreUnavailable
from features.events import to_us
from features.log import Log, ShadowRow
from serving.drafting import Drafted, draft, rng_of

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition
    from serving.metrics import Meter

logger = logging.getLogger(__name__)
MOST_WAITING = 256
MOST_AT_ONCE = 64  # rows of one transaction
GATHER_S = 0.25  # how long the first row of a transaction waits for others
SHARES = 10_000


class Ranked(msgspec.Struct, frozen=True):
    """An offer, as one release thinks of it."""

    offer_id: str
    p_accept: float
    score: float


class PlacementShadow(msgspec.Struct, frozen=True):
    """What the shadow would have put there, and what it thinks of what was shown; both in rank order."""

    placement_id: str
    shadow: list[Ranked]
    shown: list[Ranked]  # figures are the shadow's


class Shadow:
    """One worker's thread. `also` never waits; `close` writes what is done."""

    def __init__(self, log: Log, share: float, meter: Meter) -> None:
        self._meter = meter
        self._log, self._below = log, round(share * SHARES)
        self._waiting: Queue[tuple[Attempt, Edition] | None] = Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def also(self, attempt: Attempt) -> None:
        """Score this decision too, if there is a shadow and it falls into the share; it is over and not a dry run."""
        edition = attempt.arm.edition.shadow
        if edition is None or attempt.arm.assigned.holdout or attempt.question.seed % SHARES >= self._below:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((attempt, edition))
        except Full:
            self._meter.shadowed(0, 1)

    def close(self) -> None:
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        last = False
        while not last:
            rows: list[ShadowRow] = []
            one = self._waiting.get()
            while one is not None:
                row = self._scored(*one)
                rows += [row] if row is not None else []
                if len(rows) >= MOST_AT_ONCE:
                    break
                try:
                    one = self._waiting.get(timeout=GATHER_S)
                except Empty:
                    break
            last = one is None
            self._write(rows)

    def _scored(self, attempt: Attempt, edition: Edition) -> ShadowRow | None:
        try:
            row = shadow_row(attempt, edition)
        except Exception:  # of a release that nobody is shown
            logger.exception("the shadow %s failed in a decision", edition.release_number)
            self._meter.shadowed(0, 1)
            return None
        return row

    def _write(self, rows: list[ShadowRow]) -> None:
        if rows:
            try:
                self._log.append_shadows(rows)
                self._meter.shadowed(len(rows), 0)
            except StoreUnavailable as error:
                self._meter.shadowed(0, len(rows))
                logger.warning("%d rows of the shadow are lost: %s", len(rows), error)


def shadow_row(attempt: Attempt, edition: Edition) -> ShadowRow:
    """What `edition` would have answered. Pure."""
    question, settings = attempt.question, attempt.arm.settings
    without = frozenset[str]().union(*attempt.lost) if question.known.history is not None else frozenset[str]()
    drawn = draft(edition, settings, question, rng_of(question.seed, attempt.n_draws), without)
    placements = [
        _beside(edition, shown, other) for shown, other in zip(attempt.draft.placements, drawn.placements, strict=True)
    ]
    body: dict[str, Any] = {
        "release": edition.release_number,
        "served": attempt.edition.release_number,
        "policy": settings.policy,
        "placements": placements,
    }
    customer_id = question.request.customer_id
    decided_us = to_us(question.now)
    return ShadowRow(question.decision_id, edition.release_number, customer_id, decided_us, msgspec.json.encode(body))


def _beside(edition: Edition, shown: Drafted, other: Drafted) -> PlacementShadow:
    p_accept, score = other.worth.p_accept, other.worth.score

    def ranked(row: int) -> Ranked:
        return Ranked(edition.view.offers[row].offer_id, p_accept.item(row), score.item(row))

    return PlacementShadow(
        shown.placement.placement_id,
        [ranked(pick.row) for pick in other.picks],
        [ranked(pick.row) for pick in shown.picks],
    )
