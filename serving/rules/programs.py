"""Rules of offers as programs that go on from the version of the catalogue before: only what changed is compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.language import Build, Expression, Names, Program
from serving.each_offer import EachOffer

Codes = NDArray[np.int32]
ROOM = 1_000  # conditions that nobody names any more and that are carried along, beside a tenth of all


class Compiler:
    """Compiles the rules of one kind for all offers. One per kind and version of the catalogue."""

    def __init__(self, each: EachOffer, kind: str) -> None:
        self._each = each
        self._book = each.shared(("rules", kind), _Book, _Book.is_tidy)

    def codes(self, name: Hashable, rule_of: Callable[[Offer], Expression | None]) -> Codes:
        """The code of each offer's rule, shape (n_offers,); below `N_CONSTANTS` where the offer alone decides.

        The same name must always come with a function that gives the same offer the same rule.
        """
        book = self._book
        return np.array(self._each.of((book, name), lambda offer: book.code(rule_of(offer), offer)), np.int32)

    def program(self, codes: Codes, names: Names) -> Program:
        """Of the rules with these codes, in their order."""
        self._book.settle()
        return Program.of(self._book.build, codes, names)


class _Book:
    """A build that outlives one version of the catalogue, with the rules in it: it knows them by their ids."""

    def __init__(self) -> None:
        self.build = Build()
        self._held: dict[int, Expression] = {}
        self._n_at_first = 0

    def code(self, rule: Expression | None, offer: Offer) -> int:
        if rule is not None:
            self._held.setdefault(id(rule), rule)
        return self.build.rule(rule, offer)

    def settle(self) -> None:
        """What is in it by now is what its first version needs."""
        self._n_at_first = self._n_at_first or self._n

    def is_tidy(self) -> bool:
        return self._n <= 1.1 * self._n_at_first + ROOM

    @property
    def _n(self) -> int:
        return len(self.build.atoms) + len(self.build.nodes) + len(self._held)
