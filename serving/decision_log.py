"""The row that the log keeps of a decision: the answer, and everything it was made from."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.customer import CustomerNow
from serving.decision import Decision, DecisionRequest
from serving.edition import Edition
from serving.rules import RULES
from serving.settings import Settings


def support(allowed: NDArray[np.bool_], dropped_by: NDArray[np.int8]) -> dict[str, Any]:
    """How many offers were in the draw, and how many each rule dropped."""
    counts = np.bincount(dropped_by[dropped_by >= 0], minlength=len(RULES))
    dropped = {rule.name: int(n) for rule, n in zip(RULES, counts, strict=True) if n}
    return {"n_eligible": int(allowed.sum()), "dropped": dropped}


def log_row(
    decision: Decision,
    request: DecisionRequest,
    edition: Edition,
    customer: CustomerNow,
    support: list[dict[str, Any]],
    seed: int,
    settings: Settings,
) -> bytes:
    """The decision's row of the log as JSON: the answer, and everything it was made from."""
    row = {
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "currency": decision.currency,
        "placements": decision.placements,
        "policy": decision.policy,
        "policy_parameters": {"epsilon": settings.epsilon},
        "experiments": decision.experiments,
        "holdout": decision.holdout,
        "model_versions": decision.model_versions,
        "catalogue_version": edition.view.version,
        "feature_set": edition.customers.feature_set.digest,
        "degraded": decision.degraded,
        "redrawn": False,
        "support": support,
        "seed": str(seed),  # 64 bits do not fit a JSON number everywhere
        "request": {
            "placements": [{"placement_id": p.placement_id, "limit": p.limit} for p in request.placements],
            "channel": request.channel,
            "context": request.context,
            "exclude_offer_ids": sorted(request.exclude_offer_ids),
            "deadline_ms": request.deadline_ms,
        },
        "features": customer.features,  # NaN is written as null
        "snapshot_us": customer.snapshot_us,
        "offers_as_of_us": edition.offers_as_of_us,  # the instant of the offers' features
        "known": customer.known,
    }
    return msgspec.json.encode(row)
