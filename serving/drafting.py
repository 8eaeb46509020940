"""A decision as a pure function: from what is known of a customer to offers drawn with the chances that are logged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from functools import lru_cache
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.catalogue import Placement
from features.errors import BadInput
from features.events import to_us
from serving.arbitration import Worth, worth_of
from serving.arrays import read_only
from serving.catalogue_view import CatalogueView
from serving.compiled import compiled
from serving.customer import CustomerNow
from serving.decision import DecisionRequest
from serving.edition import Edition, Scores, context_of
from serving.learning.beliefs import Beliefs
from serving.policies import chances_of, control_share
from serving.policies.outlook import Outlook, Tuning
from serving.rules.asked import Asked
from serving.rules.masks import copied
from serving.settings import Settings
from serving.shortlist import shortlist
from serving.slate import Mask, Pick, fill
from serving.state.contacts import Claimed, Contact, ContactHistory, Stock


@dataclass(frozen=True, slots=True)
class Known:
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
    taken: Mask  # picked in an earlier placement of the same decision, or lost to somebody else
    n_eligible: int  # passed every rule
    in_draw: Mask  # had a chance at the first rank; fewer than the eligible where a shortlist was made
    scores: Scores
    beliefs: Beliefs
    worth: Worth
    picks: tuple[Pick, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a decision would show; nothing is reserved yet."""

    placements: tuple[Drafted, ...]
    p_churn: float | None
    claimed: tuple[Claimed, ...]
    time_zone: tzinfo  # of the customer


@dataclass(frozen=True, slots=True)
class Question:
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
    taken = np.zeros(len(edition.view), dtype=bool)
    if lost:
        taken[[edition.view.row[offer_id] for offer_id in lost if offer_id in edition.view.row]] = True
    p_churn = edition.p_churn(customer.features)
    drafted: list[Drafted] = []
    claimed: list[Claimed] = []
    for placement, limit in placements_of(edition.view, request):
        channel = request.channel or placement.channel
        earlier = tuple(one.offer_id for one in claimed)
        asked = asked_for(question, placement, channel, now_us, zone, history, earlier)
        segment = segment_of(settings.segment_by, channel, customer)
        drawn = _draft_one(edition, settings, asked, placement, limit, customer, p_churn, segment, taken, rng)
        drafted.append(drawn)
        picked = [_claimed(edition, pick.row, drawn) for pick in drawn.picks]
        claimed.extend(picked)
        taken = copied(taken)
        for pick in drawn.picks:
            taken[pick.row] = True
        if history is not None and picked:
            coming = tuple(contact_of(one, question, now_us) for one in picked)
            history = ContactHistory(history.contacts + coming)
    return Draft(tuple(drafted), p_churn, tuple(claimed), zone)


def _draft_one(
    edition: Edition,
    settings: Settings,
    asked: Asked,
    placement: Placement,
    limit: int,
    customer: CustomerNow,
    p_churn: float | None,
    segment: str,
    taken: Mask,
    rng: Random,
) -> Drafted:
    view = edition.view
    allowed, dropped_by = edition.rules.eligible(asked)
    n_eligible = _left_out(allowed, taken)
    context = context_of(asked.now_us, asked.channel, placement.placement_id)
    scores = edition.score(customer.customer_id, customer.features, context)
    beliefs = edition.beliefs(segment)
    worth = worth_of(edition.levers, view, scores.p_model, beliefs, asked, customer, p_churn, settings)
    fallback = view.row.get(placement.fallback_offer_id or "", -1)
    stands_in = fallback >= 0 and bool(allowed[fallback])
    if fallback >= 0 and placement.fallback_offer_id not in placement.guaranteed_offer_ids:
        allowed[fallback] = False  # it does not compete; it stands in when nothing else may be shown
    guaranteed = tuple([view.row[o] for o in placement.guaranteed_offer_ids if o in view.row])
    is_new = np.empty(len(view), np.bool_)
    _fewer(beliefs.n_seen, settings.new_offer_impressions, is_new)
    in_draw = allowed
    if n_eligible > settings.shortlist:
        in_draw = _shortlisted(view, allowed, worth, is_new, guaranteed, limit, settings, rng)
    outlook = Outlook(worth.score, worth.moved, beliefs, is_new, p_accept=worth.p_accept)
    tuning = tuning_of(settings)
    chances = chances_of(settings.policy, outlook, in_draw, tuning, rng)
    picks = fill(
        worth.score,
        copied(in_draw),
        limit,
        chances,
        rng,
        priority=view.priority,
        rooms=edition.rules.rooms(asked),
        guaranteed=guaranteed,
        control=control_share(settings.policy, tuning),
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
        picks=tuple(picks),
    )


def _shortlisted(
    view: CatalogueView,
    allowed: Mask,
    worth: Worth,
    is_new: Mask,
    guaranteed: tuple[int, ...],
    limit: int,
    settings: Settings,
    rng: Random,
) -> Mask:
    """Who takes part in the draw of a large catalogue: the best, the guaranteed, and new offers in their turn."""
    keep = np.zeros(len(view), dtype=bool)
    keep[list(guaranteed)] = True
    return shortlist(
        allowed,
        worth.score,
        max(settings.shortlist, limit),
        keep,
        priority=view.priority,
        is_new=is_new,
        new_quota=math.ceil(settings.shortlist * settings.new_offer_share),
        turn=rng.getrandbits(31),
    )


@compiled
def _left_out(allowed, taken):  # type: ignore[no-untyped-def]
    """Takes out of `allowed` what is taken; how many are left."""
    n = 0
    for i in range(len(allowed)):
        allowed[i] &= not taken[i]
        n += allowed[i]
    return n


@compiled
def _fewer(n_seen, than, is_new):  # type: ignore[no-untyped-def]
    for i in range(len(is_new)):
        is_new[i] = n_seen[i] < than


def warm() -> None:
    """Compile the loops, or load them from the machine's cache, before a decision waits for them."""
    mask, none = np.zeros(1, np.bool_), np.zeros(1)
    _left_out(mask, mask)
    for n_seen in (none, read_only(none.copy())):
        _fewer(n_seen, 200, mask)


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
