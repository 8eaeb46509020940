"""From a finished draft to the answer that the caller gets and the row that the log keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from features.catalogue import Offer, Treatment
from features.events import from_us
from serving.catalogue_view import fits_there
from serving.counting import Counted, counted
from serving.decision import Decision, Degraded, Met, OfferAnswer, PlacementAnswer
from serving.decision_log import log_row
from serving.drafting import Drafted
from serving.experimenting import told
from serving.explain import explain
from serving.reasons import reasons

if TYPE_CHECKING:
    from serving.decide import Attempt


class Answered(NamedTuple):
    """What answer and row of the log have in common."""

    expires_at: datetime
    currency: str
    placements: tuple[PlacementAnswer, ...]
    model_versions: dict[str, str | None]
    degraded: tuple[Degraded, ...]
    experiments: tuple[Met, ...]


def answer_of(attempt: Attempt, currency: str, of_each: Sequence[Counted] | None = None) -> Decision:
    """The decision; its log row is left empty by a dry run. `of_each` is `counted_of`, if somebody has counted."""
    question, arm, request = attempt.question, attempt.arm, attempt.question.request
    answered = Answered(
        from_us(question.lapses_us),
        currency,
        tuple([_placement(attempt, drafted) for drafted in attempt.draft.placements]),
        arm.edition.versions,
        _degraded(attempt),
        told(arm.assigned),
    )
    payload = b""
    if not request.dry_run:
        payload = log_row(answered, attempt, counted_of(attempt) if of_each is None else of_each)
    return Decision(
        decision_id=question.decision_id,
        customer_id=request.customer_id,
        decided_at=question.now,
        expires_at=answered.expires_at,
        currency=currency,
        placements=answered.placements,
        policy=arm.settings.policy,
        model_versions=answered.model_versions,
        degraded=answered.degraded,
        experiments=answered.experiments,
        holdout=arm.assigned.holdout,
        exposures=arm.exposures if payload else (),
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
    codes, asked_for = reasons(attempt, drafted), attempt.arm.assigned.treatments
    for rank, pick in enumerate(drafted.picks, start=1):
        offer = view.offers[pick.row]
        treatment = _asked_for(offer, asked_for, drafted) or offer.treatments[treatments.item(pick.row)]
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


def _asked_for(offer: Offer, treatments: Mapping[str, str], drafted: Drafted) -> Treatment | None:
    """The treatment that a variant asks for, where it fits; None: the first that does."""
    wanted = treatments.get(offer.offer_id) if treatments else None
    if wanted is None:
        return None
    fitting = (one for one in offer.treatments if one.treatment_id == wanted)
    return next((one for one in fitting if fits_there(one, drafted.placement.placement_id, drafted.channel)), None)


def _degraded(attempt: Attempt) -> tuple[Degraded, ...]:
    arm = attempt.arm
    found = [*attempt.question.known.customer.degraded, *arm.degraded, *attempt.degraded]
    if arm.edition.release is None and not arm.assigned.holdout:
        found.append(("model_unavailable", "offers were scored by their own acceptance rate; promote a release"))
    return tuple(Degraded(code, action) for code, action in dict.fromkeys(found))
