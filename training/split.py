"""Parts by time, cut before anything is fitted."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.events import US_PER_DAY

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of each part, disjoint; those whose outcome was still open when the test part began are in none."""

    train: Mask
    validation: Mask  # other customers of the same time
    test: Mask
    test_from_us: int


def split_with_gap(
    occurred_us: NDArray[np.int64], known_us: NDArray[np.int64], customers: Sequence[str], share: float = 0.15
) -> Split | None:
    """Test is the fewest last UTC days that hold `share` of the rows; the rest is what was known before it began.

    `known_us` is when each row's outcome was known, not before it occurred. Of the rest, a fixed quarter of customers
    is the validation part: a part in between would cost another window of data. None if there is only one day.
    """
    days, counts = np.unique(occurred_us // US_PER_DAY, return_counts=True)
    held = np.cumsum(counts[::-1])
    first = len(days) - 1 - int(np.searchsorted(held, share * len(occurred_us)))
    if first <= 0:
        return None
    test_from = int(days[first]) * US_PER_DAY
    earlier, aside = known_us <= test_from, held_out(customers)
    return Split(earlier & ~aside, earlier & aside, occurred_us >= test_from, test_from)


def split_instants(instants: Sequence[int], label_us: int, share: float = 0.2) -> tuple[list[int], list[int]]:
    """(earlier, test): the last `share` of the instants, and those whose label of `label_us` has ended before them.

    Instants whose label would reach into the test part belong to neither. Empty lists where there are too few.
    """
    ordered = sorted(instants)
    test = ordered[-max(round(share * len(ordered)), 1) :]
    return [t for t in ordered if test and t + label_us <= test[0]], test


def held_out(customers: Sequence[str], share: float = 0.25) -> Mask:
    """A fixed `share` of customers by the hash of their id, (n,): the same ones at every instant and in every run."""
    return np.array([zlib.crc32(customer.encode()) % 1000 < share * 1000 for customer in customers], dtype=np.bool_)


def blocks(occurred_us: NDArray[np.int64], until_us: int, n: int) -> list[int]:
    """Where each of at most `n` blocks of about equal size begins, at midnights UTC, for the rows before `until_us`."""
    before = np.sort(occurred_us[occurred_us < until_us])
    if not len(before):
        return []
    starts = before[(np.arange(n) * len(before)) // n] // US_PER_DAY * US_PER_DAY
    return sorted({int(start) for start in starts})
