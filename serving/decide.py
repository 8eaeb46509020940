"""The decision: from a question about one customer to offers, each with the chance it really had."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.catalogue import Placement
from features.errors import BadInput
from features.events import to_us
from serving.arbitration import score
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow
from serving.decision import Decision, DecisionRequest, Degraded, OfferAnswer, PlacementAnswer
from serving.decision_log import log_row, support
from serving.edition import Edition, Scores, context_of
from serving.ids import new_id
from serving.policies import POLICIES
from serving.reasons import reasons
from serving.rules import eligible
from serving.rules.asked import Asked
from serving.settings import Clock, Settings
from serving.slate import Chances, Pick, fill


@dataclass(slots=True)
class Decider:
    """Decides for the edition it holds; `edition` is replaced by one assignment."""

    edition: Edition
    settings: Settings
    clock: Clock
    currency: str

    def decide(self, request: DecisionRequest, seed: int | None = None) -> Decision:
        """The next best offers. Pure but for the customer's read; `BadInput` names an unknown placement."""
        edition = self.edition  # read once: no answer mixes two
        now = self.clock()
        placements = _placements(edition.view, request)
        customer = edition.customers.read(request.customer_id, to_us(now))
        seed = secrets.randbits(64) if seed is None else seed
        rng = random.Random(seed)
        chances = partial(POLICIES[self.settings.policy], epsilon=self.settings.epsilon)
        free = np.ones(len(edition.view), dtype=bool)  # no offer twice in one decision
        answers: list[PlacementAnswer] = []
        supports = []
        for placement, limit in placements:
            channel = request.channel or placement.channel
            asked = Asked(placement.placement_id, channel, to_us(now), request.exclude_offer_ids, customer.refused)
            allowed, dropped_by = eligible(edition.view, asked)
            context = context_of(now, channel, placement.placement_id)
            scores = edition.score(request.customer_id, customer.features, context, churn=not answers)
            worth = score(scores.p_accept, edition.view.value)
            picks = _picks(edition.view, placement, limit, worth, allowed & free, chances, rng)
            free[[pick.row for pick in picks]] = False
            answers.append(_answer(edition, placement, channel, customer, scores, worth, picks))
            supports.append(support(allowed, dropped_by))
        decision = Decision(
            decision_id=new_id(to_us(now)),
            customer_id=request.customer_id,
            decided_at=now,
            expires_at=now + timedelta(seconds=self.settings.expires_after_s),
            currency=self.currency,
            placements=tuple(answers),
            policy=self.settings.policy,
            model_versions=edition.versions,
            degraded=_degraded(edition, customer),
        )
        if request.dry_run:
            return decision
        row = log_row(decision, request, edition, customer, supports, seed, self.settings)
        return msgspec.structs.replace(decision, log_payload=row)


def _placements(view: CatalogueView, request: DecisionRequest) -> list[tuple[Placement, int]]:
    found = []
    for i, wanted in enumerate(request.placements):
        placement = view.placements.get(wanted.placement_id)
        if placement is None:
            raise BadInput(
                f"there is no placement {wanted.placement_id!r}; create it with PUT /v1/placements/{{id}}",
                f"/placements/{i}/placement_id",
            )
        found.append((placement, min(wanted.limit, placement.max_offers)))
    return found


def _picks(
    view: CatalogueView,
    placement: Placement,
    limit: int,
    worth: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    chances: Chances,
    rng: random.Random,
) -> list[Pick]:
    """The slate of one placement. Its fallback does not compete; it stands in when nothing else may be shown."""
    fallback = view.row.get(placement.fallback_offer_id or "", -1)
    stands_in = fallback >= 0 and bool(allowed[fallback])
    if fallback >= 0 and placement.fallback_offer_id not in placement.guaranteed_offer_ids:
        allowed[fallback] = False
    picks = fill(
        worth,
        allowed,
        limit,
        chances,
        rng,
        priority=view.priority,
        category=view.category,
        max_per_category=placement.max_per_category,
        guaranteed=tuple(view.row[o] for o in placement.guaranteed_offer_ids if o in view.row),
    )
    return picks or ([Pick(fallback, 1.0, why="fallback")] if stands_in else [])


def _answer(
    edition: Edition,
    placement: Placement,
    channel: str,
    customer: CustomerNow,
    scores: Scores,
    worth: NDArray[np.float64],
    picks: list[Pick],
) -> PlacementAnswer:
    treatments = edition.view.treatment_for(placement.placement_id, channel)
    offers = []
    for rank, pick in enumerate(picks, start=1):
        offer = edition.view.offers[pick.row]
        treatment = offer.treatments[int(treatments[pick.row])]
        offers.append(
            OfferAnswer(
                rank=rank,
                offer_id=offer.offer_id,
                treatment_id=treatment.treatment_id,
                score=float(worth[pick.row]),
                p_accept=float(scores.p_accept[pick.row]),
                selection_probability=pick.chance,
                value=offer.value,
                reason_codes=reasons(edition, customer, scores, pick),
                payload=treatment.payload,
                is_fallback=pick.why == "fallback",
            )
        )
    return PlacementAnswer(placement_id=placement.placement_id, offers=tuple(offers))


def _degraded(edition: Edition, customer: CustomerNow) -> tuple[Degraded, ...]:
    found = list(customer.degraded)
    if edition.release is None:
        found.append(("model_unavailable", "offers were scored by their own acceptance rate; promote a release"))
    return tuple(Degraded(code, action) for code, action in found)
