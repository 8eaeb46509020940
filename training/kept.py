"""Numbers per customer and offer that one decision works out and the next ones of the same customer need again."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

NUMBERS = 1_000_000  # that one place keeps: of a thousand customers, with a thousand offers

K = TypeVar("K")
V = TypeVar("V")
Array = TypeVar("Array", bound=NDArray[Any])


class Kept(Generic[K, V]):
    """The newest, of so many numbers each. Threads may share it: what one of them misses is worked out twice."""

    def __init__(self, n_numbers: int) -> None:
        self._most = max(NUMBERS // max(n_numbers, 1), 1)
        self._held: dict[K, V] = {}
        self.get = self._held.get

    def put(self, key: K, value: V) -> None:
        held = self._held
        if len(held) >= self._most:
            for oldest in [key for key, _ in zip(held.copy(), range(self._most // 8 + 1), strict=False)]:
                held.pop(oldest, None)
        held[key] = value


def read_only(array: Array) -> Array:
    """The array itself, not to be written to any more: so it may be kept, and what follows from it too."""
    array.flags.writeable = False
    return array
