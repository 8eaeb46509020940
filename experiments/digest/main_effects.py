"""What a segment takes of an offer without a taste of its own: the offer's appeal and the segment's readiness alone.

A logistic model of the segment's values and the offers, without their interaction, fitted to counts; what is further
from it than chance allows is a liking. Residuals are divided by their own standard errors, which are smaller than those
of the counts because the fit follows the counts (leverage).

Source: Haberman 1973, "The analysis of residuals in cross-classified tables"; McCullagh and Nelder 1989, "Generalized
linear models", sections 4.4 and 12.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEPS = 50  # of Newton's method; it needs about six
CLOSE = 1e-9  # change of a log-odds that ends it
STEEPEST = 20.0  # log-odds beyond which nothing changes


class Fitted(NamedTuple):
    """Of each combination, shape (n,)."""

    chance: Floats
    leverage: Floats  # share of the count's variance that the fit took, [0, 1]


def fit(
    rows: Sequence[str], columns: Sequence[str], n: Sequence[int] | Floats, taken: Sequence[int] | Floats
) -> Fitted:
    """Chances of `taken` among n by row and column, each combination once; all arrays of one length."""
    design = _design(rows, columns)
    trials, yes = np.asarray(n, dtype=np.float64), np.asarray(taken, dtype=np.float64)
    odds = np.zeros(design.shape[1])
    chance = _chance(design, odds)
    for _ in range(STEPS):
        weight = trials * chance * (1 - chance)
        step = np.linalg.pinv(design.T @ (weight[:, None] * design)) @ (design.T @ (yes - trials * chance))
        odds = odds + step
        chance = _chance(design, odds)
        if np.abs(design @ step).max(initial=0.0) < CLOSE:
            break
    weight = trials * chance * (1 - chance)
    root = np.sqrt(weight)[:, None] * design
    leverage = np.einsum("ij,jk,ik->i", root, np.linalg.pinv(root.T @ root), root)
    return Fitted(chance, np.clip(leverage, 0.0, 1.0))


def _design(rows: Sequence[str], columns: Sequence[str]) -> Floats:
    parts = [np.ones(len(rows))]
    for names in (rows, columns):
        parts += [np.array([name == one for name in names], dtype=np.float64) for one in sorted(set(names))[1:]]
    return np.stack(parts, axis=1)


def _chance(design: Floats, odds: Floats) -> Floats:
    logit = np.clip(design @ odds, -STEEPEST, STEEPEST)
    return np.asarray(1 / (1 + np.exp(-logit)))
