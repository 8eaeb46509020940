"""The row that the log keeps of a decision: the answer, and everything it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.decision import Decision, OfferAnswer
from serving.drafting import Drafted, tuning_of
from serving.settings import Settings
from serving.state.contacts import Stock

if TYPE_CHECKING:
    from serving.decide import Attempt
    from serving.edition import Edition


STOCK_RULES = frozenset({"inventory", "budget", "pacing"})
_encoder = msgspec.json.Encoder()


class OfferRow(msgspec.Struct, frozen=True):
    """An offer as answered, with what only the log says of it."""

    rank: int
    offer_id: str
    treatment_id: str
    score: float
    p_accept: float
    selection_probability: float
    value: float
    reason_codes: tuple[str, ...]
    payload: dict[str, Any]
    is_fallback: bool
    p_model: float
    random: bool


class Counted(NamedTuple):
    """One placement's offers, counted."""

    dropped: dict[str, int]  # by rule
    n_in_draw: int
    out_of_stock: NDArray[np.int64]  # rows that a rule of the stock dropped


def log_row(decision: Decision, attempt: Attempt, settings: Settings) -> bytes:
    """The decision's row of the log as JSON."""
    edition, question, known = attempt.edition, attempt.question, attempt.question.known
    request, customer = question.request, known.customer
    counted = [_counted(edition.rules.names, drafted) for drafted in attempt.draft.placements]
    row = {
        "decision_id": decision.decision_id,
        "customer_id": decision.customer_id,
        "decided_at": decision.decided_at,
        "expires_at": decision.expires_at,
        "currency": decision.currency,
        "placements": [
            {"placement_id": answer.placement_id, "segment": drafted.segment, "offers": _offers(answer.offers, drafted)}
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
        "redrawn": attempt.n_draws > 1,  # a draw that follows another is chosen by what the other gave
        "lost": [sorted(lost) for lost in attempt.lost],
        "n_draws": attempt.n_draws,
        "support": [_support(*both) for both in zip(attempt.draft.placements, counted, strict=True)],
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
        "stock": None if known.stock is None else _exhausted(edition, known.stock, counted),
    }
    return _encoder.encode(row)


def _offers(offers: Sequence[OfferAnswer], drafted: Drafted) -> list[OfferRow]:
    p_model = drafted.scores.p_model
    return [
        OfferRow(
            one.rank,
            one.offer_id,
            one.treatment_id,
            one.score,
            one.p_accept,
            one.selection_probability,
            one.value,
            one.reason_codes,
            one.payload,
            one.is_fallback,
            p_model.item(pick.row),
            pick.random,
        )
        for one, pick in zip(offers, drafted.picks, strict=True)
    ]


def _exhausted(edition: Edition, stock: Stock, counted: Sequence[Counted]) -> dict[str, Any]:
    """Of the stock, what dropped an offer: all that a replay needs, as the others had enough."""
    rows = {row for one in counted if one.out_of_stock.size for row in one.out_of_stock.tolist()}
    names = [edition.view.offers[row].offer_id for row in sorted(rows)]
    levels = {name: stock.levels[name] for name in names if name in stock.levels}
    return {
        "levels": levels,
        "day": stock.day,
        "day_from_us": stock.day_from_us,
        "day_until_us": stock.day_until_us,
    }


def _support(drafted: Drafted, counted: Counted) -> Mapping[str, Any]:
    """How many offers were in the first draw, how many each rule dropped, and up to where in the log was learned."""
    return {
        "n_eligible": drafted.n_eligible,
        "n_in_draw": counted.n_in_draw,
        "dropped": counted.dropped,
        "learned_position": drafted.beliefs.position,
    }


def _counted(names: tuple[str, ...], drafted: Drafted) -> Counted:
    counts, rows = _count(drafted.dropped_by, drafted.in_draw, _of_stock(names))
    _, *dropped, n_in_draw = counts.tolist()
    return Counted({name: n for name, n in zip(names, dropped, strict=True) if n}, n_in_draw, rows)


@lru_cache(maxsize=16)
def _of_stock(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """No rule, then which of the rules ask the stock; (1 + n_rules,)."""
    return np.array([False, *(name in STOCK_RULES for name in names)], np.bool_)


@compiled
def _count(dropped_by, in_draw, of_stock):  # type: ignore[no-untyped-def]
    """How many offers no rule dropped, and each; then how many were in the draw. And the rows that were out of stock.

    Shapes (n_offers,), (n_offers,), (1 + n_rules,) -> (2 + n_rules,), (n_out_of_stock,). Loops without branches:
    whether a rule dropped an offer is anybody's guess, a processor's too.
    """
    counts = np.zeros(len(of_stock) + 1, np.int64)
    for rule in dropped_by:
        counts[np.uint8(rule + 1)] += 1
    n_in_draw = 0
    for one in in_draw:
        n_in_draw += one
    counts[-1] = n_in_draw
    n_out = 0
    for rule in range(len(of_stock)):
        n_out += counts[rule] * of_stock[rule]
    rows = np.empty(n_out + 1, np.int64)  # one more: each is written where the next one goes
    if n_out:
        n = 0
        for row in range(len(dropped_by)):
            rows[n] = row
            n += of_stock[dropped_by[row] + 1]
    return counts, rows[:n_out]


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    _count(np.full(2, -1, np.int8), np.zeros(2, np.bool_), np.zeros(2, np.bool_))
