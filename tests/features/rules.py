"""Builders for tests of rules: who asks, and about which offer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from features.catalogue import Offer

NOW_US = 1_785_000_000_000_000  # 2026-07-25 17:20 UTC


def scope(
    features: Any = None, attributes: Any = None, consent: Any = None, context: Any = None, now_us: int = NOW_US
) -> Any:
    return SimpleNamespace(
        features=features or {},
        attributes=attributes or {},
        consent=consent or {},
        context=context or {},
        now_us=now_us,
    )


def offer(**changes: Any) -> Offer:
    known = {"offer_id": "o", "name": "n", "value": 1.0, "currency": "EUR", "treatments": ()}
    return Offer(**{**known, **changes})
