"""One customer's contacts, and what is worked out about them once: attributes as columns, and what rules remember.

Most decisions ask a history of some dozen contacts whether anything in it is near a limit. A column answers that by
one pass over plain numbers or names; and as a claim only adds to a history, the columns of the longer one are those of
the shorter one and a few more values.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from sys import maxsize
from typing import Any, Literal

import msgspec

Answer = Literal["", "positive", "dismiss", "reject"]
FOREVER = maxsize
REFUSED = ("dismiss", "reject")


class Contact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One offer shown, or about to be shown, to one customer."""

    offer_id: str
    category: str | None
    placement_id: str | None
    channel: str | None
    decision_id: str | None  # None: an impression that names no decision
    decided_us: int
    lapses_us: int  # the claim counts until then, unless it was seen
    seen_us: int | None = None  # of the first event that proves the contact
    answer: Answer = ""  # the last one
    answered_us: int | None = None
    settled: tuple[str, ...] = ()  # policies whose pause has counted it for good: their runs began anew after it


OFFER, DECIDED = attrgetter("offer_id"), attrgetter("decided_us")
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(tuple[Contact, ...]).decode
FEW = 12  # columns of fewer contacts are made anew as soon as they are carried on


class Columns:
    """Attributes of contacts, each a list of shape (n_contacts,), in µs; but `refused`."""

    __slots__ = ("_most_alike", "counts_until_us", "decided_us", "offer_ids", "refused", "rests_from_us")

    def __init__(self, contacts: Sequence[Contact], before: Columns | None = None) -> None:
        """Of these contacts, or of them behind those that are columns already."""
        self.offer_ids = list(map(OFFER, contacts))
        self.decided_us = list(map(DECIDED, contacts))  # ascending
        # What was seen counts for good, a claim until it lapses.
        self.counts_until_us = [c.lapses_us if c.seen_us is None else FOREVER for c in contacts]
        # An offer rests from when it was seen; one that is only claimed, from the decision.
        self.rests_from_us = [c.decided_us if c.seen_us is None else c.seen_us for c in contacts]
        self.refused = [c for c in contacts if c.answer and c.answer in REFUSED]  # shape (n_refused,)
        self._most_alike = 0
        if before is not None:
            self.offer_ids = before.offer_ids + self.offer_ids
            self.decided_us = before.decided_us + self.decided_us
            self.counts_until_us = before.counts_until_us + self.counts_until_us
            self.rests_from_us = before.rests_from_us + self.rests_from_us
            self.refused = before.refused + self.refused

    @property
    def most_alike(self) -> int:
        """No offer has more contacts than this: so many different ones leave no room for one that often."""
        if not self._most_alike:
            self._most_alike = len(self.offer_ids) - len(set(self.offer_ids)) + 1
        return self._most_alike


class ContactHistory(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One customer's contacts as far back as any window reaches, oldest first."""

    contacts: tuple[Contact, ...] = ()

    @property
    def columns(self) -> Columns:
        found: Columns | None = self.__dict__.get("columns")
        if found is None:
            found = self.__dict__["columns"] = Columns(self.contacts)
        return found

    @classmethod
    def unpacked(cls, packed: bytes) -> ContactHistory:
        """What `packed` is of."""
        history = cls(decode(packed))
        history.__dict__["packed"] = packed
        return history

    @property
    def packed(self) -> bytes:
        """The contacts as MessagePack: an array of arrays."""
        found: bytes | None = self.__dict__.get("packed")
        if found is None:
            found = self.__dict__["packed"] = encode(self.contacts)
        return found

    @property
    def remembered(self) -> dict[Any, Any]:
        """What rules keep about contacts that were seen."""
        found: dict[Any, Any] | None = self.__dict__.get("remembered")
        if found is None:
            found = self.__dict__["remembered"] = {}
        return found

    def claiming(self, contacts: Sequence[Contact]) -> ContactHistory:
        """The history with claims that nobody has seen yet, decided last."""
        longer = ContactHistory((*self.contacts, *contacts))
        known = self.__dict__
        if "remembered" in known:
            longer.__dict__["remembered"] = known["remembered"]
        if "packed" in known:
            before = known["packed"][len(_head(len(self.contacts))) :]
            longer.__dict__["packed"] = b"".join((_head(len(longer.contacts)), before, *map(encode, contacts)))
        if "columns" in known and len(self.contacts) >= FEW:
            longer.__dict__["columns"] = Columns(contacts, known["columns"])
        return longer


def _head(n: int) -> bytes:
    """How MessagePack begins an array of `n`."""
    if n < 16:
        return bytes((0x90 | n,))
    return b"\xdc" + n.to_bytes(2, "big") if n < 65_536 else b"\xdd" + n.to_bytes(4, "big")
