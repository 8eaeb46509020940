"""A decision made in one go, on one thread: what its stores say, the draw, and the reservation of what was drawn.

Each hand-over between threads costs as much as a read, and the other thread finds nothing in its caches. So while every
store is well, whoever asks hands the question over once, and gets it back drawn and reserved.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from features.errors import BadInput
from serving.decide import WITHHELD, Attempt, Decider, counted
from serving.decision import Decision, DecisionRequest
from serving.drafting import Known
from serving.edition import Customers, Edition
from serving.lanes import LATE
from serving.state.contacts import Claim, Claimed, ContactHistory, Stock

if TYPE_CHECKING:
    from serving.stores import Stores

logger = logging.getLogger(__name__)


class Asks(NamedTuple):
    """Whom the customers' lanes are asked about."""

    reader: Customers
    customer_id: str
    now_us: int


class Counted(NamedTuple):
    """What the contacts' lane says of a customer."""

    history: ContactHistory
    stock: Stock


class Whole:
    """A decision to be made in one go; each store's answer stands here as soon as it is there, None if it fails."""

    __slots__ = (
        "answers", "asks", "attempt", "claimed", "decision", "edition", "error", "given_up", "ready", "received",
        "request", "took_s",
    )  # fmt: skip

    def __init__(
        self, asks: Asks, counts: bool, edition: Edition, request: DecisionRequest, received: float | None = None
    ) -> None:
        self.asks, self.edition, self.request, self.received = asks, edition, request, received
        self.answers: list[Any] = [LATE] * (3 if counts else 2)  # Told, Happened, Counted
        self.attempt: Attempt | None = None  # drawn and reserved; None at the end: not even by popularity
        self.decision: Decision | None = None  # with its row of the log; None: left to who asked
        self.error: BadInput | None = None
        self.claimed = self.given_up = self.ready = False
        self.took_s = 0.0

    def known(self, late: tuple[str, ...] = ()) -> Known:
        """What it goes by, and what it says it had to do without; `late` are lanes that are not waited for."""
        asks = self.asks
        told, happened, *rest = (None if answer is LATE else answer for answer in self.answers)
        customer = asks.reader.assembled(asks.customer_id, happened, told, asks.now_us)
        if late:
            customer = customer.but(("deadline", f"went on without waiting for {' and '.join(late)}"))
        if not rest:
            return Known(customer)
        if rest[0] is None:
            return Known(customer.but(("state_unavailable", WITHHELD)), None, None)
        return counted(customer, rest[0].history, rest[0].stock)


def begun(decider: Decider, edition: Edition, request: DecisionRequest, known: Known) -> Attempt | None:
    """The first draw; with a model that fails, one by popularity; None if even that fails. `BadInput`."""
    try:
        return decider.begin(edition, request, known)
    except BadInput:
        raise
    except Exception:
        logger.exception("the release %s failed in a decision", edition.release_number)
    try:
        return decider.begin(edition, request, known, models=False)
    except Exception:
        logger.exception("a decision by popularity failed")
    return None


def unreserved(decider: Decider, attempt: Attempt) -> Attempt:
    """The decision drawn again without what would have to be reserved."""
    return decider.withhold(attempt, ("state_unavailable", "no reservation in time: " + WITHHELD))


def decide_all(stores: Stores, asked: Sequence[Whole]) -> list[bool]:
    """One batch of decisions: read, drawn, what was drawn reserved, answers written. What nobody waits for is left.

    None of them can fail the others: what a model or a store does to one is written down with it.
    """
    began = time.monotonic()
    wanted = [one for one in asked if not one.given_up]
    stores.read_together(wanted)
    for one in wanted:
        try:
            one.attempt = begun(stores.decider, one.edition, one.request, one.known())
        except BadInput as error:
            one.error = error
        except Exception:
            logger.exception("a customer could not be put together")
    racing: Sequence[Whole] = wanted
    while racing:
        racing = _raced(stores, [one for one in racing if not one.given_up])
    for one in wanted:
        _write(stores.decider, one)
    took_s = (time.monotonic() - began) / len(asked)
    for one in wanted:
        one.took_s, one.ready = took_s, True
    return [True] * len(asked)


def _write(decider: Decider, one: Whole) -> None:
    """The answer, where what was drawn still lies in this processor's caches; one that explains itself takes longer."""
    if one.attempt is None or one.given_up or one.request.explain:
        return
    try:
        one.decision = decider.written(one.attempt, one.received)
    except Exception:
        logger.exception("an answer could not be written")


def _raced(stores: Stores, racing: Sequence[Whole]) -> list[Whole]:
    """One round of reservations; those that lost something and have drawn again."""
    again: list[Whole] = []
    of: dict[int, list[tuple[Whole, Claim]]] = {}
    for one in racing:
        if one.attempt is not None and (claim := one.attempt.claim) is not None:
            of.setdefault(id(one.edition), []).append((one, claim))
    for mine in of.values():
        answers: Sequence[Sequence[Claimed] | None]
        try:
            answers = stores.claim_together([claim for _, claim in mine], mine[0][0].edition.limits)
        except Exception as error:  # of whatever kind: without a reservation nothing that is counted is shown
            logger.warning("%s: %s", stores.claims.name, error)
            stores.claims.n_failed += len(mine)
            answers = [None] * len(mine)
        for (one, _), lost in zip(mine, answers, strict=True):
            one.claimed = lost is not None and not lost
            if not one.claimed:
                again += [one] if _drew_again(stores.decider, one, lost) else []
    return again


def _drew_again(decider: Decider, one: Whole, lost: Sequence[Claimed] | None) -> bool:
    """Without what was lost, or without all that is counted where nothing could be reserved."""
    assert one.attempt is not None
    try:
        one.attempt = unreserved(decider, one.attempt) if lost is None else decider.again(one.attempt, lost)
    except Exception:
        logger.exception("the release %s failed in a decision", one.edition.release_number)
        one.attempt = None
    return one.attempt is not None
