"""Guardrails: limits that a variant must not break whatever else it gains, with an alarm that may go off at any look.

A limit r on the relative change is a question about one difference, variant - (1 + r) * control, whose confidence
sequence is watched: beyond zero on the bad side is an alarm, beyond it on the good side is safety, else it is open.
No ratio is formed, so that a small control does no harm, and a control of 0 neither: what cannot be negative may then
not be above 0 at all, and whatever is so for sure is an alarm. Guardrails are not corrected for each other: of two
errors, the false alarm is the cheaper.

Source: the confidence sequence of `confidence_sequence.py`; Fieller 1954 for asking about the linear difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from experiments.statistics.confidence_sequence import UNPLANNED_UNITS, multiplier
from experiments.statistics.effect import Effect
from experiments.statistics.reasons import why_unknown
from experiments.statistics.sequential import FEWEST_UNITS, Seen
from features.experiment import Guardrail

State = Literal["alarm", "safe", "open", "unknown"]


class Guarded(msgspec.Struct, frozen=True, kw_only=True):
    """One limit on one variant as of the last look; `alarm_at` is the first look at which it was broken for sure."""

    metric: str
    variant: str
    limit: float  # relative change
    side: Literal["max", "min"]
    state: State
    relative: float | None = None  # what is seen now
    level_control: float | None = None  # what it is a change of
    level_variant: float | None = None
    beyond: bool | None = None  # whether what is seen now is beyond the limit, for sure or not
    alarm_at: datetime | None = None
    flags: tuple[str, ...] = ()


def guard(
    guardrail: Guardrail,
    seen: Sequence[Seen],
    *,
    alpha: float = 0.05,
    planned_units: int | None = None,
    signed: bool = False,
) -> list[Guarded]:
    """One result for each limit that the guardrail names, of looks in the order of time.

    `signed`: the metric may be negative, so that a change relative to a control at or below 0 means nothing.
    """
    limits: list[tuple[Literal["max", "min"], float | None]] = [
        ("max", guardrail.max_relative),
        ("min", guardrail.min_relative),
    ]
    return [_guarded(side, limit, seen, alpha, planned_units, signed) for side, limit in limits if limit is not None]


def _guarded(
    side: Literal["max", "min"],
    limit: float,
    seen: Sequence[Seen],
    alpha: float,
    planned: int | None,
    signed: bool,
) -> Guarded:
    effect = seen[-1].effect
    states = [(at, *_state(side, limit, n, one, alpha, planned, signed)) for at, n, one, _ in seen]
    alarm_at = next((at for at, state, _, _ in states if state == "alarm"), None)
    _, state, beyond, why = states[-1]
    return Guarded(
        metric=effect.metric,
        variant=effect.variant,
        limit=limit,
        side=side,
        state="alarm" if alarm_at is not None else state,
        relative=effect.relative,
        level_control=effect.estimate_control,
        level_variant=effect.estimate_variant,
        beyond=beyond,
        alarm_at=alarm_at,
        flags=() if why is None else (why,),
    )


def _state(
    side: Literal["max", "min"],
    limit: float,
    n: int,
    effect: Effect,
    alpha: float,
    planned: int | None,
    signed: bool,
) -> tuple[State, bool | None, str | None]:
    """The state, whether the estimate is beyond the limit, and why nothing can be said if so."""
    control, variant = effect.estimate_control, effect.estimate_variant
    if effect.absolute is None or control is None or variant is None or effect.variances is None:
        return "unknown", None, why_unknown(effect)
    if signed and control <= 0:
        return "unknown", None, "control is not above 0: a relative limit says nothing"
    bad = (variant - (1 + limit) * control) * (1.0 if side == "max" else -1.0)
    if min(effect.n_control, effect.n_variant) < FEWEST_UNITS:
        return "unknown", bad > 0, f"fewer than {FEWEST_UNITS} units in a variant"
    error = math.sqrt(effect.variances[1] + (1 + limit) ** 2 * effect.variances[0])
    reach = float(multiplier(n, alpha, planned or UNPLANNED_UNITS)) * error
    if bad - reach > 0:
        return "alarm", True, None
    return ("safe" if bad + reach < 0 else "open"), bad > 0, None
