"""After an impression an offer rests for the customer, and longer after it was dismissed or rejected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from features.catalogue import ContactPolicy
from features.events import from_us
from serving.rules.masks import Said
from serving.rules.tally import Channels
from serving.rules.windows import parse_duration
from serving.state.contacts import Contact, ContactHistory
from serving.state.history import REFUSED

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class Rest(NamedTuple):
    """A policy's cool-down made ready; 0: none."""

    policy_id: str
    channels: Channels
    impression_us: int
    dismiss_us: int


def rests_of(policies: Sequence[ContactPolicy]) -> tuple[Rest, ...]:
    return tuple(
        Rest(
            policy.policy_id,
            frozenset(policy.channels) or None,
            parse_duration(policy.cooldown.impression) if policy.cooldown.impression else 0,
            parse_duration(policy.cooldown.dismiss) if policy.cooldown.dismiss else 0,
        )
        for policy in policies
        if policy.cooldown is not None and (policy.cooldown.impression or policy.cooldown.dismiss)
    )


def rested_at(contact: Contact, rest: Rest, now_us: int) -> int:
    """When the contact's offer has rested; a claim that has not lapsed counts as an impression at its decision."""
    seen_us = contact.seen_us
    if seen_us is None:
        if contact.lapses_us <= now_us:
            return 0
        seen_us = contact.decided_us
    until_us = seen_us + rest.impression_us if rest.impression_us else 0
    if rest.dismiss_us and contact.answer in REFUSED and contact.answered_us is not None:
        return max(until_us, contact.answered_us + rest.dismiss_us)
    return until_us


def resting(history: ContactHistory, rest: Rest, now_us: int) -> list[str]:
    """The offers that rest now, by id: those with a contact whose `rested_at` is ahead; one may be named twice."""
    columns, since_us = history.columns, now_us - rest.impression_us
    refused = columns.refused if rest.dismiss_us else ()
    if rest.channels is None:
        found: list[str] = []
        if rest.impression_us and max(columns.rests_from_us, default=0) > since_us:
            each = zip(columns.offer_ids, columns.rests_from_us, columns.counts_until_us, strict=True)
            found = [name for name, from_us, until_us in each if from_us > since_us and until_us > now_us]
        return found + [one.offer_id for one in refused if rested_at(one, rest, now_us) > now_us] if refused else found
    asked = history.contacts if rest.impression_us else refused
    there = [one for one in asked if one.channel is None or one.channel in rest.channels]
    return [one.offer_id for one in there if rested_at(one, rest, now_us) > now_us]


class CooldownRule:
    name: ClassVar[str] = "cooldown"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._rests = rests_of(view.contact_policies)

    def allows(self, asked: Asked) -> Said:
        if not self._rests or (asked.history is not None and not asked.history.contacts):
            return None
        rests = [rest for rest in self._rests if rest.channels is None or asked.channel in rest.channels]
        if not rests:
            return None
        if asked.history is None:
            return np.zeros(len(self._view), dtype=bool)
        row_of = self._view.row
        found = [offer_id for rest in rests for offer_id in resting(asked.history, rest, asked.now_us)]
        return [row_of[offer_id] for offer_id in found if offer_id in row_of] or None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.history is None:
            return {"contacts": "could not be read"}
        offer_id = self._view.offers[row].offer_id
        for rest in self._rests:
            if rest.channels is not None and asked.channel not in rest.channels:
                continue
            for contact in reversed(asked.history.contacts):
                until_us = rested_at(contact, rest, asked.now_us)
                on_channel = rest.channels is None or contact.channel is None or contact.channel in rest.channels
                if contact.offer_id == offer_id and until_us > asked.now_us and on_channel:
                    last = contact.answer if contact.answer in REFUSED else "impression"
                    return {"contact_policy": rest.policy_id, "after": last, "until": from_us(until_us)}
        return {}
