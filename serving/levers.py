"""Business weights: which offers count for more, or less, where, for whom and for how long."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Lever
from features.errors import BadRule
from features.events import to_us
from features.language import Expression, Names, Program, parse, variables
from serving.catalogue_view import FOREVER_US

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked

Numbers = NDArray[np.float64]
logger = logging.getLogger(__name__)
MOST = 1e9  # all levers together weigh an offer by no more than this, and by no less than its inverse
EVERYWHERE = parse("true")
NOWHERE = parse("false")


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
        self._changes = np.array(sorted(edges), np.int64)
        self._product: tuple[int, Numbers] | None = None

    def weights(self, asked: Asked) -> tuple[Numbers, Numbers]:
        """What levers over offers and customers, and those over the context, multiply each offer's worth by.

        Shapes (n_offers,), (n_offers,); not to be written to.
        """
        lever, context_weight = self._of_offers(asked.now_us), self._one
        holds = self._holds(asked)
        for at, running in enumerate(self._asking):
            if holds is None or not running.now(asked.now_us):
                continue
            factor = np.where(holds, running.factor, 1.0).take(self._outcome_of[at])
            if running.of_context:
                context_weight = _bounded(context_weight * factor)
            else:
                lever = _bounded(lever * factor)
        return lever, context_weight

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
        span = int(np.searchsorted(self._changes, now_us, side="right"))
        kept = self._product
        if kept is None or kept[0] != span:
            product = self._one
            for running, rows in self._fixed:
                if running.now(now_us):
                    product = _bounded(np.where(rows, running.factor, 1.0) * product)
            product.setflags(write=False)
            kept = self._product = span, product
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
