"""The row that the log keeps of a decision: the answer, and everything it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from serving.counting import Counted
from serving.decision import Decision, DecisionRequest, Degraded, OfferAnswer, PlacementAnswer, PlacementRequest
from serving.drafting import Drafted, tuning_of
from serving.policies.outlook import Tuning
from serving.state.contacts import ContactHistory, Level, Stock

if TYPE_CHECKING:
    from serving.answer import Answered
    from serving.decide import Attempt
    from serving.edition import Edition

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


class PlacementRow(msgspec.Struct, frozen=True):
    placement_id: str
    segment: str
    offers: list[OfferRow]


class EntryRow(msgspec.Struct, frozen=True):
    """A variant that was met, and by which unit."""

    experiment_id: str
    variant: str
    phase: int
    is_control: bool
    unit_id: str


class Asked(msgspec.Struct, frozen=True):
    """The request."""

    placements: tuple[PlacementRequest, ...]
    channel: str | None
    context: Mapping[str, Any]
    exclude_offer_ids: list[str]
    deadline_ms: int


class Customer(msgspec.Struct, frozen=True):
    customer_id: str
    refused: list[str] | None
    consent: Mapping[str, bool]
    attributes: Mapping[str, Any]
    muted_categories: list[str]
    less_like: list[str]
    time_zone: str | None


class Support(msgspec.Struct, frozen=True):
    """How many offers were in the first draw, how many each rule dropped, and up to where in the log was learned."""

    n_eligible: int
    n_in_draw: int
    dropped: dict[str, int]
    learned_position: int


class StockRow(msgspec.Struct, frozen=True):
    """Of the stock, what dropped an offer: all that a replay needs, as the others had enough."""

    levels: dict[str, Level]
    day: str
    day_from_us: int
    day_until_us: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a row, in order."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    expires_at: datetime
    currency: str
    placements: list[PlacementRow]
    policy: str
    policy_parameters: Tuning
    experiments: list[EntryRow]
    holdout: bool
    holdout_entry: EntryRow | None  # None: there was no holdout
    levers_off: list[str]  # named by an experiment, but not by a variant that was met here
    treatments: Mapping[str, str]  # that a variant asked for, by offer
    unit_id: str | None  # what experiments split by; None: the customer_id
    model_versions: dict[str, str | None]
    catalogue_version: int
    feature_set: str
    inputs: Mapping[str, str]  # by digest, see `serving/inputs.py`
    degraded: tuple[Degraded, ...]
    redrawn: bool  # a draw that follows another is chosen by what the other gave
    lost: list[list[str]]
    n_draws: int
    support: list[Support]
    p_churn: float | None
    seed: str  # 64 bits do not fit a JSON number everywhere
    request: Asked
    customer: Customer
    features: Mapping[str, Any]  # NaN is written as null
    snapshot_us: int | None
    offers_as_of_us: int  # the instant of the offers' features
    known: bool
    history: ContactHistory | None
    stock: StockRow | None
    latency_us: int | None  # from the question read to this row made


class NothingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Of a decision that could not be made: what was asked and answered; the fields of `Row` that there are."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    expires_at: datetime
    currency: str
    placements: list[PlacementRow]
    policy: str
    experiments: list[EntryRow]
    holdout: bool
    model_versions: Mapping[str, str | None]
    catalogue_version: int
    degraded: tuple[Degraded, ...]
    redrawn: bool = False
    n_draws: int = 0  # nothing was drawn, so there is nothing to draw again
    request: Asked


def nothing_row(decision: Decision, request: DecisionRequest, catalogue_version: int) -> bytes:
    """The row of the log of an answer with nothing, as JSON."""
    return _encoder.encode(
        NothingRow(
            decision_id=decision.decision_id,
            customer_id=decision.customer_id,
            decided_at=decision.decided_at,
            expires_at=decision.expires_at,
            currency=decision.currency,
            placements=[PlacementRow(one.placement_id, "", []) for one in decision.placements],
            policy=decision.policy,
            experiments=[],
            holdout=False,
            model_versions=decision.model_versions,
            catalogue_version=catalogue_version,
            degraded=decision.degraded,
            request=_asked(request),
        )
    )


def _asked(request: DecisionRequest) -> Asked:
    return Asked(
        request.placements,
        request.channel,
        request.context,
        sorted(request.exclude_offer_ids),
        request.deadline_ms,
    )


def log_row(answered: Answered, attempt: Attempt, counted: Sequence[Counted]) -> bytes:
    """The decision's row of the log as JSON; `counted` per placement."""
    arm, question, known = attempt.arm, attempt.question, attempt.question.known
    edition, settings, assigned = arm.edition, arm.settings, arm.assigned
    request, customer, drafted = question.request, known.customer, attempt.draft.placements
    return _encoder.encode(
        Row(
            decision_id=question.decision_id,
            customer_id=request.customer_id,
            decided_at=question.now,
            expires_at=answered.expires_at,
            currency=answered.currency,
            placements=[_placement(*both) for both in zip(answered.placements, drafted, strict=True)],
            policy=settings.policy,
            policy_parameters=tuning_of(settings),
            experiments=[EntryRow(*one) for one in assigned.entries],
            holdout=assigned.holdout,
            holdout_entry=None if assigned.holdout_entry is None else EntryRow(*assigned.holdout_entry),
            levers_off=sorted(assigned.levers_off),
            treatments=assigned.treatments,
            unit_id=customer.unit_id,
            model_versions=answered.model_versions,
            catalogue_version=edition.view.version,
            feature_set=edition.customers.feature_set.digest,
            inputs=edition.inputs,
            degraded=answered.degraded,
            redrawn=attempt.n_draws > 1,
            lost=[sorted(lost) for lost in attempt.lost],
            n_draws=attempt.n_draws,
            support=[_support(*both) for both in zip(drafted, counted, strict=True)],
            p_churn=attempt.draft.p_churn,
            seed=str(question.seed),
            request=_asked(request),
            customer=Customer(
                customer.customer_id,
                None if customer.refused is None else sorted(customer.refused),
                customer.consent,
                customer.attributes,
                sorted(customer.muted_categories),
                sorted(customer.less_like),
                customer.time_zone,
            ),
            features=customer.features,
            snapshot_us=customer.snapshot_us,
            offers_as_of_us=edition.offers_as_of_us,
            known=customer.known,
            history=known.history,
            stock=None if known.stock is None else _exhausted(edition, known.stock, counted),
            latency_us=attempt.latency_us,
        )
    )


def _placement(answer: PlacementAnswer, drafted: Drafted) -> PlacementRow:
    return PlacementRow(answer.placement_id, drafted.segment, _offers(answer.offers, drafted))


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


def _exhausted(edition: Edition, stock: Stock, counted: Sequence[Counted]) -> StockRow:
    levels: dict[str, Level] = {}
    rows = {row for one in counted if one.out_of_stock.size for row in one.out_of_stock.tolist()}
    for row in sorted(rows):
        name = edition.view.offers[row].offer_id
        if name in stock.levels:
            levels[name] = stock.levels[name]
    return StockRow(levels, stock.day, stock.day_from_us, stock.day_until_us)


def _support(drafted: Drafted, counted: Counted) -> Support:
    return Support(drafted.n_eligible, counted.n_in_draw, counted.dropped, drafted.beliefs.position)
