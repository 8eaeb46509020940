"""What a program must know of who asks, read from a scope into one array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.language import kernel
from features.language.build import NOW, Slot
from features.language.interpret import value_of
from features.language.names import Names, Reader, Scope
from features.language.syntax import Entry, Text, Variable
from features.language.values import Instant, Value, plain, time_of

WIDTH = 4  # kind, number, code of the text, time
BLANK = (float(kernel.ABSENT), 0.0, -1.0, math.nan)


class _Keyed(NamedTuple):
    """The entries of one keyed feature that rules name: a customer has few of them, and 0 under all others."""

    read: Reader
    row: Mapping[str, int]
    first: int
    last: int


class Sheet:
    """Made for the slots of one program. `row` says where in the array each slot is."""

    def __init__(self, slots: Mapping[Slot, int], names: Names, code: Mapping[str, int], timed: frozenset[int]) -> None:
        """`code`: of the texts that conditions name; `timed`: slots that are compared with times."""
        entries: dict[Variable, dict[str, int]] = {}
        self.row: dict[int, int] = {}
        self._features: list[tuple[int, str, bool]] = []  # where in the list, the name, whether a time is asked for
        self._others: list[tuple[int, Reader, bool]] = []
        for slot, at in slots.items():
            if isinstance(slot, Entry) and isinstance(slot.key, Text):
                entries.setdefault(slot.of, {})[slot.key.value] = at
                continue
            row = self.row[at] = len(self.row)
            if isinstance(slot, Variable) and names.is_feature(slot):
                self._features.append((WIDTH * row, slot.path[0], at in timed))
            else:
                self._others.append((WIDTH * row, _reader(slot, names), at in timed))
        self._single = list(BLANK) * len(self.row)
        self._keyed = []
        for of, keys in entries.items():
            first = len(self.row)
            self.row.update((at, first + n) for n, at in enumerate(keys.values()))
            self._keyed.append(
                _Keyed(names.reader(of), {key: self.row[at] for key, at in keys.items()}, first, len(self.row))
            )
        self._blank = np.array(BLANK * len(self.row), np.float64).reshape(-1, WIDTH)
        self._code = code

    def read(self, scope: Scope) -> NDArray[np.float64]:
        """Shape (n_slots, 4)."""
        return self.filled(self.values(scope), scope)

    @property
    def is_keyed(self) -> bool:
        """Whether there is more to know than `values`."""
        return bool(self._keyed)

    def values(self, scope: Scope) -> list[float]:
        """Of all that are no entries of keyed features, one after the other; shape (4 n,)."""
        flat = self._single.copy()
        features = scope.features
        for at, name, timed in self._features:
            value = features.get(name)
            if value.__class__ is float:  # most are numbers
                if value == value:
                    flat[at], flat[at + 1] = kernel.NUMBER, value
            else:
                self._put(flat, at, plain(value), timed)
        for at, read, timed in self._others:
            self._put(flat, at, read(scope), timed)
        return flat

    def filled(self, flat: list[float], scope: Scope) -> NDArray[np.float64]:
        """The same with those entries; shape (n_slots, 4)."""
        if not self._keyed:
            return np.array(flat, np.float64).reshape(-1, WIDTH)
        found = self._blank.copy()
        found[: len(flat) // WIDTH] = np.array(flat, np.float64).reshape(-1, WIDTH)
        for keyed in self._keyed:
            self._put_entries(found, keyed, keyed.read(scope))
        return found

    def _put(self, flat: list[float], at: int, value: Value, timed: bool) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            flat[at], flat[at + 1] = kernel.TRUTH, float(value)
        elif isinstance(value, float):
            flat[at], flat[at + 1] = kernel.NUMBER, value
        elif isinstance(value, str):
            flat[at], flat[at + 2] = kernel.TEXT, self._code.get(value, -1)
            if timed:
                flat[at + 3] = time_or_nan(value)
        elif isinstance(value, Instant):
            flat[at], flat[at + 3] = kernel.INSTANT, value.us
        else:
            flat[at] = kernel.OTHER_KIND

    def _put_entries(self, found: NDArray[np.float64], keyed: _Keyed, held: Value) -> None:
        if not isinstance(held, Mapping):
            return
        found[keyed.first : keyed.last, 0] = kernel.NUMBER
        for key in held if len(held) < len(keyed.row) else keyed.row:
            row = keyed.row.get(key)
            if row is not None and key in held:
                one = list(BLANK)
                self._put(one, 0, plain(held[key]), timed=True)
                found[row] = one


def _reader(slot: Slot, names: Names) -> Reader:
    if slot is NOW:
        return lambda scope: Instant(float(scope.now_us))
    if isinstance(slot, Entry):
        return lambda scope: value_of(slot, scope, None, names)
    return names.reader(slot)


def time_or_nan(text: str) -> float:
    us = time_of(text)
    return math.nan if us is None else us
