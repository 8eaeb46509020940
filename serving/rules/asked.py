"""What a rule may look at besides the catalogue: the question for one placement, and all that is known of who asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any

from msgspec import Struct, field

from serving.state.contacts import ContactHistory, Stock


class Asked(Struct, frozen=True, kw_only=True, eq=False):
    """One placement of one request."""

    placement_id: str
    channel: str
    now_us: int
    decision_id: str = ""
    exclude_offer_ids: frozenset[str] = frozenset()
    refused: frozenset[str] | None = frozenset()  # keys of consent that are refused; None: could not be read
    muted_categories: frozenset[str] = frozenset()
    features: Mapping[str, Any] = field(default_factory=dict)  # of the customer, by name
    features_known: bool = True  # False: they could not be read, and are at their defaults
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the customer's profile
    consent: Mapping[str, bool] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)  # of the request, untyped
    history: ContactHistory | None = field(default_factory=ContactHistory)  # None: could not be read
    earlier: tuple[
        str, ...
    ] = ()  # offers picked in earlier placements of the same decision, which `history` also tells
    stock: Stock | None = field(default_factory=Stock)  # None: could not be read
    time_zone: tzinfo = UTC  # the customer's, else the deployment's
    uplift: float | None = None  # of a retention offer, in the chance that the customer stays; None: not known
