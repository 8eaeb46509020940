"""What may be offered, where, how often, and with what weight: offers, placements, contact policies, levers."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import msgspec

SAVE_RATE = "save_rate"  # the attribute of an offer that says what share of leaving customers it keeps
OBJECT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
Status = Literal["draft", "approved", "archived"]
CapOf = Literal["offer", "category", "placement", "channel", "all"]


class Treatment(msgspec.Struct, frozen=True, kw_only=True):
    """One creative of an offer. Empty channels or placements: all."""

    treatment_id: str
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    channels: tuple[str, ...] = ()
    placements: tuple[str, ...] = ()


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one impression, or one acceptance, takes out of the offer's budget; in the deployment's currency."""

    amount: float
    per: Literal["impression", "accept"]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Money that an offer may cost, over its life or on each day of the deployment's time zone."""

    amount: float
    per: Literal["day", "total"]


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """At most `limit` contacts of one customer within a window: with this offer, its category, this placement, all."""

    limit: int
    window: str  # "Nh" or "Nd" slide; calendar_day, calendar_week, calendar_month in the customer's time zone
    of: CapOf = "offer"
    per: Literal["customer"] = "customer"


class Cooldown(msgspec.Struct, frozen=True, kw_only=True):
    """How long an offer rests for a customer; durations as "Nm", "Nh" or "Nd"."""

    impression: str | None = None
    dismiss: str | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A customer who ignored or rejected that many contacts in a row is left alone for `for_`."""

    for_: str = msgspec.field(name="for")
    ignored: int | None = None
    rejected: int | None = None


class ContactPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often a customer may be contacted on some channels. Empty channels: all."""

    policy_id: str
    name: str
    channels: tuple[str, ...] = ()
    caps: tuple[Cap, ...] = ()
    cooldown: Cooldown | None = None
    pause_after: Pause | None = None
    quiet_hours: tuple[str, str] | None = None  # "HH:MM" from, until; in the customer's time zone


class Lever(msgspec.Struct, frozen=True, kw_only=True):
    """A business weight: offers that `where` holds for count `factor` times as much."""

    lever_id: str
    name: str
    factor: float
    reason: str
    where: str | None = None  # a rule, see features/language; None: all offers
    starts_at: datetime | None = None  # UTC, inclusive
    ends_at: datetime | None = None  # UTC, exclusive


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Something a customer may accept. `value` is the expected margin of one acceptance, before cost."""

    offer_id: str
    name: str
    value: float
    currency: str
    treatments: tuple[Treatment, ...]
    category: str | None = None
    status: Status = "draft"
    starts_at: datetime | None = None  # UTC, inclusive
    ends_at: datetime | None = None  # UTC, exclusive
    channels: tuple[str, ...] = ()
    placements: tuple[str, ...] = ()
    priority: int = 0
    retention: bool = False
    eligibility: str | None = None  # a rule; None: everybody
    cost: Cost | None = None
    inventory: int | None = None  # units over the offer's life; None: endless
    budget: Budget | None = None
    caps: tuple[Cap, ...] = ()
    pacing: bool = False  # spread the day's budget over the day
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A slot on a page or in a channel."""

    placement_id: str
    name: str
    channel: str
    max_offers: int = 10
    fallback_offer_id: str | None = None
    guaranteed_offer_ids: tuple[str, ...] = ()
    max_per_category: int | None = None
    max_per_brand: int | None = None  # brand: the offer's attribute `brand`
