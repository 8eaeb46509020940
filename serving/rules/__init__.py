"""Rules: which offers a customer may have. Each gives a mask; the first that drops an offer is its reason.

A rule is made once per edition, from the catalogue, and asked at every decision. `RULES` is in the order in which
reasons are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from features import language
from serving.arrays import read_only
from serving.compiled import compiled
from serving.rules import eligibility
from serving.rules.budget import BudgetRule
from serving.rules.caps import CapsRule
from serving.rules.channel import ChannelRule
from serving.rules.consent import ConsentRule
from serving.rules.cooldown import CooldownRule
from serving.rules.diversity import DiversityRule
from serving.rules.eligibility import EligibilityRule
from serving.rules.exclusion import ExclusionRule
from serving.rules.inventory import InventoryRule
from serving.rules.masks import Mask, Said, as_mask
from serving.rules.pacing import PacingRule
from serving.rules.pause import PauseRule
from serving.rules.quiet_hours import QuietHoursRule
from serving.rules.retention import RetentionRule
from serving.rules.schedule import ScheduleRule
from serving.rules.status import StatusRule

if TYPE_CHECKING:
    from serving.catalogue_view import CatalogueView
    from serving.rules.asked import Asked


@dataclass(slots=True)
class Room:
    """Of the offers in `rows` at most `left` more fit into this decision."""

    rows: Mask | None  # (n_offers,); None: all
    left: int
    rule: str  # by which

    def take(self, row: int) -> Mask | slice | None:
        """One more is shown: the offers that no longer fit, if there are any."""
        if self.rows is not None and not self.rows[row]:
            return None
        self.left -= 1
        if self.left > 0:
            return None
        return slice(None) if self.rows is None else self.rows


class Taking(Protocol):
    """What limits how many offers one decision may hold, `Room` or another; told of each offer that is shown."""

    def take(self, row: int) -> Mask | NDArray[np.intp] | slice | None:
        """The offers that no longer fit, or their rows; None: all still do."""
        ...


class Rule(Protocol):
    """One reason why an offer is not shown."""

    name: ClassVar[str]

    def __init__(self, view: CatalogueView) -> None:
        """All that the catalogue alone says, prepared once."""
        ...

    def allows(self, asked: Asked) -> Said:
        """Per offer whether this rule lets the customer have it, shape (n_offers,); None: all of them. A rule that
        keeps back only a few may say their rows instead, as a list.
        """
        ...

    def seen(self, asked: Asked, row: int) -> dict[str, Any]:
        """The values that decided about one offer, for an explanation. Plain JSON values."""
        ...


@runtime_checkable
class Rooming(Protocol):
    """A rule that also limits how many offers one decision may hold."""

    def rooms(self, asked: Asked) -> Sequence[Taking]:
        """The limits that still leave room; those that leave none are said by `allows`."""
        ...


RULES: tuple[type[Rule], ...] = (
    StatusRule,
    ScheduleRule,
    ChannelRule,
    ExclusionRule,
    ConsentRule,
    EligibilityRule,
    RetentionRule,
    QuietHoursRule,
    PauseRule,
    CooldownRule,
    CapsRule,
    InventoryRule,
    BudgetRule,
    PacingRule,
    DiversityRule,
)


SETTLED = (StatusRule, ScheduleRule, ChannelRule)  # the first of the rules: each keeps the masks that it gives
MOST_BASES = 64


class _Base(NamedTuple):
    """Where the rules that ask of the customer begin."""

    said: list[Said]  # which it was made of: held, so that their ids stay theirs
    allowed: bytes
    dropped_by: bytes


class Rules:
    """All rules, made for one version of the catalogue."""

    def __init__(self, view: CatalogueView, rules: Sequence[type[Rule]] = RULES) -> None:
        self.all: tuple[Rule, ...] = tuple(rule(view) for rule in rules)
        self.names = tuple(rule.name for rule in self.all)
        self._rooming: tuple[Any, ...] = tuple(rule for rule in self.all if hasattr(rule, "rooms"))
        self._n = len(view)
        n_settled = next((at for at, rule in enumerate(self.all) if not isinstance(rule, SETTLED)), len(self.all))
        self._settled = self.all[:n_settled]
        self._asking = tuple(enumerate(self.all))[n_settled:]
        self._bases: dict[tuple[int, ...], _Base] = {}

    def eligible(self, asked: Asked) -> tuple[Mask, NDArray[np.int8]]:
        """What may be shown, and per offer the first rule that dropped it (its index, -1: none); shapes (n_offers,)."""
        base = self._base(asked)
        left, by = bytearray(base.allowed), bytearray(base.dropped_by)
        allowed, dropped_by = np.frombuffer(left, np.bool_), np.frombuffer(by, np.int8)
        for index, rule in self._asking:
            said = rule.allows(asked)
            if said is None:
                continue
            if isinstance(said, list):
                for row in said:
                    if left[row]:
                        left[row], by[row] = 0, index
            else:
                _drop(said, allowed, dropped_by, index)
        return allowed, dropped_by

    def _base(self, asked: Asked) -> _Base:
        """What the settled rules leave, which they say of all decisions with the same few masks."""
        masks = [rule.allows(asked) for rule in self._settled]
        key = tuple(map(id, masks))
        base = self._bases.get(key)
        if base is None:
            allowed, dropped_by = np.ones(self._n, dtype=bool), np.full(self._n, -1, dtype=np.int8)
            for index, said in enumerate(masks):
                if said is not None:
                    _drop(as_mask(said, self._n), allowed, dropped_by, index)
            if len(self._bases) >= MOST_BASES:
                self._bases = {}
            base = self._bases[key] = _Base(masks, allowed.tobytes(), dropped_by.tobytes())
        return base

    def rooms(self, asked: Asked) -> list[Taking]:
        """What limits the number of offers within this decision."""
        return [room for rule in self._rooming for room in rule.rooms(asked)]


def warm() -> None:
    """Compile the loops over offers, or load them from the machine's cache, before a decision waits for it."""
    allowed, dropped_by = np.ones(2, dtype=bool), np.full(2, -1, dtype=np.int8)
    for said in (np.zeros(2, dtype=bool), read_only(np.zeros(2, dtype=bool))):
        _drop(said, allowed, dropped_by, 0)
    eligibility.warm()
    drops(dropped_by, 1)
    language.warm()


def drops(dropped_by: NDArray[np.int8], n_rules: int) -> list[int]:
    """How many offers each rule dropped, shape (n_rules,)."""
    counts: list[int] = _counted(dropped_by, n_rules).tolist()
    return counts


@compiled
def _drop(passed, allowed, dropped_by, index):  # type: ignore[no-untyped-def]
    for i in range(len(passed)):  # without branches, which would be guessed wrongly
        dropped_by[i] = index if allowed[i] & ~passed[i] else dropped_by[i]
        allowed[i] &= passed[i]


@compiled
def _counted(dropped_by, n_rules):  # type: ignore[no-untyped-def]
    counts = np.zeros(n_rules, np.int64)
    for i in range(len(dropped_by)):
        if dropped_by[i] >= 0:
            counts[dropped_by[i]] += 1
    return counts
