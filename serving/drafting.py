"""A decision as a pure function: from what is known of a customer to offers drawn with the chances that are logged."""

from __future__ import annotations

from datetime import datetime, tzinfo
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from features.catalogue import Placement
from features.errors import BadInput
from features.events import to_us
from serving.arbitration import Worth, worth_of
from serving.catalogue_view import CatalogueView
from serving.customer import CustomerNow
from serving.decision import DecisionRequest
from serving.edition import Edition, Scores, context_of
from serving.learning.beliefs import Beliefs
from serving.policies import DECIDING
from serving.policies.floors import rows_of
from serving.policies.outlook import Outlook, Tuning
from serving.policies.policy import Policy
from serving.rules.asked import Asked
from serving.settings import Settings
from serving.shortlist import shortlist, with_new
from serving.slate import Mask, Pick, fill
from serving.state.contacts import Claimed, Contact, ContactHistory, Stock


class Known(Struct, frozen=True):
    """All that was read of the world for one decision. None: it could not be read."""

    customer: CustomerNow
    history: ContactHistory | None = field(default_factory=ContactHistory)
    stock: Stock | None = field(default_factory=Stock)


class Drafted(Struct, frozen=True, eq=False):
    """One placement, with all that its answer, its log and its explanation are made of; arrays (n_offers,)."""

    placement: Placement
    channel: str
    segment: str  # among whom what this placement brings is learned
    asked: Asked
    dropped_by: NDArray[np.int8]  # index of the first rule that said no, -1: none did
    taken: frozenset[int]  # rows picked in an earlier placement of the same decision, or lost to somebody else
    n_eligible: int  # passed every rule
    in_draw: Mask  # had a chance at the first rank; fewer than the eligible where a shortlist was made
    scores: Scores
    beliefs: Beliefs
    worth: Worth
    policy: Policy  # as it drew: of any offers left at a rank it says the chances
    picks: tuple[Pick, ...]


class Draft(Struct, frozen=True, eq=False):
    """What a decision would show; nothing is reserved yet."""

    placements: tuple[Drafted, ...]
    p_churn: float | None
    claimed: tuple[Claimed, ...]
    time_zone: tzinfo  # of the customer


class Question(Struct, frozen=True):
    """One request with everything that its answer depends on, but for the release and the catalogue."""

    request: DecisionRequest
    known: Known
    now: datetime
    seed: int
    decision_id: str
    lapses_us: int  # what the decision claims is given back then, if nobody saw it


def draft(
    edition: Edition,
    settings: Settings,
    question: Question,
    rng: Random,
    lost: frozenset[str] = frozenset(),
) -> Draft:
    """Pure: the same arguments give the same draft. `lost` are offers whose last unit went to somebody else.

    `BadInput` names an unknown placement.
    """
    request, customer = question.request, question.known.customer
    now_us = to_us(question.now)
    zone = zone_of(customer, settings)
    history = question.known.history
    row_of = edition.view.row
    taken = frozenset([row_of[offer_id] for offer_id in lost if offer_id in row_of])
    p_churn, uplift = edition.p_churn(customer.features), edition.uplift(customer.features)
    drafted: list[Drafted] = []
    claimed: list[Claimed] = []
    for placement, limit in placements_of(edition.view, request):
        if drafted:
            picked = drafted[-1].picks
            taken |= {pick.row for pick in picked}
            if history is not None and picked:
                coming = [contact_of(one, question, now_us) for one in claimed[-len(picked) :]]
                history = ContactHistory((*history.contacts, *coming))
        channel = request.channel or placement.channel
        earlier = tuple([one.offer_id for one in claimed])
        asked = asked_for(question, placement, channel, now_us, zone, history, earlier, uplift)
        segment = segment_of(settings.segment_by, channel, customer)
        drawn = draft_one(edition, settings, asked, placement, limit, customer, p_churn, segment, taken, rng)
        drafted.append(drawn)
        claimed += [_claimed(edition, pick.row, drawn) for pick in drawn.picks]
    return Draft(tuple(drafted), p_churn, tuple(claimed), zone)


def rng_of(seed: int, n_draws: int) -> Random:
    """The randomness of one draw of a decision; each has its own, so that the last is replayed without the others."""
    return Random(seed if n_draws == 1 else (seed << 8) | n_draws)


def draft_one(
    edition: Edition,
    settings: Settings,
    asked: Asked,
    placement: Placement,
    limit: int,
    customer: CustomerNow,
    p_churn: float | None,
    segment: str,
    taken: frozenset[int],
    rng: Random,
) -> Drafted:
    """One placement, after whatever was `taken` in earlier ones."""
    view = edition.view
    allowed, dropped_by = edition.rules.eligible(asked)
    for row in taken:
        allowed[row] = False
    context = context_of(asked.now_us, asked.channel, placement.placement_id)
    scores = edition.score(customer.customer_id, customer.features, context)
    beliefs = edition.beliefs(segment)
    expected = edition.predicted_value(customer.customer_id)
    worth = worth_of(edition.levers, view, scores.p_model, beliefs, asked, customer, p_churn, settings, expected)
    fallback = view.row.get(placement.fallback_offer_id or "", -1)
    stands_in = fallback >= 0 and bool(allowed[fallback])
    stands_by = stands_in and placement.fallback_offer_id not in placement.guaranteed_offer_ids
    if stands_by:
        allowed[fallback] = False  # it does not compete; it stands in when nothing else may be shown
    is_new = beliefs.fewer(settings.new_offer_impressions)
    kind = DECIDING[settings.policy]
    guaranteed: tuple[int, ...] = ()
    if kind.ranks:
        guaranteed = tuple([view.row[o] for o in placement.guaranteed_offer_ids if o in view.row])
    rows, in_draw, competes = rows_of(allowed), allowed, None
    n_eligible = len(rows) + stands_by
    if n_eligible > settings.shortlist and kind.ranks:
        competes = _competing(view, allowed, worth, guaranteed, limit, settings)
        in_draw = with_new(competes, allowed, is_new) if kind.explores and settings.new_offer_share > 0.0 else competes
        rows = rows_of(in_draw)
    outlook = Outlook(worth.score, worth.moved, beliefs, is_new, competes, worth.p_accept)
    policy = kind(outlook, in_draw, tuning_of(settings), rng)
    picks = fill(
        policy,
        in_draw,
        limit,
        rng,
        priority=view.priority if kind.ranks else view.level,
        rooms=edition.rules.rooms(asked),
        guaranteed=guaranteed,
        rows=rows,
    )
    if not picks and stands_in:
        picks = [Pick(fallback, 1.0, why="fallback")]
    return Drafted(
        placement=placement,
        channel=asked.channel,
        segment=segment,
        asked=asked,
        dropped_by=dropped_by,
        taken=taken,
        n_eligible=n_eligible,
        in_draw=in_draw,
        scores=scores,
        beliefs=beliefs,
        worth=worth,
        policy=policy,
        picks=tuple(picks),
    )


def _competing(
    view: CatalogueView, allowed: Mask, worth: Worth, guaranteed: tuple[int, ...], limit: int, settings: Settings
) -> Mask:
    """Who competes in a large catalogue: the best, and the guaranteed."""
    keep = np.zeros(len(view), dtype=bool)
    keep[list(guaranteed)] = True
    return shortlist(allowed, worth.score, max(settings.shortlist, limit), keep, priority=view.priority)


def warm() -> None:
    """Compile the loop of large catalogues, or load it from the machine's cache, before a decision waits for it."""
    shortlist(np.ones(2, np.bool_), np.zeros(2), 1)


def tuning_of(settings: Settings) -> Tuning:
    return _tuning(settings.epsilon, settings.temperature, settings.draws, settings.new_offer_share)


@lru_cache(maxsize=8)  # settings stay as they are while a process runs
def _tuning(epsilon: float, temperature: float, draws: int, new_offer_share: float) -> Tuning:
    return Tuning(
        epsilon=epsilon, temperature=temperature, draws=draws, new_offer_share=min(new_offer_share, 1.0 - epsilon)
    )


def placements_of(view: CatalogueView, request: DecisionRequest) -> list[tuple[Placement, int]]:
    """The placements that are asked for, each with how many offers it takes; `BadInput` for an unknown one."""
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


def segment_of(segment_by: str, channel: str, customer: CustomerNow) -> str:
    """Among whom what is learned is shared; "" where the value is missing."""
    if segment_by == "channel":
        return channel
    value = customer.features.get(segment_by, customer.attributes.get(segment_by))
    return "" if value is None or value != value else str(value)


def zone_of(customer: CustomerNow, settings: Settings) -> tzinfo:
    """The customer's time zone, else the deployment's."""
    return ZoneInfo(customer.time_zone or settings.time_zone)


def asked_for(
    question: Question,
    placement: Placement,
    channel: str,
    now_us: int,
    zone: tzinfo,
    history: ContactHistory | None,
    earlier: tuple[str, ...] = (),
    uplift: float | None = None,
) -> Asked:
    """What rules are asked about one placement; `earlier` are offers picked before in the same decision."""
    customer, request = question.known.customer, question.request
    return Asked(
        placement_id=placement.placement_id,
        channel=channel,
        now_us=now_us,
        decision_id=question.decision_id,
        exclude_offer_ids=request.exclude_offer_ids,
        refused=customer.refused,
        muted_categories=customer.muted_categories,
        features=customer.features,
        features_known=not customer.degraded or all(code != "features_unavailable" for code, _ in customer.degraded),
        attributes=customer.attributes,
        consent=customer.consent,
        context=request.context,
        history=history,
        earlier=earlier,
        stock=question.known.stock,
        time_zone=zone,
        uplift=uplift,
    )


def _claimed(edition: Edition, row: int, drafted: Drafted) -> Claimed:
    offer = edition.view.offers[row]
    return Claimed(row, offer.offer_id, offer.category, drafted.placement.placement_id, drafted.channel)


def contact_of(claimed: Claimed, question: Question, now_us: int) -> Contact:
    return Contact(
        offer_id=claimed.offer_id,
        category=claimed.category,
        placement_id=claimed.placement_id,
        channel=claimed.channel,
        decision_id=question.decision_id,
        decided_us=now_us,
        lapses_us=question.lapses_us,
    )
