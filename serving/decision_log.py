"""The row that the log keeps of a decision: the answer, and everything it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from serving.decision import Decision
from serving.drafting import Drafted, tuning_of
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition


def log_row(decision: Decision, attempt: Attempt, settings: Settings) -> bytes:
    """The decision's row of the log as JSON."""
    edition, question, known = attempt.edition, attempt.question, attempt.question.known
    request, customer = question.request, known.customer
    row = {
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "currency": decision.currency,
        "placements": [
            {"placement_id": answer.placement_id, "offers": _offers(answer.offers, drafted)}
            for answer, drafted in zip(decision.placements, attempt.draft.placements, strict=True)
        ],
        "policy": decision.policy,
        "policy_parameters": tuning_of(settings),
        "experiments": decision.experiments,
        "holdout": decision.holdout,
        "model_versions": decision.model_versions,
        "catalogue_version": edition.view.version,
        "feature_set": edition.customers.feature_set.digest,
        "degraded": decision.degraded,
        "redrawn": bool(attempt.lost),
        "lost": [sorted(lost) for lost in attempt.lost],
        "support": [_support(edition, drafted) for drafted in attempt.draft.placements],
        "segment": attempt.draft.segment,
        "p_churn": attempt.draft.p_churn,
        "learned_position": attempt.draft.placements[0].beliefs.position,
        "seed": str(question.seed),  # 64 bits do not fit a JSON number everywhere
        "request": {
            "placements": [{"placement_id": p.placement_id, "limit": p.limit} for p in request.placements],
            "channel": request.channel,
            "context": request.context,
            "exclude_offer_ids": sorted(request.exclude_offer_ids),
            "deadline_ms": request.deadline_ms,
        },
        "customer": {
            "customer_id": customer.customer_id,
            "refused": None if customer.refused is None else sorted(customer.refused),
            "consent": customer.consent,
            "attributes": customer.attributes,
            "muted_categories": sorted(customer.muted_categories),
            "less_like": sorted(customer.less_like),
            "time_zone": customer.time_zone,
        },
        "features": customer.features,  # NaN is written as null
        "snapshot_us": customer.snapshot_us,
        "offers_as_of_us": edition.offers_as_of_us,  # the instant of the offers' features
        "known": customer.known,
        "history": known.history,
        "stock": None if known.stock is None else edition.limits.seen_stock(known.stock),
    }
    return msgspec.json.encode(row)


def _offers(offers: Any, drafted: Drafted) -> list[dict[str, Any]]:
    found = []
    for answer, pick in zip(offers, drafted.picks, strict=True):
        one = msgspec.structs.asdict(answer)
        one["p_model"] = float(drafted.scores.p_model[pick.row])
        one["random"] = pick.random
        found.append(one)
    return found


def _support(edition: Edition, drafted: Drafted) -> dict[str, Any]:
    """How many offers were in the first draw, and how many each rule dropped."""
    names = edition.rules.names
    counts = np.bincount(drafted.dropped_by[drafted.dropped_by >= 0], minlength=len(names))
    dropped = {name: int(n) for name, n in zip(names, counts, strict=True) if n}
    return {"n_eligible": drafted.n_eligible, "n_in_draw": int(drafted.in_draw.sum()), "dropped": dropped}
