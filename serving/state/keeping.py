"""Which of a customer's contacts are kept: all that a limit can still depend on, and the newest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from serving.rules.pause import Patience, run_of
from serving.state.contacts import Contact, Need, Needs

KEPT_US = 31 * 86_400_000_000  # also without a cap, so that one that is declared later has something to count
THINNED_ABOVE = 64
NEWEST = 32
FULL = 2_000  # who has so many contacts that matter is left alone: bounded, and yet no cap is broken
Scope = tuple[int, str | None]


def kept(contacts: Sequence[Contact], needs: Needs, now_us: int, settled_us: int) -> Sequence[Contact]:
    """Oldest first, as given. Claims that lapsed after `settled_us` may still be found to have been seen.

    A contact goes when it is older than every window, or when for each thing it counts for there are as many newer
    ones, seen for sure, as the highest limit: then no count can come out on another side of its limit. A pause counts
    runs, so what belongs to one that goes on stays, however old, and what stays although its run is over says so.
    """
    since_us = now_us - max(needs.longest_us, KEPT_US)
    many = len(contacts) > THINNED_ABOVE
    if not many and (not contacts or contacts[0].decided_us >= since_us):
        return contacts
    runs = _runs(contacts, needs, since_us, min(now_us, settled_us))
    last_seen = _last_seen(contacts, needs)
    newer: Counter[Scope] = Counter()
    found: list[Contact] = []
    for at in range(len(contacts) - 1, -1, -1):
        contact = contacts[at]
        if not any(at >= first and _in_run(contact, patience) for patience, first in runs):
            if _last_us(contact) < since_us:
                continue
            if many and len(found) >= NEWEST and not _counts(contact, needs, newer, last_seen, settled_us):
                continue
        over = tuple(
            patience.policy_id
            for patience, first in runs
            if at < first and contact.seen_us is not None and patience.policy_id not in contact.settled
        )
        found.append(msgspec.structs.replace(contact, settled=contact.settled + over) if over else contact)
        if contact.seen_us is not None:
            newer.update(scope for scope, _ in _scopes(contact, needs))
    found.reverse()
    return found


def _counts(
    contact: Contact, needs: Needs, newer: Mapping[Scope, int], last_seen: Mapping[Scope, int], settled_us: int
) -> bool:
    """Whether anything but a pause may still depend on the contact."""
    if contact.seen_us is None and contact.lapses_us <= settled_us:
        return False
    if needs.refusals and contact.answer in ("dismiss", "reject"):
        return True
    for scope, most in _scopes(contact, needs):
        if needs.counted[scope[0]].by_seen:
            if contact.seen_us is None or contact.seen_us >= last_seen[scope]:
                return True
        elif newer[scope] < most:
            return True
    return False


def _runs(contacts: Sequence[Contact], needs: Needs, since_us: int, now_us: int) -> list[tuple[Patience, int]]:
    """From which contact on each pause still counts; runs are closed where contacts may have to go, no sooner."""
    if not needs.patience:
        return []
    old = next((at for at in range(len(contacts), 0, -1) if _last_us(contacts[at - 1]) < since_us), 0)
    at_most = max(old, len(contacts) - NEWEST)
    return [(patience, run_of(contacts, patience, now_us, at_most).first) for patience in needs.patience]


def _in_run(contact: Contact, patience: Patience) -> bool:
    """Whether the pause looks at the contact at all."""
    if contact.seen_us is None or patience.policy_id in contact.settled:
        return False
    if patience.channels is not None and contact.channel is not None and contact.channel not in patience.channels:
        return False
    return patience.ignored > 0 or contact.answer != ""


def _last_seen(contacts: Sequence[Contact], needs: Needs) -> dict[Scope, int]:
    """By offer: an older decision may have been seen later."""
    found: dict[Scope, int] = {}
    if any(need.by_seen for need in needs.counted):
        for contact in contacts:
            if contact.seen_us is not None:
                for scope, _ in _scopes(contact, needs):
                    found[scope] = max(found.get(scope, 0), contact.seen_us)
    return found


def _scopes(contact: Contact, needs: Needs) -> Iterator[tuple[Scope, int]]:
    """What the contact counts for, and how many of that matter."""
    for at, need in enumerate(needs.counted):
        if need.channels is not None and contact.channel is not None and contact.channel not in need.channels:
            continue
        most = need.most if need.of_offers is None else need.of_offers.get(contact.offer_id, 0)
        if most:
            yield (at, _name(contact, need)), most


def _name(contact: Contact, need: Need) -> str | None:
    if need.of == "offer":
        return contact.offer_id
    if need.of == "category":  # one that is not known is that of the offer
        return contact.category if contact.category is not None else f"\x1f{contact.offer_id}"
    if need.of == "placement":
        return contact.placement_id
    return contact.channel if need.of == "channel" else None


def _last_us(contact: Contact) -> int:
    return max(contact.decided_us, contact.seen_us or 0, contact.answered_us or 0)
