"""A decision as the caller gets it, and its way into the log: the same for every route that decides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from features.events import is_anonymous, to_us
from features.log import DecisionRow
from serving.api.service import Service
from serving.decision import Decision

LOG_DELAYED = ("log_delayed", "the decision waits in memory for the log")


def answer_dict(service: Service, decision: Decision, also_degraded: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The answer; its values are plain or structs, see `encoded`."""
    degraded = [{"code": one.code, "action": one.action} for one in decision.degraded]
    late = (LOG_DELAYED,) if service.log.delayed_s > 0 else ()
    for code, action in (*also_degraded, *late):
        degraded.append({"code": code, "action": action})
        service.meter.degraded(code)
    return {
        "decision_id": decision.decision_id,
        **visitor(decision.customer_id),
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "currency": decision.currency,
        "placements": decision.placements if decision.explanation is None else _explained(decision),
        "policy": decision.policy,
        "experiments": decision.experiments,
        "holdout": decision.holdout,
        "model_versions": decision.model_versions,
        "degraded": degraded,
    }


def _explained(decision: Decision) -> list[dict[str, Any]]:
    assert decision.explanation is not None
    return [
        {
            "placement_id": placement.placement_id,
            "offers": [
                {**msgspec.structs.asdict(offer), "factors": one.factors, "reasons": one.reasons}
                for offer, one in zip(placement.offers, why.offers, strict=True)
            ],
            "not_offered": why.not_offered,
        }
        for placement, why in zip(decision.placements, decision.explanation, strict=True)
    ]


def encoded(answer: Any) -> bytes:
    """As JSON; times in UTC with a Z."""
    return msgspec.json.encode(answer)


def answer_bytes(service: Service, decision: Decision) -> bytes:
    return encoded(answer_dict(service, decision))


def visitor(key: str) -> dict[str, str | None]:
    """Who asked, by the names of the contract."""
    return {"customer_id": None, "anonymous_id": key[1:]} if is_anonymous(key) else {"customer_id": key}


def submit(service: Service, decision: Decision) -> Future[list[bool]] | None:
    """Hands the decision's row to the log, which has it within 50 ms. Resolves when it is on disk, where decisions are
    answered only then; None where nobody waits.
    """
    decided_us = to_us(decision.decided_at)
    row = DecisionRow(
        decision.decision_id,
        decision.customer_id,
        decided_us,
        decision.log_payload,
        exposures=decision.exposures,
    )
    if service.settings.durable_decisions:
        return service.log.submit_decisions([row])
    service.log.hand_over(row)
    return None
