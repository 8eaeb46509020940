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
    """Rows of each part, disjoint and in this order of time; `from_us` is where validation and test begin."""

    train: Mask
    validation: Mask
    test: Mask
    validation_from_us: int
    test_from_us: int


def split_by_day(occurred_us: NDArray[np.int64], share: float = 0.15) -> Split | None:
    """Test is the fewest last UTC days that hold `share` of the rows, validation the fewest before it that do.

    None if that leaves nothing to train on.
    """
    days, counts = np.unique(occurred_us // US_PER_DAY, return_counts=True)
    enough = share * len(occurred_us)
    cuts, last = [], len(days)
    for _ in range(2):
        held = np.cumsum(counts[:last][::-1])
        n_days = int(np.searchsorted(held, enough)) + 1
        last -= n_days
        if last <= 0:
            return None
        cuts.append(int(days[last]) * US_PER_DAY)
    test_from, validation_from = cuts
    return split_at(occurred_us, validation_from, test_from)


def split_at(occurred_us: NDArray[np.int64], validation_from_us: int, test_from_us: int) -> Split:
    return Split(
        train=occurred_us < validation_from_us,
        validation=(occurred_us >= validation_from_us) & (occurred_us < test_from_us),
        test=occurred_us >= test_from_us,
        validation_from_us=validation_from_us,
        test_from_us=test_from_us,
    )


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
