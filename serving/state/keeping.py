"""Which of a customer's contacts are kept: all that a limit can still depend on, and the newest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from serving.state.contacts import Contact, Needs

KEPT_US = 31 * 86_400_000_000  # also without a cap, so that one that is declared later has something to count
THINNED_ABOVE = 64
NEWEST = 32
FULL = 2_000  # who has so many contacts that matter is left alone: bounded, and yet no cap is broken
Scope = tuple[str | None, ...]


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
        scopes = list(_scopes(contact, needs))
        if _last_us(contact) < since_us:
            continue
        if len(found) >= NEWEST:
            if contact.seen_us is None and contact.lapses_us <= settled_us:
                continue
            refused = bool(needs.of_offer) and contact.answer in ("dismiss", "reject")
            if not refused and all(newer[scope] >= most for scope, most in scopes):
                continue
        found.append(contact)
        if contact.seen_us is not None:
            newer.update(scope for scope, _ in scopes)
    found.reverse()
    return found


def _scopes(contact: Contact, needs: Needs) -> Iterator[tuple[Scope, int]]:
    """What the contact counts for, and how many of it matter; by channel, as policies count by channel."""
    channel = contact.channel
    if needs.of_offer:
        yield ("offer", contact.offer_id, channel), needs.of_offer
    if needs.of_category:
        yield (
            ("category", contact.category, contact.offer_id if contact.category is None else None, channel),
            (needs.of_category),
        )
    if needs.of_placement:
        yield ("placement", contact.placement_id, channel), needs.of_placement
    if needs.of_channel:
        yield ("channel", channel), needs.of_channel
    if needs.of_all:
        yield ("all", channel), needs.of_all


def _last_us(contact: Contact) -> int:
    return max(contact.decided_us, contact.seen_us or 0, contact.answered_us or 0)
