"""From a finished draft to the answer that the caller gets and the row that the log keeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from features.events import from_us
from serving.counting import Counted, counted
from serving.decision import Decision, Degraded, OfferAnswer, PlacementAnswer
from serving.decision_log import log_row
from serving.drafting import Drafted
from serving.explain import explain
from serving.reasons import reasons
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition


class Answered(NamedTuple):
    """What answer and row of the log have in common."""

    expires_at: datetime
    currency: str
    placements: tuple[PlacementAnswer, ...]
    model_versions: dict[str, str | None]
    degraded: tuple[Degraded, ...]


def answer_of(
    attempt: Attempt, settings: Settings, currency: str, of_each: Sequence[Counted] | None = None
) -> Decision:
    """The decision; its log row is left empty by a dry run. `of_each` is `counted_of`, if somebody has counted."""
    question, edition, request = attempt.question, attempt.edition, attempt.question.request
    answered = Answered(
        from_us(question.lapses_us),
        currency,
        tuple([_placement(attempt, drafted) for drafted in attempt.draft.placements]),
        edition.versions,
        _degraded(attempt, edition),
    )
    payload = b""
    if not request.dry_run:
        payload = log_row(answered, attempt, settings, counted_of(attempt) if of_each is None else of_each)
    return Decision(
        decision_id=question.decision_id,
        customer_id=request.customer_id,
        decided_at=question.now,
        expires_at=answered.expires_at,
        currency=currency,
        placements=answered.placements,
        policy=settings.policy,
        model_versions=answered.model_versions,
        degraded=answered.degraded,
        explanation=explain(attempt) if request.explain else None,
        log_payload=payload,
    )


def counted_of(attempt: Attempt) -> list[Counted]:
    """One for each placement."""
    return [counted(attempt.edition.rules.names, drafted) for drafted in attempt.draft.placements]


def _placement(attempt: Attempt, drafted: Drafted) -> PlacementAnswer:
    view = attempt.edition.view
    placement_id = drafted.placement.placement_id
    treatments = view.treatment_for(placement_id, drafted.channel)
    score, p_accept, offers = drafted.worth.score, drafted.worth.p_accept, []
    codes = reasons(attempt, drafted)
    for rank, pick in enumerate(drafted.picks, start=1):
        offer = view.offers[pick.row]
        treatment = offer.treatments[treatments.item(pick.row)]
        offers.append(
            OfferAnswer(
                rank=rank,
                offer_id=offer.offer_id,
                treatment_id=treatment.treatment_id,
                score=score.item(pick.row),
                p_accept=p_accept.item(pick.row),
                selection_probability=pick.chance,
                value=offer.value,
                reason_codes=codes[rank - 1],
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
