"""Rules compiled for all offers together: conditions that offers share are decided once, by one loop over arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.language import kernel
from features.language.build import OF_TRUTH, Build
from features.language.interpret import interpret
from features.language.kernel import N_CONSTANTS, run
from features.language.names import Names, Scope
from features.language.sheet import Sheet, time_or_nan
from features.language.syntax import Expression


class Program:
    """One rule per offer, None for everybody. Safe to share between threads."""

    def __init__(self, rules: Sequence[Expression | None], offers: Sequence[Offer], names: Names) -> None:
        """Shapes (n,), (n,): rule i is about offer i."""
        build = Build()
        codes = [build.rule(rule, offer) for rule, offer in zip(rules, offers, strict=True)]
        atoms = sorted(build.atoms, key=lambda atom: atom[:4])

        groups: list[tuple[int, ...]] = []  # conditions of the same operation on the same slot
        for at, atom in enumerate(atoms):
            same = tuple(map(int, atom[:4]))
            first = groups.pop()[4] if groups and groups[-1][:4] == same else at
            groups.append((*same, first, at + 1))
        self._groups = np.array(groups, np.int32).reshape(-1, 6).T.copy()
        self._literal = np.array([atom.literal for atom in atoms], np.float64)

        texts = sorted({one for atom in atoms for one in atom.among if isinstance(one, str)})
        code = {text: at for at, text in enumerate(texts)}  # in the order of the texts, so sets stay sorted
        in_sets: list[float | str] = list(chain.from_iterable(atom.among for atom in atoms))
        self._set_start = np.cumsum([0, *(len(atom.among) for atom in atoms)], dtype=np.int32)
        self._set_codes = np.array([code[one] if isinstance(one, str) else -1 for one in in_sets], np.int32)
        times = {text: time_or_nan(text) for text in texts}
        self._set_numbers = np.array([times[one] if isinstance(one, str) else one for one in in_sets], np.float64)

        # Conditions were grouped, and in the table all of them come before all nodes.
        highest = max([*build.atoms.values(), *build.nodes.values()], default=0)
        place = np.arange(max(highest + 1, N_CONSTANTS), dtype=np.int32)
        for at, atom in enumerate(atoms):
            place[build.atoms[atom]] = N_CONSTANTS + at
        for at, node_code in enumerate(build.nodes.values()):
            place[node_code] = N_CONSTANTS + len(atoms) + at
        ends = np.cumsum([0, *(len(node.parts) for node in build.nodes)], dtype=np.int32)
        is_and = np.array([node.is_and for node in build.nodes], np.int32)
        self._nodes = np.stack([is_and, ends[:-1], ends[1:]])
        self._parts = place[np.array([part for node in build.nodes for part in node.parts], np.int32)]
        roots = place[np.array(codes, np.int32)]
        distinct, of_offer = np.unique(roots, return_inverse=True)
        many = 2 * len(distinct) > len(roots)  # then to look up who has which costs more than it saves
        self._roots = roots if many else distinct
        self.outcome_of = np.arange(len(roots)) if many else of_offer  # (n_offers,): place in `outcomes`
        self._shared = not many
        self._n_table = N_CONSTANTS + len(atoms) + len(build.nodes)

        self._names = names
        self._given = tuple(build.given)
        timed = frozenset(atom.slot for atom in atoms if kernel.BEFORE <= atom.op <= kernel.SAME_TIME)
        self._sheet = Sheet(build.slots, names, code, timed)
        self._groups[1] = [self._sheet.row.get(slot, 0) for slot in self._groups[1].tolist()]

    @property
    def settled(self) -> NDArray[np.int8] | None:
        """What `evaluate` always returns, if the offers alone decide; None if it matters who asks, or when."""
        return np.array([0, -1, 1], np.int8)[self._roots][self.outcome_of] if not self._literal.size else None

    def evaluate(self, scope: Scope) -> NDArray[np.int8]:
        """Per offer 1 where its rule holds, 0 where not, -1 where that is unknown; shape (n_offers,)."""
        outcomes = self.outcomes(scope)
        return outcomes.take(self.outcome_of) if self._shared else outcomes

    def outcomes(self, scope: Scope) -> NDArray[np.int8]:
        """The same for each rule that is different, of which there may be few; `outcome_of` says whose is whose."""
        slots = self._sheet.read(scope)
        given = np.array([OF_TRUTH[interpret(one, scope, None, self._names)] for one in self._given], np.int8)
        table, out = np.empty(self._n_table, np.int8), np.empty(len(self._roots), np.int8)
        run(
            float(scope.now_us), slots, given, self._groups, self._literal, self._set_start, self._set_codes,
            self._set_numbers, self._nodes, self._parts, self._roots, table, out,
        )  # fmt: skip
        return out


class _Nobody(NamedTuple):
    """Who asks when there is nothing to ask."""

    now_us: int = 0
    features: Mapping[str, Any] = {}
    attributes: Mapping[str, Any] = {}
    consent: Mapping[str, bool] = {}
    context: Mapping[str, Any] = {}


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    Program([], [], Names()).evaluate(_Nobody())
