"""A policy that shows the best, but for its floors: drawn from at once, without a list of all chances."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
from numpy.typing import NDArray

from serving.compiled import compiled
from serving.policies.outlook import Outlook, Tuning

Whole = Callable[[Outlook, NDArray[np.bool_], Tuning, Random], NDArray[np.float64]]


class BestFirst:
    """`policy` with all bound but the offers that are left. `draw` is what a draw from its chances gives."""

    __slots__ = ("_budget", "_epsilon", "_is_new", "_outlook", "_policy", "_rng", "_tuning")

    def __init__(self, policy: Whole, outlook: Outlook, tuning: Tuning, rng: Random, *, explores: bool) -> None:
        self._policy, self._outlook, self._tuning, self._rng = policy, outlook, tuning, rng
        self._is_new = np.zeros(len(outlook.scores), np.bool_) if outlook.is_new is None else outlook.is_new
        self._epsilon, self._budget = (tuning.epsilon, tuning.new_offer_share) if explores else (0.0, 0.0)

    def __call__(self, eligible: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Chance of showing each offer; see `Policy`."""
        return self._policy(self._outlook, eligible, self._tuning, self._rng)

    def draw(
        self, rows: NDArray[np.int64], free: NDArray[np.bool_], priority: NDArray[np.int64], u: float
    ) -> tuple[int, float, int, bool]:
        """Among the free offers of the highest priority: the row that a uniform `u` in [0, 1) picks, its chance, of
        how many it was drawn, and whether it had the best score. Row -1: none has a chance. `rows` are, in order, at
        least all that are free: what was found at an earlier rank.
        """
        row, chance, n, best = _draw(
            self._outlook.scores, rows, free, priority, self._is_new, self._epsilon, self._budget, u
        )
        return int(row), float(chance), int(n), bool(best)


def rows_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where it is True, in order."""
    rows = np.empty(len(mask), np.int64)
    return rows[: _rows(mask, rows)]


@compiled
def _rows(mask, rows):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(len(mask)):  # without branches, which would be guessed wrongly
        rows[n] = i
        n += mask[i]
    return n


@compiled
def _draw(scores, rows, free, priority, is_new, epsilon, budget, u):  # type: ignore[no-untyped-def]
    """The same numbers in the same order as `best_only`, `explored` and `slate.draw` one after the other."""
    highest = np.iinfo(np.int64).min
    best, n, n_best, n_new = -np.inf, 0, 0, 0
    for i in rows:
        if not free[i] or priority[i] < highest:
            continue
        if priority[i] > highest:
            highest = priority[i]
            best, n, n_best, n_new = -np.inf, 0, 0, 0
        n += 1
        n_new += is_new[i]
        if scores[i] > best:
            best, n_best = scores[i], 1
        elif scores[i] == best:
            n_best += 1
    if n == 0:
        return -1, 0.0, 0, False
    if n_new == 0 or n_new == n:
        budget = 0.0
    kept = max(1.0 - epsilon - budget, 0.0)
    floor = epsilon / n
    share = budget / n_new if budget > 0.0 else 0.0
    of_best, of_others = 1.0 / n_best * kept + floor, 0.0 * kept + floor
    passed, last, of_last = 0.0, -1, 0.0
    for i in rows:
        if not free[i] or priority[i] != highest:
            continue
        chance = of_best if scores[i] == best else of_others
        chance += share * is_new[i]
        if chance > 0.0:
            last, of_last = i, chance
            passed += chance
            if passed > u:
                break
    return last, of_last, n, last >= 0 and scores[last] == best
