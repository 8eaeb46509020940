"""What a kept answer may still show: what was withdrawn or used up since, or the customer refused, is taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from features.events import parse_time, to_us
from serving.decide import Decider
from serving.decision import DecisionRequest
from serving.drafting import Known, Question, asked_for, zone_of
from serving.rules.asked import Asked
from serving.rules.masks import lets
from serving.state.contacts import ContactHistory
from serving.state.history import REFUSED

WHETHER = frozenset({"status", "schedule", "channel", "exclusion", "consent", "eligibility", "quiet_hours"})
HOW_OFTEN = frozenset({"pause", "cooldown", "caps"})  # asked without what the answer itself counted
HOW_MUCH = frozenset({"inventory", "budget", "pacing"})  # asked where nothing is held for the answer any more


def without_withdrawn(decider: Decider, request: DecisionRequest, answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer without what may not be shown any more; None if all of it may. Ranks stay as they were given.

    Reads the customer and the counters in the caller's thread.
    """
    edition, now = decider.edition, decider.clock()
    now_us, decision_id = to_us(now), answer["decision_id"]
    known = decider.read(edition, request.customer_id)
    history, mine = _others(known.history, decision_id), _own(known.history, decision_id)
    held = now_us < to_us(parse_time(answer["expires_at"], "expires_at"))
    question = Question(request, Known(known.customer, history, known.stock), now, 0, decision_id, now_us)
    changed, kept = False, []
    for one in answer["placements"]:
        placement = edition.view.placements.get(one["placement_id"])
        offers: list[Any] = []
        if placement is not None:  # else it was removed, and nothing can be shown in it
            channel = request.channel or placement.channel
            zone = zone_of(known.customer, decider.settings)
            asked = asked_for(question, placement, channel, now_us, zone, history)
            offers = [
                offer
                for offer in one["offers"]
                if _may(decider, asked, edition.view.row.get(offer["offer_id"]), held or offer["offer_id"] in mine)
            ]
        changed = changed or len(offers) != len(one["offers"])
        kept.append({**one, "offers": offers})
    return {**answer, "placements": kept} if changed else None


def _may(decider: Decider, asked: Asked, row: int | None, held: bool) -> bool:
    """An offer without a row was archived. `held`: a unit and its money are still this answer's, or were used by it."""
    if row is None:
        return False
    names = WHETHER if held else WHETHER | HOW_MUCH
    if asked.history is not None or not held:  # counters that cannot be read withhold what nothing is held for
        names |= HOW_OFTEN
    return all(lets(rule.allows(asked), row) for rule in decider.edition.rules.all if rule.name in names)


def _others(history: ContactHistory | None, decision_id: str) -> ContactHistory | None:
    """Without what the answer itself counted; but what of it was refused stays refused."""
    if history is None:
        return None
    return ContactHistory(tuple([c for c in history.contacts if c.decision_id != decision_id or c.answer in REFUSED]))


def _own(history: ContactHistory | None, decision_id: str) -> frozenset[str]:
    """Offers of the answer that were seen, so that what they take is theirs."""
    contacts = () if history is None else history.contacts
    return frozenset([c.offer_id for c in contacts if c.decision_id == decision_id and c.seen_us is not None])
