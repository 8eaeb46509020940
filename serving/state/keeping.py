"""Which of a customer's contacts are kept: all that a limit can still depend on, and the newest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from serving.state.contacts import Contact, Need, Needs

KEPT_US = 31 * 86_400_000_000  # also without a cap, so that one that is declared later has something to count
THINNED_ABOVE = 64
NEWEST = 32
FULL = 2_000  # who has so many contacts that matter is left alone: bounded, and yet no cap is broken
Scope = tuple[int, str | None]


def kept(contacts: Sequence[Contact], needs: Needs, now_us: int, settled_us: int) -> Sequence[Contact]:
    """Oldest first, as given. Claims that lapsed after `settled_us` may still be found to have been seen.

    A contact goes when it is older than every window, or when for each thing it counts for there are as many newer
    ones, seen for sure, as the highest limit: then no count can come out on another side of its limit.
    """
    since_us = now_us - max(needs.longest_us, KEPT_US)
    if len(contacts) <= THINNED_ABOVE:
        if not contacts or contacts[0].decided_us >= since_us:
            return contacts
        return [c for c in contacts if _last_us(c) >= since_us]
    newer: Counter[Scope] = Counter()
    found: list[Contact] = []
    for contact in reversed(contacts):
        if _last_us(contact) < since_us:
            continue
        scopes = list(_scopes(contact, needs))
        if len(found) >= NEWEST:
            if contact.seen_us is None and contact.lapses_us <= settled_us:
                continue
            refused = needs.refusals and contact.answer in ("dismiss", "reject")
            if not refused and all(newer[scope] >= most for scope, most in scopes):
                continue
        found.append(contact)
        if contact.seen_us is not None:
            newer.update(scope for scope, _ in scopes)
    found.reverse()
    return found


def _scopes(contact: Contact, needs: Needs) -> Iterator[tuple[Scope, int]]:
    """What the contact counts for, and how many of that matter."""
    for at, need in enumerate(needs.counted):
        if need.channels is not None and contact.channel is not None and contact.channel not in need.channels:
            continue
        if need.seen_only and contact.seen_us is None:
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
