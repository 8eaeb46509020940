"""What a classifier said of each held-out row, kept with it, so that two releases can be compared row by row later.

Customers and rows are kept as hashes: enough to find the same ones again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from training.evaluate import Interval, bootstrap
from training.evaluation.kept import JUDGED
from training.read_back import read_back

FEWEST_ROWS, FEWEST_OF_A_CLASS = 200, 20  # that two have in common, before a difference is taken over them
LOWER_IS_BETTER = ("log_loss", "brier", "ece")


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """The test part of one training; shapes (n,), rows in ascending order, each once."""

    row: NDArray[np.uint64]  # hash of customer, instant and offer
    customer: NDArray[np.uint64]  # hash of the customer
    y: NDArray[np.bool_]
    p: NDArray[np.float32]


def judged_rows(
    customers: Sequence[str],
    us: NDArray[np.int64],
    offers: Sequence[str] | None,
    y: NDArray[np.bool_],
    p: NDArray[np.float64],
) -> JudgedRows:
    """Of several rows with the same customer, instant and offer the first is kept."""
    what = [""] * len(us) if offers is None else offers
    text = (f"{customer}\n{at}\n{of}" for customer, at, of in zip(customers, us.tolist(), what, strict=True))
    row, first = np.unique(np.array([_hashed(one) for one in text], np.uint64), return_index=True)
    customer = np.array([_hashed(one) for one in customers], np.uint64)
    return JudgedRows(row, customer[first], np.asarray(y)[first], np.asarray(p)[first].astype(np.float32))


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def judged_rows_bytes(judged: JudgedRows) -> bytes:
    """An `.npz`; the same rows, the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, row=judged.row, customer=judged.customer, y=judged.y, p=judged.p)
    return buffer.getvalue()


def judged_rows_from(body: bytes, version: str) -> JudgedRows:
    """`BrokenRelease` names the version and the file, where the bytes are cut, garbled, or do not fit together."""
    with read_back(version, JUDGED), np.load(io.BytesIO(body), allow_pickle=False) as read:
        found = JudgedRows(*(read[name] for name in ("row", "customer", "y", "p")))
        shapes = {array.shape for array in (found.row, found.customer, found.y, found.p)}
        if len(shapes) != 1 or found.y.dtype != np.bool_:
            raise ValueError(f"shapes {sorted(shapes)} of the rows, expected one")
        return found


def paired(new: JudgedRows, old: JudgedRows, seed: int = 0) -> tuple[int, dict[str, Interval]]:
    """Over how many rows that both were judged on, and each metric of the new one minus that of the old one.

    With 95 % intervals of a bootstrap over the customers of these rows. Nothing where they are too few, or where most
    have another outcome now, so that they are not the same question.
    """
    _, ours, theirs = np.intersect1d(new.row, old.row, assume_unique=True, return_indices=True)
    same = new.y[ours] == old.y[theirs]
    if same.mean() < 0.5 if len(same) else True:
        return 0, {}
    ours, theirs = ours[same], theirs[same]
    y = new.y[ours]
    if len(y) < FEWEST_ROWS or min(y.sum(), len(y) - y.sum()) < FEWEST_OF_A_CLASS:
        return len(y), {}
    _, clusters = np.unique(new.customer[ours], return_inverse=True)
    p, before = new.p[ours].astype(np.float64), old.p[theirs].astype(np.float64)
    found = bootstrap(y, p, before, clusters.astype(np.int64), np.random.default_rng(seed))
    gains = {name.removesuffix("_gain"): one for name, one in found.items() if name.endswith("_gain")}
    return len(y), {name: _turned(one) if name in LOWER_IS_BETTER else one for name, one in gains.items()}


def _turned(gain: Interval) -> Interval:
    """A gain is positive where less is better; a difference is what it is."""
    return Interval(0.0 - gain.estimate, 0.0 - gain.high, 0.0 - gain.low)
