"""What an event of the log says about a contact: that it was seen, and how it was answered."""

from __future__ import annotations

from bisect import insort
from operator import attrgetter

import msgspec

from features.events import BY_NAME
from features.log import LogEvent
from serving.state.contacts import Answer, Contact

# An impression says nothing; a purchase, a click or an acceptance say yes; what is negative says which no it is.
ANSWERS: dict[str, Answer] = {
    "impression": "",
    "click": "positive",
    "accept": "positive",
    "purchase": "positive",
    "dismiss": "dismiss",
    "reject": "reject",
}
KEEPS = frozenset(name for name in ANSWERS if not BY_NAME[name].negative)  # stock, when it names the decision
DECIDED = attrgetter("decided_us")


def matters(event: LogEvent) -> bool:
    """Whether the event is about an offer that was shown."""
    return event.offer_id is not None and event.event_type in ANSWERS


def taken_in(contacts: list[Contact], event: LogEvent, room: bool = True) -> bool:
    """Write one event into a customer's contacts, oldest first; False if nothing changed. Without room none is added.

    Without a decision the event belongs to the newest contact with the offer; an impression only to one that nobody
    saw yet. An impression that belongs to none is a contact of its own, and so is what names an unknown decision and
    a no to an offer that nobody is known to have shown.
    """
    at = _found(contacts, event)
    if at is None:
        answer = ANSWERS[event.event_type]
        if not room or (event.decision_id is None and answer == "positive"):
            return False  # a click or a purchase elsewhere is no contact of ours
        insort(contacts, _unlinked(event), key=DECIDED)
        return True
    contact = contacts[at]
    changed = _answered(_seen(contact, event), event)
    contacts[at] = changed
    return changed is not contact


def lapsed_claim(contacts: list[Contact], event: LogEvent) -> Contact | None:
    """The claim that the event is the first to prove, and too late; None if there is no such one."""
    at = _found(contacts, event) if event.decision_id is not None else None
    if at is None or contacts[at].seen_us is not None or contacts[at].lapses_us > event.received_us:
        return None
    return contacts[at]


def _found(contacts: list[Contact], event: LogEvent) -> int | None:
    unseen_only = event.decision_id is None and event.event_type == "impression"
    for at in range(len(contacts) - 1, -1, -1):
        contact = contacts[at]
        if contact.offer_id != event.offer_id:
            continue
        if event.decision_id is not None:
            if contact.decision_id == event.decision_id:
                return at
        elif not unseen_only or (contact.seen_us is None and contact.lapses_us > event.received_us):
            return at
    return None


def _unlinked(event: LogEvent) -> Contact:
    at_us = min(event.occurred_us, event.received_us)
    contact = Contact(
        offer_id=event.offer_id or "",
        category=event.category,
        placement_id=event.placement_id,
        channel=event.channel,
        decision_id=event.decision_id,
        decided_us=at_us,
        lapses_us=at_us,
        seen_us=at_us,
    )
    return _answered(contact, event)


def _seen(contact: Contact, event: LogEvent) -> Contact:
    if contact.seen_us is not None:
        return contact
    late = event.received_us >= contact.lapses_us  # and stays recognisable: it was seen after it had lapsed
    at_us = event.received_us if late else max(contact.decided_us, min(event.occurred_us, event.received_us))
    return msgspec.structs.replace(contact, seen_us=at_us)


def _answered(contact: Contact, event: LogEvent) -> Contact:
    answer = ANSWERS[event.event_type]
    at_us = max(contact.decided_us, min(event.occurred_us, event.received_us))
    if not answer or (contact.answered_us is not None and contact.answered_us > at_us):
        return contact  # events come in any order, the last answer is the customer's
    return msgspec.structs.replace(contact, answer=answer, answered_us=at_us)
