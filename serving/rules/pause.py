"""A customer who ignored or rejected several offers in a row is left alone for a while."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import ContactPolicy
from features.events import from_us
from serving.rules.tally import Channels
from serving.rules.windows import parse_duration
from serving.state.contacts import Contact, ContactHistory
from serving.state.history import FOREVER

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class Patience(NamedTuple):
    """A policy's pause made ready. A number that is not set is 0 and never reached."""

    policy_id: str
    channels: Channels
    ignored: int
    rejected: int
    for_us: int
    least: int  # no pause is reached by fewer contacts


def patience_of(policies: Sequence[ContactPolicy]) -> tuple[Patience, ...]:
    return tuple(
        Patience(
            policy.policy_id,
            frozenset(policy.channels) or None,
            policy.pause_after.ignored or 0,
            policy.pause_after.rejected or 0,
            parse_duration(policy.pause_after.for_),
            min(n for n in (policy.pause_after.ignored, policy.pause_after.rejected) if n),
        )
        for policy in policies
        if policy.pause_after is not None and (policy.pause_after.ignored or policy.pause_after.rejected)
    )


def paused_until_us(history: ContactHistory, patience: Patience, now_us: int) -> int:
    """The end of the newest pause, past or to come; 0 if there was none."""
    contacts = history.contacts
    if len(contacts) < patience.least:
        return 0
    found: tuple[int, Run] | None = history.remembered.get(patience)
    if found is None or not found[0] <= now_us < found[1].changes_us:
        found = history.remembered[patience] = now_us, run_of(contacts, patience, now_us)
    return found[1].until_us


class Run(NamedTuple):
    """Where a customer stands with one policy's pause."""

    until_us: int  # the end of the newest pause; 0 if there was none
    first: int  # of the contacts before this one, none can change anything any more
    changes_us: int = FOREVER  # until then time alone does not move `until_us`


def run_of(contacts: Sequence[Contact], patience: Patience, now_us: int, at_most: int = 0) -> Run:
    """Contacts that were seen are gone through in order. One whose time is over without a yes was ignored, one that was
    dismissed or rejected counts for both numbers; a yes starts both counts anew, and so does the pause itself.

    `first` is where a run began, `at_most` or before: after all pauses that are over, before all that is still open.
    """
    policy_id, channels = patience.policy_id, patience.channels
    until_us = ignored = rejected = first = 0
    changes_us = FOREVER
    for at, contact in enumerate(contacts):
        if contact.settled and policy_id in contact.settled:
            continue
        if channels is not None and contact.channel is not None and contact.channel not in channels:
            continue
        answer = contact.answer
        if contact.seen_us is None:
            if contact.lapses_us > now_us:
                at_most = min(at, at_most)
            continue
        if answer == "positive":
            ignored = rejected = 0
            first = at + 1 if at < at_most else first
            continue
        if answer:
            ignored, rejected = ignored + 1, rejected + 1
            at_us = contact.answered_us or contact.seen_us
        else:
            at_us = max(contact.lapses_us, contact.seen_us)
            if at_us > now_us:
                at_most, changes_us = min(at, at_most), min(at_us, changes_us)
                continue  # there is time left to answer
            ignored += 1
        if ignored == patience.ignored or rejected == patience.rejected > 0:
            until_us = max(until_us, at_us + patience.for_us)
            ignored = rejected = 0
            if at_us + patience.for_us > now_us:
                at_most = first
            first = at + 1 if at < at_most else first
    return Run(until_us, first, changes_us)


class PauseRule:
    name: ClassVar[str] = "pause"

    def __init__(self, view: CatalogueView) -> None:
        self._view = view
        self._patience = patience_of(view.contact_policies)

    def allows(self, asked: Asked) -> NDArray[np.bool_] | None:
        for patience in self._patience:
            if patience.channels is not None and asked.channel not in patience.channels:
                continue
            if asked.history is None or paused_until_us(asked.history, patience, asked.now_us) > asked.now_us:
                return np.zeros(len(self._view), dtype=bool)
        return None

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        if asked.history is None:
            return {"contacts": "could not be read"}
        for patience in self._patience:
            if patience.channels is None or asked.channel in patience.channels:
                until_us = paused_until_us(asked.history, patience, asked.now_us)
                if until_us > asked.now_us:
                    return {"contact_policy": patience.policy_id, "paused_until": from_us(until_us)}
        return {}
