"""Masks over the offers, made without numpy's loops: those give up Python's lock, which comes back late."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def without(n_offers: int, rows: Iterable[int]) -> Mask:
    """All offers but those in `rows`; shape (n_offers,)."""
    mask = bytearray(b"\1") * n_offers
    for row in rows:
        mask[row] = 0
    return np.frombuffer(mask, np.bool_)


def copied(mask: Mask) -> Mask:
    """A copy that may be written to; shape (n,). `mask` is contiguous."""
    return np.frombuffer(bytearray(mask), np.bool_)
