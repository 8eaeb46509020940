"""Business weights: which offers count for more, or less, where, for whom and for how long."""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Lever
from features.errors import BadRule
from features.events import to_us
from features.language import N_CONSTANTS, TRUE, Expression, Names, parse, variables
from serving.arrays import read_only
from serving.catalogue_view import FOREVER_US
from serving.rules.programs import Compiler

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked

Numbers = NDArray[np.float64]
logger = logging.getLogger(__name__)
MOST = 1e9  # all levers together weigh an offer by no more than this, and by no less than its inverse
EVERYWHERE = parse("true")
NOWHERE = parse("false")
KEPT_NUMBERS = 1_000_000  # per edition


class Applied(NamedTuple):
    """One lever that weighed on one offer."""

    lever_id: str
    factor: float
    of_context: bool  # it is part of the context weight


@dataclass(frozen=True, slots=True)
class _Running:
    """From when to when a lever weighs, and by how much."""

    lever_id: str
    factor: float
    starts_us: int
    ends_us: int
    of_context: bool

    def now(self, now_us: int) -> bool:
        return self.starts_us <= now_us < self.ends_us


class Weights(NamedTuple):
    """What the levers came to in one combination of conditions; shapes (n_offers,), not to be written to."""

    lever: Numbers  # of those over offers and customers
    context_weight: Numbers  # of those over the context
    value: Numbers  # currency: what an accepted offer is worth, times both


class _Span(NamedTuple):
    """From one instant at which a lever starts or ends to the next."""

    number: int
    of_offers: Numbers  # the product of the levers that the offers alone decide about
    running: tuple[int, ...]  # which of the others weigh
    plain: Weights  # where none of the others weighs


class Levers:
    """All levers of one version of the catalogue. Where a lever's condition is unknown, it does not weigh."""

    def __init__(self, view: CatalogueView, off: frozenset[str] = frozenset()) -> None:
        """`off` are ids of levers that do not weigh here."""
        names = Names.of(view.feature_set)
        fixed: list[tuple[_Running, NDArray[np.bool_]]] = []  # those that the offers alone decide about, and where
        asking: list[tuple[_Running, NDArray[np.int32]]] = []
        compiler = Compiler(view.each, "levers")
        for lever in view.levers:
            if lever.lever_id in off:
                continue
            where = _where(lever)
            codes = compiler.codes(lever.where, lambda _, where=where: where)  # type: ignore[misc]
            if (codes < N_CONSTANTS).all():
                fixed.append((_running(lever, EVERYWHERE), codes == TRUE))
            else:
                asking.append((_running(lever, where), codes))
        self._one = view.ones
        self._fixed = tuple(fixed)
        self._asking = tuple(running for running, _ in asking)
        self._program = compiler.program(np.array([codes for _, codes in asking], np.int32).ravel(), names)
        self._outcome_of = self._program.outcome_of.reshape(len(asking), len(view))
        running = [*(of for of, _ in fixed), *self._asking]
        self._changes = sorted({edge for of in running for edge in (of.starts_us, of.ends_us)})
        self._value = view.value
        self._span: _Span | None = None
        # Most customers find one of a few combinations of conditions that hold.
        self._kept: dict[tuple[int, bytes], Weights] = {}
        self._most_kept = max(KEPT_NUMBERS // max(len(view), 1), 1)

    def weights(self, asked: Asked) -> Weights:
        """What each offer's worth is multiplied by."""
        number = bisect_right(self._changes, asked.now_us)
        span = self._span
        if span is None or span.number != number:
            span = self._span = self._begun(number, asked.now_us)
        if not span.running:
            return span.plain
        outcomes = self._program.outcomes(asked)
        key = number, outcomes.tobytes()
        kept = self._kept.get(key)
        if kept is None:
            kept = self._weighed(span, outcomes)
            if len(self._kept) >= self._most_kept:
                self._kept = {}
            self._kept[key] = kept
        return kept

    def _weighed(self, span: _Span, outcomes: NDArray[np.int8]) -> Weights:
        lever, context_weight, holds = span.of_offers, self._one, np.equal(outcomes, 1)
        for at in span.running:
            one = self._asking[at]
            factor = np.where(holds, one.factor, 1.0).take(self._outcome_of[at])
            if one.of_context:
                context_weight = _bounded(context_weight * factor)
            else:
                lever = _bounded(lever * factor)
        return self._with_value(lever, context_weight)

    def _with_value(self, lever: Numbers, context_weight: Numbers) -> Weights:
        value = self._value * context_weight * lever
        return Weights(read_only(lever), read_only(context_weight), read_only(value))

    def _begun(self, number: int, now_us: int) -> _Span:
        """The product of what the offers alone decide about; kept until a lever starts or ends."""
        product = self._one
        for running, rows in self._fixed:
            if running.now(now_us):
                product = _bounded(np.where(rows, running.factor, 1.0) * product)
        running_now = tuple(at for at, one in enumerate(self._asking) if one.now(now_us))
        return _Span(number, product, running_now, self._with_value(product, self._one))

    def factors(self, row: int, asked: Asked) -> tuple[Applied, ...]:
        """The levers that weigh on one offer now, by id."""
        weighing = [running for running, rows in self._fixed if rows[row] and running.now(asked.now_us)]
        holds = self._holds(asked)
        if holds is not None:
            held = zip(self._asking, holds[self._outcome_of[:, row]], strict=True)
            weighing += [running for running, holding in held if holding and running.now(asked.now_us)]
        applied = (Applied(running.lever_id, running.factor, running.of_context) for running in weighing)
        return tuple(sorted(applied))

    def _holds(self, asked: Asked) -> NDArray[np.bool_] | None:
        """Which of the different conditions hold, shape (n_outcomes,); None if nobody need be asked."""
        if not any(running.now(asked.now_us) for running in self._asking):
            return None
        outcomes = self._program.outcomes(asked)
        return np.equal(outcomes, 1)


def _bounded(product: Numbers) -> Numbers:
    return np.clip(product, 1.0 / MOST, MOST)


def _running(lever: Lever, where: Expression) -> _Running:
    return _Running(
        lever.lever_id,
        lever.factor,
        starts_us=to_us(lever.starts_at) if lever.starts_at else -FOREVER_US,
        ends_us=to_us(lever.ends_at) if lever.ends_at else FOREVER_US,
        of_context=any(variable.root == "context" for variable in variables(where)),
    )


def _where(lever: Lever) -> Expression:
    """A condition that cannot be read, which the API would not have saved, holds nowhere."""
    if lever.where is None:
        return EVERYWHERE
    try:
        return parse(lever.where)
    except BadRule as error:
        logger.warning("the lever %s is left out, its condition cannot be read: %s", lever.lever_id, error)
        return NOWHERE
