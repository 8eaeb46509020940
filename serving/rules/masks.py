"""What a rule says of all offers, and masks made without numpy's loops: those give up Python's lock, which comes back
late.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Said = Mask | list[int] | None  # who is let through, (n_offers,); where few are not, their rows; None: all are


def lets(said: Said, row: int) -> bool:
    """Whether one offer is let through."""
    if said is None:
        return True
    return row not in said if isinstance(said, list) else bool(said[row])


def as_mask(said: Said, n_offers: int) -> Mask:
    """Who is let through, shape (n_offers,)."""
    return without(n_offers, said or ()) if said is None or isinstance(said, list) else said


def without(n_offers: int, rows: Iterable[int]) -> Mask:
    """All offers but those in `rows`; shape (n_offers,)."""
    mask = bytearray(b"\1") * n_offers
    for row in rows:
        mask[row] = 0
    return np.frombuffer(mask, np.bool_)


def copied(mask: Mask) -> Mask:
    """A copy that may be written to; shape (n,). `mask` is contiguous."""
    return np.frombuffer(bytearray(mask), np.bool_)
