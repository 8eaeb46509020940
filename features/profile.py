"""What a customer has told us or is known by: attributes, consent, time zone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One customer as known now. Attribute values are numbers, strings, booleans or RFC 3339 times."""

    customer_id: str
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    consent: dict[str, bool] = msgspec.field(default_factory=dict)  # channel or `category_consent`; absent: not asked
    time_zone: str | None = None  # IANA name
    muted_categories: tuple[str, ...] = ()  # never to be shown, by the customer's wish
    less_like: tuple[str, ...] = ()  # offers of which the customer wants to see less
    updated_at: datetime | None = None  # UTC

    @property
    def refused(self) -> frozenset[str]:
        """The keys of consent that this customer refused."""
        return frozenset(key for key, given in self.consent.items() if not given)


def category_consent(category: str) -> str:
    """The key of consent for a category of offers; channels share the same map."""
    return f"category:{category}"
