"""Why, and why not: the factors of each offer shown, and of every other offer the rule that dropped it, or its rank."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from serving.arbitration import customer_worth
from serving.decision import OfferWhy, PlacementWhy
from serving.drafting import Drafted, contact_of, placements_of
from serving.reasons import in_words, reasons
from serving.rules import Rooming, Rule
from serving.rules.asked import Asked
from serving.state.contacts import ContactHistory

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition

# Beside the rules of `serving/rules`, what keeps an offer that they allow from being shown:
ALREADY_OFFERED = "already_offered"  # in an earlier placement of the same decision
LOST_RACE = "lost_race"  # its last unit went to somebody else after it had been drawn
STANDS_BY = "fallback"  # it is shown when nothing else may be
SHORTLIST = "shortlist"  # too little worth for the draw, which in a large catalogue is among the best

OFFERS_AT_ONCE = 16


def explain(attempt: Attempt) -> tuple[PlacementWhy, ...]:
    """One per placement, in the order of the answer. Pure; takes as long as there are offers."""
    limits = [limit for _, limit in placements_of(attempt.edition.view, attempt.question.request)]
    found = []
    earlier: dict[int, str] = {}
    for drafted, limit in zip(attempt.draft.placements, limits, strict=True):
        shown = tuple(
            OfferWhy(factors_of(attempt, drafted, pick.row), in_words(codes))
            for pick, codes in zip(drafted.picks, reasons(attempt, drafted), strict=True)
        )
        found.append(PlacementWhy(shown, tuple(_not_offered(attempt, drafted, limit, earlier))))
        earlier |= {pick.row: drafted.placement.placement_id for pick in drafted.picks}
    return tuple(found)


def factors_of(attempt: Attempt, drafted: Drafted, row: int) -> dict[str, Any]:
    """What made the score of one offer, in the order of the calculation."""
    edition, worth, beliefs = attempt.edition, drafted.worth, drafted.beliefs
    of_worth = {name: float(getattr(worth, name)[row]) for name in worth.__struct_fields__ if name != "moved"}
    levers = [one._asdict() for one in edition.levers.factors(row, drafted.asked)]
    return {
        "p_model": float(drafted.scores.p_model[row]),
        "learned": float(beliefs.factor[row]),
        "learned_from": float(beliefs.n_seen[row]),
        **of_worth,
        "levers": levers,
        **(_of_retention(attempt, drafted) if edition.view.retention[row] else {}),
    }


def _of_retention(attempt: Attempt, drafted: Drafted) -> dict[str, float]:
    """What the gain of a retention offer was made of, as far as it is known."""
    customer, setting = attempt.question.known.customer, attempt.arm.settings.customer_value
    worth = customer_worth(customer, setting, attempt.edition.predicted_value(customer.customer_id))
    found = {"p_churn": attempt.draft.p_churn, "customer_value": worth, "uplift": drafted.asked.uplift}
    return {name: value for name, value in found.items() if value is not None}


def _not_offered(
    attempt: Attempt, drafted: Drafted, limit: int, earlier: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    view = attempt.edition.view
    shown = {pick.row for pick in drafted.picks}
    blocked = _without_room(attempt.edition, drafted, limit)
    for rank, row in enumerate(by_rank(drafted, view.priority), start=1):
        if row not in shown and row not in blocked:
            yield {"offer_id": view.offers[row].offer_id, "rank": rank}
    for row, offer in enumerate(view.offers):
        if row % OFFERS_AT_ONCE == 0:
            time.sleep(0)  # lets the thread have Python's lock that decides meanwhile
        if row in shown or (drafted.in_draw[row] and row not in blocked):
            continue
        rule, seen = _dropped(attempt, drafted, row, earlier, blocked)
        yield {"offer_id": offer.offer_id, "rule": rule, "seen": seen}


def by_rank(drafted: Drafted, priority: NDArray[np.int64]) -> list[int]:
    """The rows that took part in the draw: those of higher priority first, then by score, then by offer id."""
    rows = np.flatnonzero(drafted.in_draw)
    order = np.lexsort((rows, -drafted.worth.score[rows], -priority[rows]))
    return [int(row) for row in rows[order]]


def _dropped(
    attempt: Attempt, drafted: Drafted, row: int, earlier: Mapping[int, str], blocked: Mapping[int, Rule]
) -> tuple[str, dict[str, Any]]:
    """What kept one offer that is not shown out of the draw, or out of the ranks that were left; and what it saw."""
    edition = attempt.edition
    offer_id = edition.view.offers[row].offer_id
    if row in earlier:
        return ALREADY_OFFERED, {"placement_id": earlier[row]}
    if row in drafted.taken:
        draws = [n for n, lost in enumerate(attempt.lost, start=1) if offer_id in lost]
        return LOST_RACE, {"draws": draws}
    if drafted.dropped_by[row] >= 0:
        rule = edition.rules.all[drafted.dropped_by[row]]
        return rule.name, rule.seen(drafted.asked, row)
    if row in blocked:
        return blocked[row].name, blocked[row].seen(_afterwards(attempt, drafted), row)
    if offer_id == drafted.placement.fallback_offer_id:
        return STANDS_BY, {"placement_id": drafted.placement.placement_id}
    seen = {"n_eligible": drafted.n_eligible, "n_in_draw": int(drafted.in_draw.sum())}
    return SHORTLIST, {"score": float(drafted.worth.score[row]), **seen}


def _without_room(edition: Edition, drafted: Drafted, limit: int) -> dict[int, Rule]:
    """Rows that fitted no longer at a rank that was still open, and by which rule."""
    n_before_last = len(drafted.picks) - (len(drafted.picks) == limit)
    blocked: dict[int, Rule] = {}
    for rule in edition.rules.all:
        if isinstance(rule, Rooming):
            closed = np.zeros(len(edition.view), dtype=bool)
            for room in rule.rooms(drafted.asked):
                for pick in drafted.picks[:n_before_last]:
                    if (rows := room.take(pick.row)) is not None:
                        closed[rows] = True
            for row in np.flatnonzero(closed & drafted.in_draw):
                blocked.setdefault(int(row), rule)
    for pick in drafted.picks:
        blocked.pop(pick.row, None)
    return blocked


def _afterwards(attempt: Attempt, drafted: Drafted) -> Asked:
    """What rules would be asked once the placement's own offers are shown."""
    asked, question = drafted.asked, attempt.question
    mine = [one for one in attempt.draft.claimed if one.placement_id == asked.placement_id]
    coming = tuple(contact_of(one, question, asked.now_us) for one in mine)
    earlier = (*asked.earlier, *(one.offer_id for one in mine))
    if asked.history is None:
        return structs.replace(asked, earlier=earlier)
    return structs.replace(asked, earlier=earlier, history=ContactHistory(asked.history.contacts + coming))
