"""The row that the log keeps of a decision: the answer, and everything it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from serving.decision import Decision
from serving.drafting import Drafted, tuning_of
from serving.rules import drops
from serving.settings import Settings
from serving.state.contacts import Stock

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition


STOCK_RULES = frozenset({"inventory", "budget", "pacing"})


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
        "inputs": edition.inputs,  # by digest, see `serving/inputs.py`
        "degraded": decision.degraded,
        "redrawn": bool(attempt.lost),
        "lost": [sorted(lost) for lost in attempt.lost],
        "n_draws": attempt.n_draws,
        "support": [_support(edition, drafted) for drafted in attempt.draft.placements],
        "segment": attempt.draft.segment,
        "p_churn": attempt.draft.p_churn,
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
        "stock": None if known.stock is None else _exhausted(edition, known.stock, attempt.draft.placements),
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


def _exhausted(edition: Edition, stock: Stock, placements: Sequence[Drafted]) -> dict[str, Any]:
    """Of the stock, what dropped an offer: all that a replay needs, as the others had enough."""
    of_stock = [index for index, name in enumerate(edition.rules.names) if name in STOCK_RULES]
    rows: set[int] = set()
    for one in placements:
        n_dropped = drops(one.dropped_by, len(edition.rules.names))
        for index in of_stock:
            if n_dropped[index]:
                rows.update(np.flatnonzero(one.dropped_by == index).tolist())
    names = [edition.view.offers[row].offer_id for row in sorted(rows)]
    levels = {name: stock.levels[name] for name in names if name in stock.levels}
    day = {"day": stock.day, "day_from_us": stock.day_from_us, "day_until_us": stock.day_until_us}
    return {"levels": levels, **day}


def _support(edition: Edition, drafted: Drafted) -> dict[str, Any]:
    """How many offers were in the first draw, how many each rule dropped, and up to where in the log was learned."""
    names = edition.rules.names
    dropped = {name: n for name, n in zip(names, drops(drafted.dropped_by, len(names)), strict=True) if n}
    n_in_draw, learned = int(np.count_nonzero(drafted.in_draw)), drafted.beliefs.position
    return {"n_eligible": drafted.n_eligible, "n_in_draw": n_in_draw, "dropped": dropped, "learned_position": learned}
