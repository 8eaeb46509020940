"""What became of the offers of one placement: how many each rule dropped, and which had run out.

One pass over the offers, for the log's row and for the metrics.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled

if TYPE_CHECKING:
    from serving.drafting import Drafted

STOCK_RULES = frozenset({"inventory", "budget", "pacing"})


class Counted(NamedTuple):
    """One placement's offers, counted."""

    dropped: dict[str, int]  # by rule
    n_in_draw: int
    out_of_stock: NDArray[np.int64]  # rows that a rule of the stock dropped


def counted(names: tuple[str, ...], drafted: Drafted, into: NDArray[np.int64] | None = None) -> Counted:
    """`names` are the rules'. Each drop is added to `into`, int64 of shape (n_rules + 1, n_columns); offers behind the
    last column count there, and the last row is not touched.
    """
    if into is None:
        into = _nowhere(len(names))
    counts, rows = _count(drafted.dropped_by, drafted.in_draw, _of_stock(names), into)
    _, *dropped, n_in_draw = counts.tolist()
    return Counted({name: n for name, n in zip(names, dropped, strict=True) if n}, n_in_draw, rows)


@lru_cache(maxsize=16)
def _of_stock(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """No rule, then which of the rules ask the stock; (1 + n_rules,)."""
    return np.array([False, *(name in STOCK_RULES for name in names)], np.bool_)


@lru_cache(maxsize=16)
def _nowhere(n_rules: int) -> NDArray[np.int64]:
    return np.zeros((n_rules + 1, 0), np.int64)


@compiled
def _count(dropped_by, in_draw, of_stock, into):  # type: ignore[no-untyped-def]
    """How many offers no rule dropped, and each; then how many were in the draw. And the rows that were out of stock.

    Shapes (n_offers,), (n_offers,), (1 + n_rules,), (n_rules + 1, n_columns) -> (2 + n_rules,), (n_out_of_stock,). The
    first loop is without branches: whether a rule dropped an offer is anybody's guess, a processor's too.
    """
    counts = np.zeros(len(of_stock) + 1, np.int64)
    for rule in dropped_by:
        counts[np.uint8(rule + 1)] += 1
    n_in_draw = 0
    for one in in_draw:
        n_in_draw += one
    counts[-1] = n_in_draw
    n_out = 0
    for rule in range(len(of_stock)):
        n_out += counts[rule] * of_stock[rule]
    rows = np.empty(n_out + 1, np.int64)  # one more: each is written where the next one goes
    if n_out:
        n = 0
        for row in range(len(dropped_by)):
            rows[n] = row
            n += of_stock[dropped_by[row] + 1]
    last = into.shape[1] - 1
    if last >= 0:
        for row in range(len(dropped_by)):
            rule = dropped_by[row]
            into[rule, min(row, last)] += rule >= 0  # by -1 the last row is meant, and nothing added
    return counts, rows[:n_out]


def warm() -> None:
    """Compile the loop, or load it from the machine's cache, before a decision waits for it."""
    _count(np.full(2, -1, np.int8), np.zeros(2, np.bool_), np.zeros(2, np.bool_), np.zeros((2, 2), np.int64))
