"""The decision: from a question about one customer to offers, each with the chance it really had."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from features.errors import StoreUnavailable
from features.events import to_us
from features.log import Log
from serving.answer import answer_of
from serving.customer import CustomerNow
from serving.decision import Decision, DecisionRequest, Degraded, PlacementAnswer
from serving.decision_log import nothing_row
from serving.drafting import Draft, Known, Question, draft, placements_of, rng_of
from serving.edition import Edition
from serving.experimenting import Arm, arm_for
from serving.ids import new_id, new_seed
from serving.metrics import Meter
from serving.settings import Clock, Settings
from serving.shadow import Shadow
from serving.state.contacts import Claim, Claimed, ContactHistory, Contacts, Stock
from serving.state.keeping import FULL

logger = logging.getLogger(__name__)
MOST_DRAWS = 8  # of one decision: after that many lost races, whatever is limited is withheld


class Attempt(msgspec.Struct, frozen=True, eq=False):
    """A decision on its way: drawn, and not yet reserved."""

    arm: Arm
    question: Question
    draft: Draft
    lost: tuple[frozenset[str], ...] = ()  # per draw before this one, offers whose last unit went to somebody else
    degraded: tuple[tuple[str, str], ...] = ()
    n_draws: int = 1
    latency_us: int | None = None  # from the question read to its row of the log made; None: nobody asked over HTTP

    @property
    def edition(self) -> Edition:
        return self.arm.edition

    @property
    def claim(self) -> Claim | None:
        """What must be reserved before the answer; None if nothing of it is limited."""
        question = self.question
        if question.request.dry_run or question.known.history is None:
            return None  # without counters, only what has no limits was drawn
        picks = tuple(one for one in self.draft.claimed if self.edition.limits.covers(one))
        if not picks:
            return None
        decided_us, zone = to_us(question.now), self.draft.time_zone
        return Claim(
            question.decision_id, question.known.customer.customer_id, decided_us, question.lapses_us, picks, zone
        )


@dataclass(slots=True)
class Decider:
    """Decides for the edition it holds; `edition` is replaced by one assignment."""

    edition: Edition
    settings: Settings
    clock: Clock
    currency: str
    contacts: Contacts | None = None  # None: nothing is counted
    log: Log | None = None  # whose events count as contacts
    meter: Meter | None = None
    shadow: Shadow | None = None  # who scores decisions beside

    def decide(self, request: DecisionRequest, seed: int | None = None) -> Decision:
        """The next best offers: read, drawn and reserved in the caller's thread. `BadInput` names a bad placement."""
        edition = self.edition  # read once: no answer mixes two
        placements_of(edition.view, request)
        attempt = self.begin(edition, request, self.read(edition, request.customer_id), seed)
        while (claim := attempt.claim) is not None and self.contacts is not None:
            try:
                (lost,) = self.contacts.claim([claim], edition.limits)
            except StoreUnavailable:
                attempt = self.withhold(attempt, ("state_unavailable", WITHHELD))
                break
            if not lost:
                break
            attempt = self.again(attempt, lost)
        return self.finish(attempt)

    def read(self, edition: Edition, customer_id: str) -> Known:
        """What the stores say of a customer; what they cannot say is None, and named in `customer.degraded`."""
        now_us = to_us(self.clock())
        customer = edition.customers.read(customer_id, now_us)
        if self.contacts is None or not edition.limits.any:
            return Known(customer)
        try:
            self.catch_up()
            (history,) = self.contacts.histories([customer.customer_id])
            return counted(customer, history, self.contacts.stock(now_us))
        except StoreUnavailable:
            return Known(customer.but(("state_unavailable", WITHHELD)), None, None)

    def catch_up(self) -> None:
        """Count what the log received since; a log that does not answer leaves claims as they are, until they lapse."""
        if self.contacts is not None and self.log is not None:
            try:
                self.contacts.catch_up(self.log, self.edition.limits)
            except StoreUnavailable as error:
                logger.warning("contacts could not catch up: %s", error)

    def begin(
        self, edition: Edition, request: DecisionRequest, known: Known, seed: int | None = None, *, models: bool = True
    ) -> Attempt:
        """The first draw, without models by popularity. Of somebody erased nothing may be kept, so nothing that must be
        counted is shown.
        """
        now = self.clock()
        now_us = to_us(now)
        if known.customer.erased:
            known = Known(known.customer, None, None)
        question = Question(
            request=request,
            known=known,
            now=now,
            seed=new_seed() if seed is None else seed,
            decision_id=new_id(now_us),
            lapses_us=now_us + int(self.settings.expires_after_s * 1e6),
        )
        arm = arm_for(edition, self.settings, request, known.customer, now_us)
        arm = arm if models else arm.without_models()
        return Attempt(arm, question, draft(arm.edition, arm.settings, question, rng_of(question.seed, 1)))

    def again(self, attempt: Attempt, lost: Sequence[Claimed]) -> Attempt:
        """Another draw without what was lost in a race."""
        all_lost = (*attempt.lost, frozenset(one.offer_id for one in lost))
        if len(all_lost) >= MOST_DRAWS:
            return self.withhold(attempt, ("state_unavailable", "too many races for last units were lost: " + WITHHELD))
        without = frozenset().union(*all_lost)
        n_draws = attempt.n_draws + 1
        rng = rng_of(attempt.question.seed, n_draws)
        drawn = draft(attempt.edition, attempt.arm.settings, attempt.question, rng, without)
        return replace(attempt, draft=drawn, lost=all_lost, n_draws=n_draws)

    def withhold(self, attempt: Attempt, why: tuple[str, str]) -> Attempt:
        """Another draw without counters: whatever is limited is not shown."""
        known = replace(attempt.question.known, history=None, stock=None)
        question = replace(attempt.question, known=known)
        n_draws = attempt.n_draws + 1
        drawn = draft(attempt.edition, attempt.arm.settings, question, rng_of(question.seed, n_draws))
        degraded = (*attempt.degraded, why)
        return replace(attempt, question=question, draft=drawn, degraded=degraded, n_draws=n_draws)

    def nothing(self, edition: Edition, request: DecisionRequest, why: tuple[str, str]) -> Decision:
        """The answer when no decision could be made at all: each placement asked for, and nothing in it."""
        now = self.clock()
        decision = Decision(
            decision_id=new_id(to_us(now)),
            customer_id=request.customer_id,
            decided_at=now,
            expires_at=now + timedelta(seconds=self.settings.expires_after_s),
            currency=self.currency,
            placements=tuple(PlacementAnswer(placement_id=one.placement_id, offers=()) for one in request.placements),
            policy=self.settings.policy,
            model_versions=edition.versions,
            degraded=(Degraded(*why),),
        )
        payload = b"" if request.dry_run else nothing_row(decision, request, edition.view.version)
        return msgspec.structs.replace(decision, log_payload=payload)

    def finish(self, attempt: Attempt, received: float | None = None) -> Decision:
        """The answer and its row of the log. `received`: when the question had been read, of the monotonic clock."""
        decision = self.written(attempt, received)
        self.given(attempt)
        return decision

    def written(self, attempt: Attempt, received: float | None = None) -> Decision:
        """The same of an answer that may still be found to come too late: the shadow has not heard of it."""
        if received is not None:
            attempt = replace(attempt, latency_us=round((time.monotonic() - received) * 1e6))
        counted = None if self.meter is None else self.meter.decided(attempt)
        return answer_of(attempt, self.currency, counted)

    def given(self, attempt: Attempt) -> None:
        """Its answer is on its way: it may be scored by the shadow too."""
        if self.shadow is not None and not attempt.question.request.dry_run:
            self.shadow.also(attempt)


def counted(customer: CustomerNow, history: ContactHistory, stock: Stock) -> Known:
    """What was read together. Of whom there are too many contacts no claim can be made, so nothing limited is drawn."""
    if len(history.contacts) < FULL:
        return Known(customer, history, stock)
    return Known(
        customer.but(("state_unavailable", f"{FULL:,} contacts are as many as are counted: {WITHHELD}")), None, None
    )


WITHHELD = "offers with caps, inventory or a budget were withheld"
NO_DECISION = ("model_unavailable", "no decision could be made, so nothing was offered")
