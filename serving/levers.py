"""Business weights: which offers count for more, or less, where, for whom and for how long."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Lever
from features.errors import BadRule
from features.events import to_us
from features.language import Expression, Names, Program, parse, variables
from serving.arrays import read_only
from serving.catalogue_view import FOREVER_US

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


class _Kept(NamedTuple):
    """What the levers came to in one combination of conditions."""

    of_offers: Numbers  # from which it began: held, so that its id stays its own
    lever: Numbers
    context_weight: Numbers


class Levers:
    """All levers of one version of the catalogue. Where a lever's condition is unknown, it does not weigh."""

    def __init__(self, view: CatalogueView) -> None:
        names = Names.of(view.feature_set)
        fixed: list[tuple[_Running, NDArray[np.bool_]]] = []  # those that the offers alone decide about, and where
        asking: list[tuple[_Running, Expression]] = []
        for lever in view.levers:
            where = _where(lever)
            settled = Program([where] * len(view), view.offers, names).settled
            if settled is None:
                asking.append((_running(lever, where), where))
            else:
                fixed.append((_running(lever, EVERYWHERE), settled == 1))
        self._one = view.ones
        self._fixed = tuple(fixed)
        self._asking = tuple(running for running, _ in asking)
        self._program = Program(
            [where for _, where in asking for _ in view.offers], [*view.offers] * len(asking), names
        )
        self._outcome_of = self._program.outcome_of.reshape(len(asking), len(view))
        edges = {edge for running, _ in fixed for edge in (running.starts_us, running.ends_us)}
        self._changes = sorted(edges)
        self._product: tuple[int, Numbers] | None = None
        # Most customers find one of a few combinations of conditions that hold.
        self._kept: dict[tuple[int, bytes, bytes], _Kept] = {}
        self._most_kept = max(KEPT_NUMBERS // max(len(view), 1), 1)

    def weights(self, asked: Asked) -> tuple[Numbers, Numbers]:
        """What levers over offers and customers, and those over the context, multiply each offer's worth by.

        Shapes (n_offers,), (n_offers,); not to be written to.
        """
        of_offers = self._of_offers(asked.now_us)
        running = [one.now(asked.now_us) for one in self._asking]
        if not any(running):
            return of_offers, self._one
        outcomes = self._program.outcomes(asked)
        key = (id(of_offers), bytes(running), outcomes.tobytes())
        kept = self._kept.get(key)
        if kept is None:
            kept = _Kept(of_offers, *self._weighed(of_offers, running, outcomes))
            if len(self._kept) >= self._most_kept:
                self._kept = {}
            self._kept[key] = kept
        return kept.lever, kept.context_weight

    def _weighed(self, lever: Numbers, running: Sequence[bool], outcomes: NDArray[np.int8]) -> tuple[Numbers, Numbers]:
        context_weight, holds = self._one, np.equal(outcomes, 1)
        for at, one in enumerate(self._asking):
            if running[at]:
                factor = np.where(holds, one.factor, 1.0).take(self._outcome_of[at])
                if one.of_context:
                    context_weight = _bounded(context_weight * factor)
                else:
                    lever = _bounded(lever * factor)
        return read_only(lever), read_only(context_weight)

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

    def _of_offers(self, now_us: int) -> Numbers:
        """The product of those that the offers alone decide about; kept until one starts or ends."""
        if not self._fixed:
            return self._one
        span = bisect_right(self._changes, now_us)
        kept = self._product
        if kept is None or kept[0] != span:
            product = self._one
            for running, rows in self._fixed:
                if running.now(now_us):
                    product = _bounded(np.where(rows, running.factor, 1.0) * product)
            kept = self._product = span, read_only(product)
        return kept[1]


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
