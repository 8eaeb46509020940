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
class _Prepared:
    lever: Lever
    program: Program
    of_context: bool
    starts_us: int
    ends_us: int
    rows: NDArray[np.bool_]  # where it holds, if the offers alone say so; else empty
    asks: bool  # who asks, or when

    def runs(self, now_us: int) -> bool:
        return self.starts_us <= now_us < self.ends_us

    def holds(self, asked: Asked) -> NDArray[np.bool_]:
        return self.program.evaluate(asked) == 1 if self.asks else self.rows


class Levers:
    """All levers of one version of the catalogue. Where a lever's condition is unknown, it does not weigh."""

    def __init__(self, view: CatalogueView) -> None:
        names = Names.of(view.feature_set)
        self._all = tuple(_prepared(lever, view, names) for lever in view.levers)
        self._fixed = tuple(one for one in self._all if not one.asks)
        self._asking = tuple(one for one in self._all if one.asks)
        edges = {edge for one in self._fixed for edge in (one.starts_us, one.ends_us)}
        self._changes = np.array(sorted(edges), np.int64)
        self._one = view.ones
        self._product: tuple[int, Numbers] | None = None

    def weights(self, asked: Asked) -> tuple[Numbers, Numbers]:
        """What levers over offers and customers, and those over the context, multiply each offer's worth by.

        Shapes (n_offers,), (n_offers,); not to be written to.
        """
        lever, context_weight = self._of_offers(asked.now_us), self._one
        for one in self._asking:
            if not one.runs(asked.now_us):
                continue
            factor = np.where(one.holds(asked), one.lever.factor, 1.0)
            if one.of_context:
                context_weight = _bounded(context_weight * factor)
            else:
                lever = _bounded(lever * factor)
        return lever, context_weight

    def factors(self, row: int, asked: Asked) -> tuple[Applied, ...]:
        """The levers that weigh on one offer now, by id."""
        weighing = (one for one in self._all if one.runs(asked.now_us) and one.holds(asked)[row])
        return tuple(Applied(one.lever.lever_id, one.lever.factor, one.of_context) for one in weighing)

    def _of_offers(self, now_us: int) -> Numbers:
        """The product of those that the offers alone decide about; kept until one starts or ends."""
        if not self._fixed:
            return self._one
        span = int(np.searchsorted(self._changes, now_us, side="right"))
        kept = self._product
        if kept is None or kept[0] != span:
            product = self._one
            for one in self._fixed:
                if one.runs(now_us):
                    product = _bounded(np.where(one.rows, one.lever.factor, 1.0) * product)
            product.setflags(write=False)
            kept = self._product = span, product
        return kept[1]


def _bounded(product: Numbers) -> Numbers:
    return np.clip(product, 1.0 / MOST, MOST)


def _prepared(lever: Lever, view: CatalogueView, names: Names) -> _Prepared:
    where = _where(lever)
    program = Program([where] * len(view), view.offers, names)
    settled = program.settled
    return _Prepared(
        lever,
        program,
        of_context=settled is None and any(variable.root == "context" for variable in variables(where)),
        starts_us=to_us(lever.starts_at) if lever.starts_at else -FOREVER_US,
        ends_us=to_us(lever.ends_at) if lever.ends_at else FOREVER_US,
        rows=np.empty(0, bool) if settled is None else settled == 1,
        asks=settled is None,
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
