"""From a finished draft to the answer that the caller gets and the row that the log keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from features.events import from_us
from serving.decision import Decision, Degraded, OfferAnswer, PlacementAnswer
from serving.decision_log import log_row
from serving.drafting import Drafted
from serving.explain import explain
from serving.reasons import reasons
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition


def answer_of(attempt: Attempt, settings: Settings, currency: str) -> Decision:
    """The decision; its log row is left empty by a dry run."""
    question, edition = attempt.question, attempt.edition
    decision = Decision(
        decision_id=question.decision_id,
        customer_id=question.request.customer_id,
        decided_at=question.now,
        expires_at=from_us(question.lapses_us),
        currency=currency,
        placements=tuple(_placement(attempt, drafted) for drafted in attempt.draft.placements),
        policy=settings.policy,
        model_versions=edition.versions,
        degraded=_degraded(attempt, edition),
    )
    if not question.request.dry_run:
        decision = msgspec.structs.replace(decision, log_payload=log_row(decision, attempt, settings))
    if question.request.explain:
        decision = msgspec.structs.replace(decision, explanation=explain(attempt))
    return decision


def _placement(attempt: Attempt, drafted: Drafted) -> PlacementAnswer:
    view = attempt.edition.view
    placement_id = drafted.placement.placement_id
    treatments = view.treatment_for(placement_id, drafted.channel)
    offers = []
    for rank, pick in enumerate(drafted.picks, start=1):
        offer = view.offers[pick.row]
        treatment = offer.treatments[int(treatments[pick.row])]
        offers.append(
            OfferAnswer(
                rank=rank,
                offer_id=offer.offer_id,
                treatment_id=treatment.treatment_id,
                score=float(drafted.worth.score[pick.row]),
                p_accept=float(drafted.worth.p_accept[pick.row]),
                selection_probability=pick.chance,
                value=offer.value,
                reason_codes=reasons(attempt, drafted, pick),
                payload=treatment.payload,
                is_fallback=pick.why == "fallback",
            )
        )
    return PlacementAnswer(placement_id=placement_id, offers=tuple(offers))


def _degraded(attempt: Attempt, edition: Edition) -> tuple[Degraded, ...]:
    found = [*attempt.question.known.customer.degraded, *attempt.degraded]
    if edition.release is None:
        found.append(("model_unavailable", "offers were scored by their own acceptance rate; promote a release"))
    return tuple(Degraded(code, action) for code, action in dict.fromkeys(found))
