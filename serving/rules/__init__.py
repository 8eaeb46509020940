"""Rules: which offers a customer may have. Each gives a mask; the first that drops an offer is its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.rules.channel import ChannelRule
from serving.rules.consent import ConsentRule
from serving.rules.exclusion import ExclusionRule
from serving.rules.schedule import ScheduleRule
from serving.rules.status import StatusRule

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


class Rule(Protocol):
    """`allows` says, per offer of the view, whether this rule lets the customer have it; shape (n_offers,)."""

    name: str

    def allows(self, view: CatalogueView, asked: Asked) -> NDArray[np.bool_]: ...


RULES: tuple[Rule, ...] = (StatusRule(), ScheduleRule(), ChannelRule(), ExclusionRule(), ConsentRule())


def eligible(
    view: CatalogueView, asked: Asked, rules: Sequence[Rule] = RULES
) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """What may be shown, and per offer the first rule that dropped it (its index, -1 for none); shapes (n_offers,)."""
    allowed = np.ones(len(view), dtype=bool)
    dropped_by = np.full(len(view), -1, dtype=np.int8)
    for index, rule in enumerate(rules):
        passed = rule.allows(view, asked)
        dropped_by[allowed & ~passed] = index
        allowed &= passed
    return allowed, dropped_by
