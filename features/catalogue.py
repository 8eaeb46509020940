"""What may be offered, and where: offers with their treatments, and placements."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import msgspec

OBJECT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
Status = Literal["draft", "approved", "archived"]


class Treatment(msgspec.Struct, frozen=True, kw_only=True):
    """One creative of an offer. Empty channels or placements: all."""

    treatment_id: str
    payload: dict[str, Any] = msgspec.field(default_factory=dict)
    channels: tuple[str, ...] = ()
    placements: tuple[str, ...] = ()


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
