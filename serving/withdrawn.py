"""What a kept answer may still show: offers that were withdrawn since, or that the customer refused, are taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.events import to_us
from serving.decide import Decider
from serving.decision import DecisionRequest
from serving.drafting import Known, Question, asked_for, placements_of, zone_of
from serving.rules.asked import Asked
from serving.rules.masks import lets

# Rules that say whether; how often and how much of it was settled when the answer was made, and counts that answer.
WHETHER = frozenset({"status", "schedule", "channel", "exclusion", "consent", "eligibility", "quiet_hours"})


def without_withdrawn(decider: Decider, request: DecisionRequest, answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer without what may not be shown any more; None if all of it may. Ranks stay as they were given.

    Reads the customer in the caller's thread.
    """
    edition, now = decider.edition, decider.clock()
    now_us = to_us(now)
    customer = edition.customers.read(request.customer_id, now_us)
    question = Question(request, Known(customer, None, None), now, 0, answer["decision_id"], now_us)
    placements = {placement.placement_id: placement for placement, _ in placements_of(edition.view, request)}
    changed, kept = False, []
    for one in answer["placements"]:
        placement = placements[one["placement_id"]]
        channel = request.channel or placement.channel
        asked = asked_for(question, placement, channel, now_us, zone_of(customer, decider.settings), None)
        offers = [offer for offer in one["offers"] if _may(decider, asked, edition.view.row.get(offer["offer_id"]))]
        changed = changed or len(offers) != len(one["offers"])
        kept.append({**one, "offers": offers})
    return {**answer, "placements": kept} if changed else None


def _may(decider: Decider, asked: Asked, row: int | None) -> bool:
    """An offer without a row was archived."""
    if row is None:
        return False
    return all(lets(rule.allows(asked), row) for rule in decider.edition.rules.all if rule.name in WHETHER)
