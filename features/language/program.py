"""Rules compiled for all offers together: conditions that offers share are decided once, by one loop over arrays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Offer
from features.language import kernel
from features.language.build import NOW, OF_TRUTH, Atom, Build
from features.language.interpret import interpret
from features.language.kernel import N_CONSTANTS, run
from features.language.names import Names, Scope
from features.language.sheet import WIDTH, Sheet, time_or_nan
from features.language.syntax import Expression

NOTHING_GIVEN = np.zeros(0, np.int8)
Whole = NDArray[np.int32]


class Program:
    """One rule per offer, None for everybody. Safe to share between threads."""

    def __init__(self, rules: Sequence[Expression | None], offers: Sequence[Offer], names: Names) -> None:
        """Shapes (n,), (n,): rule i is about offer i."""
        build = Build()
        self._link(build, [build.rule(rule, offer) for rule, offer in zip(rules, offers, strict=True)], names)

    @classmethod
    def of(cls, build: Build, codes: Sequence[int] | NDArray[np.int32], names: Names) -> Program:
        """Of rules that were built, by their codes."""
        program = cls.__new__(cls)
        program._link(build, codes, names)
        return program

    def _link(self, build: Build, codes: Sequence[int] | NDArray[np.int32], names: Names) -> None:
        atoms = sorted(build.atoms, key=lambda atom: atom[:4])
        texts = sorted({one for atom in atoms for one in atom.among if isinstance(one, str)})
        code = {text: at for at, text in enumerate(texts)}  # in the order of the texts, so that sets stay sorted
        timed = frozenset(atom.slot for atom in atoms if kernel.BEFORE <= atom.op <= kernel.SAME_TIME)
        self._names, self._given = names, tuple(build.given)
        self._sheet = Sheet(build.slots, names, code, timed)
        groups, nodes = _groups(atoms, self._sheet), _nodes(build)
        set_start, set_codes, set_numbers = _sets(atoms, code)
        place = _places(build, atoms)
        parts = place[np.array([part for node in build.nodes for part in node.parts], np.int32)]
        roots = place[np.array(codes, np.int32)]
        distinct, of_offer = np.unique(roots, return_inverse=True)
        self._shared = 2 * len(distinct) <= len(roots)  # else to look up who has which costs more than it saves
        self._roots = distinct if self._shared else roots
        sizes = np.array([groups.shape[1], len(atoms), len(set_codes), nodes.shape[1], len(parts)], np.int32)
        packed = [sizes, groups.ravel(), set_start, set_codes, nodes.ravel(), parts, self._roots]
        self._whole = np.concatenate(packed, dtype=np.int32)
        self._real = np.concatenate([np.array([atom.literal for atom in atoms], np.float64), set_numbers])
        self._n_atoms = len(atoms)
        self._ranked = _ranked(atoms, self._sheet)
        asks_when = NOW in build.slots or any(atom.relative for atom in atoms)
        self._has_cases = not (asks_when or self._given or self._sheet.is_keyed)
        self.outcome_of = of_offer if self._shared else np.arange(len(roots))  # (n_offers,): place in `outcomes`

    @property
    def settled(self) -> NDArray[np.int8] | None:
        """What `evaluate` always returns, if the offers alone decide; None if it matters who asks, or when."""
        return np.array([0, -1, 1], np.int8)[self._roots][self.outcome_of] if not self._n_atoms else None

    def evaluate(self, scope: Scope) -> NDArray[np.int8]:
        """Per offer 1 where its rule holds, 0 where not, -1 where that is unknown; shape (n_offers,)."""
        outcomes = self.outcomes(scope)
        return outcomes.take(self.outcome_of) if self._shared else outcomes

    def outcomes(self, scope: Scope) -> NDArray[np.int8]:
        """The same for each rule that is different, of which there may be few; `outcome_of` says whose is whose."""
        out = np.empty(len(self._roots), np.int8)
        run(*self.operands(scope), out)
        return out

    def case(self, values: Sequence[float]) -> tuple[float, ...] | None:
        """What the outcomes depend on: of a number, only where it stands among those that it is compared with. Equal
        cases have equal outcomes; None if the outcomes depend on more than the values.
        """
        if not self._has_cases:
            return None
        case = list(values)
        for at, numbers in self._ranked:
            if case[at] == kernel.NUMBER:
                number = case[at + 1]
                rank = bisect_left(numbers, number)
                case[at + 1] = rank if rank < len(numbers) and numbers[rank] == number else rank - 0.5
        return tuple(case)

    def values(self, scope: Scope) -> list[float]:
        """What rules ask of who asks, read once for `case` and `operands`."""
        return self._sheet.values(scope)

    def operands(
        self, scope: Scope, values: list[float] | None = None
    ) -> tuple[float, NDArray[np.float64], NDArray[np.int8], Whole, NDArray[np.float64]]:
        """What `kernel.run` is to be called with, for a loop that goes on with its outcomes."""
        slots = self._sheet.filled(values if values is not None else self._sheet.values(scope), scope)
        given = NOTHING_GIVEN
        if self._given:
            given = np.array([OF_TRUTH[interpret(one, scope, None, self._names)] for one in self._given], np.int8)
        return float(scope.now_us), slots, given, self._whole, self._real


def _ranked(atoms: Sequence[Atom], sheet: Sheet) -> list[tuple[int, list[float]]]:
    """Where each slot's values begin, and the numbers that rules compare them with, ascending."""
    compared: dict[int, set[float]] = {at: set() for at in sheet.row}
    for atom in atoms:
        if atom.op <= kernel.AT_LEAST:
            compared[atom.slot].add(atom.literal)
        elif atom.op == kernel.IN_NUMBERS:
            compared[atom.slot].update(one for one in atom.among if not isinstance(one, str))
    return [(WIDTH * sheet.row[at], sorted(numbers)) for at, numbers in compared.items()]


def _groups(atoms: Sequence[Atom], sheet: Sheet) -> NDArray[np.int32]:
    """Conditions of the same operation on the same slot, as the loop wants them; shape (6, n_groups)."""
    groups: list[tuple[int, ...]] = []
    for at, atom in enumerate(atoms):
        same = (atom.op, sheet.row.get(atom.slot, 0), int(atom.negated), int(atom.relative))
        first = groups.pop()[4] if groups and groups[-1][:4] == same else at
        groups.append((*same, first, at + 1))
    return np.array(groups, np.int32).reshape(-1, 6).T.copy()


def _sets(
    atoms: Sequence[Atom], code: Mapping[str, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Where each condition's set begins, shape (n_atoms + 1,); codes of its texts; numbers, or times of its texts."""
    start = np.cumsum([0, *(len(atom.among) for atom in atoms)], dtype=np.int32)
    flat: list[float | str] = list(chain.from_iterable(atom.among for atom in atoms))
    times = {text: time_or_nan(text) for text in code}
    codes = np.array([code[one] if isinstance(one, str) else -1 for one in flat], np.int32)
    return start, codes, np.array([times[one] if isinstance(one, str) else one for one in flat], np.float64)


def _places(build: Build, atoms: Sequence[Atom]) -> NDArray[np.int32]:
    """Where in the truth table each code of the build is: constants, grouped conditions, then nodes."""
    place = np.arange(max([N_CONSTANTS, *build.atoms.values(), *build.nodes.values()]) + 1, dtype=np.int32)
    for at, atom in enumerate(atoms):
        place[build.atoms[atom]] = N_CONSTANTS + at
    for at, code in enumerate(build.nodes.values()):
        place[code] = N_CONSTANTS + len(atoms) + at
    return place


def _nodes(build: Build) -> NDArray[np.int32]:
    """Whether `and`, and the first and last + 1 part; shape (3, n_nodes)."""
    ends = np.cumsum([0, *(len(node.parts) for node in build.nodes)], dtype=np.int32)
    return np.stack([np.array([node.is_and for node in build.nodes], np.int32), ends[:-1], ends[1:]])


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
