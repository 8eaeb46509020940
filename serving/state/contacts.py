"""What counts against caps and budgets: contacts of each customer, stock of each offer, and claims on both.

`Contacts` is the promise (held by tests/contracts/test_contacts_*.py); `sqlite_contacts.py` is the embedded default.
A decision claims what it is about to show; the impression keeps the claim, and without one it lapses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from serving.state.history import Answer, Contact, ContactHistory

if TYPE_CHECKING:
    from features.log import Log
    from serving.rules.pause import Patience

__all__ = ["Answer", "Contact", "ContactHistory"]


class Level(NamedTuple):
    """What one offer has used."""

    units: int = 0  # kept and claimed, over its life
    spent: float = 0.0  # money kept and claimed, over its life
    spent_today: float = 0.0  # of that, on the deployment's present day


class Stock(NamedTuple):
    """Levels by offer id, of offers that are limited; an offer without an entry has used nothing."""

    levels: Mapping[str, Level] = {}
    day: str = ""  # YYYY-MM-DD of `spent_today`, in the deployment's time zone
    day_from_us: int = 0  # that day is [day_from_us, day_until_us)
    day_until_us: int = 0
    # What lets a reader follow: of two stocks with the same `lineage` (the same object) and day, the levels differ at
    # most for the offers that the last `version - other.version` of `moves` name.
    lineage: object = None  # None: nothing is known of another stock
    version: int = 0
    moves: tuple[tuple[str, ...], ...] = ()  # offers that moved to each version, the newest last; not all versions


class Claimed(NamedTuple):
    """One offer that a decision is about to show."""

    row: int  # in the edition that decided
    offer_id: str
    category: str | None
    placement_id: str
    channel: str


class Claim(NamedTuple):
    """All that one decision is about to show: reserved together or not at all."""

    decision_id: str
    customer_id: str
    decided_us: int
    lapses_us: int
    picks: tuple[Claimed, ...]
    time_zone: tzinfo = UTC  # the customer's, else the deployment's: of calendar windows


class Take(NamedTuple):
    """What one contact with a limited offer uses up, and of how much. Money in millionths of the currency."""

    units: int = 0
    micros: int = 0
    per_accept: bool = False  # the money is due at the acceptance; else at the impression
    inventory: int | None = None  # units over the offer's life; None: endless
    budget: int | None = None  # micros; None: endless
    daily: bool = False  # the budget is for one day
    paced: bool = False
    attributes: Mapping[str, Any] = {}  # of the offer: one may say how long an acceptance is waited for


class Need(NamedTuple):
    """Contacts that some limit counts: of each offer, category, … the newest `most` decide about it."""

    of: Literal["offer", "category", "placement", "channel", "all"]
    most: int
    channels: frozenset[str] | None = None  # None: all
    of_offers: Mapping[str, int] | None = None  # offer id -> most, where each has its own; None: `most`
    by_seen: bool = False  # those seen last decide, whenever they were decided


class Needs(NamedTuple):
    """What of a customer's contacts the limits may ever look at."""

    longest_us: int = 0  # the longest window
    counted: tuple[Need, ...] = ()
    refusals: bool = False  # a dismissal counts, however many contacts came after it
    patience: tuple[Patience, ...] = ()  # pauses count runs of contacts, from where the last run ended


class Limits(Protocol):
    """What the catalogue allows, as the transaction checks it; made per edition, see `serving/rules/limits.py`."""

    needs: Needs

    def take(self, offer_id: str) -> Take | None:
        """What a contact with this offer uses up; None if the offer is not limited."""
        ...

    def broken(self, claim: Claim, history: ContactHistory, stock: Stock) -> Sequence[Claimed]:
        """The picks that may not be made after all; empty if the claim stands as a whole."""
        ...


class Contacts(Protocol):
    """Safe to share between threads and processes; `StoreUnavailable` when it does not answer."""

    def histories(self, customer_ids: Sequence[str]) -> list[ContactHistory]: ...

    def stock(self, now_us: int) -> Stock:
        """Levels of all limited offers, those of other processes included; cheap enough for every 50 ms."""
        ...

    def claim(self, claims: Sequence[Claim], limits: Limits) -> list[Sequence[Claimed]]:
        """One transaction for all; per claim the picks that were lost, in which case none of it is reserved."""
        ...

    def cancel(self, decision_ids: Sequence[str]) -> None:
        """Give back what these decisions claimed: their answer was never handed out."""
        ...

    def catch_up(self, log: Log, limits: Limits | None = None) -> int:
        """Take in what the log received since the last time, exactly once; how many events. A late one takes stock if
        some is left of the total that the limits say; without limits, of the one at the offer's last claim.

        Cheap when there is nothing new, so that it may precede every read. What lapsed is given back here, after the
        log was read: an event that was logged in time is never too late.
        """
        ...

    def keep_house(self, log: Log, limits: Limits | None = None) -> None:
        """Catch up and forget what is over; for a thread that nobody waits for, every second or so."""
        ...

    def join(self, from_id: str, to_id: str) -> int:
        """The first customer's contacts are the second's from now on, later ones too; how many there were."""
        ...

    def erase(self, customer_id: str) -> int:
        """Forget this customer; how many contacts were forgotten. What offers used stays used."""
        ...

    def close(self) -> None: ...
