"""The words of a decision: what is asked, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from features.log import Exposure


class PlacementRequest(msgspec.Struct, frozen=True):
    placement_id: str
    limit: int  # 1 to 100; the placement's own max_offers also holds


class DecisionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `customer_id` is a visitor key, see `features.events.visitor_key`."""

    customer_id: str
    placements: tuple[PlacementRequest, ...]
    channel: str | None = None  # None: each placement's own
    context: Mapping[str, Any] = {}
    exclude_offer_ids: frozenset[str] = frozenset()
    deadline_ms: int = 100
    explain: bool = False
    dry_run: bool = False


class OfferAnswer(msgspec.Struct, frozen=True, kw_only=True):
    rank: int  # from 1, within its placement
    offer_id: str
    treatment_id: str
    score: float
    p_accept: float
    selection_probability: float  # of this offer at this rank, given the ranks above; 1 where overridden
    value: float
    reason_codes: tuple[str, ...]
    payload: dict[str, Any]
    is_fallback: bool = False


class PlacementAnswer(msgspec.Struct, frozen=True, kw_only=True):
    placement_id: str
    offers: tuple[OfferAnswer, ...]


class Met(msgspec.Struct, frozen=True):
    """A variant that the customer met."""

    experiment_id: str
    variant: str
    phase: int
    is_control: bool


class Degraded(msgspec.Struct, frozen=True):
    code: str
    action: str


class OfferWhy(NamedTuple):
    """Why one offer was shown."""

    factors: dict[str, Any]
    reasons: tuple[str, ...]  # sentences, in the order of the reason codes


class PlacementWhy(NamedTuple):
    """Why, of each offer shown in rank order, and why not, of every other offer."""

    offers: tuple[OfferWhy, ...]
    not_offered: tuple[dict[str, Any], ...]  # offer_id with rank, or with rule and seen


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `log_payload` is the row of the log: the answer with all that replay needs."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    expires_at: datetime
    currency: str
    placements: tuple[PlacementAnswer, ...]
    policy: str
    model_versions: dict[str, str | None]
    degraded: tuple[Degraded, ...] = ()
    experiments: tuple[Met, ...] = ()
    holdout: bool = False
    explanation: tuple[PlacementWhy, ...] | None = None  # one per placement, if it was asked for
    exposures: tuple[Exposure, ...] = ()  # for the log
    log_payload: bytes = b""
