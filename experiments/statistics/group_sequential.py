"""Group-sequential tests: look many times, reject falsely no more often than alpha, and lose almost no power.

Each look may spend a part of alpha, in proportion to how much of the planned information is in; the boundary of a look
is the value of |z| that spends exactly that part, given that no earlier look stopped. O'Brien-Fleming-type spending
gives early looks next to nothing, so that the last one is nearly a fixed test.

Source: Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials", Biometrika 70; the integration is
the recursion of Armitage, McPherson and Rowe 1969, as in Jennison and Turnbull 2000, chapter 19.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from features.errors import BadInput

Floats = NDArray[np.float64]
LARGEST_Z = 8.5  # beyond it lies less than 1e-16 of a normal law
SMALLEST_SPENT = 1e-14  # a look that may spend less cannot stop
SMALLEST_STEP = 1e-9  # of information between two looks; less is no new look


def spent(fraction: ArrayLike, alpha: float) -> Floats:
    """Two-sided alpha that may be spent up to each information fraction, any shape; fractions over 1 count as 1.

    alpha*(t) = 4 (1 - Phi(z_(alpha/4) / sqrt(t))), which is 2 - 2 Phi(z_(a/2) / sqrt(t)) with a = alpha/2 on either
    side. Source: Lan and DeMets 1983, the first of their spending functions.
    """
    t = np.clip(np.asarray(fraction, dtype=np.float64), 1e-12, 1.0)
    return np.asarray(4.0 * norm.sf(norm.isf(alpha / 4.0) / np.sqrt(t)), dtype=np.float64)


def boundaries(fractions: Sequence[float], alpha: float = 0.05) -> Floats:
    """The |z| at which each look stops, shape (n_looks,); infinite where a look has next to nothing to spend.

    `fractions` is the information at each look over the planned information, increasing; the first look at 1 or more
    is the last that can spend. Looks after it get infinity. Depends on earlier and present looks only: those to come
    need not be known.
    """
    _check(fractions, alpha)
    return np.array(_boundaries(tuple(float(f) for f in fractions), float(alpha)))


@lru_cache(maxsize=256)
def _boundaries(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    found: list[float] = []
    state = _State.start()
    for fraction, allowed in zip(fractions, spent(fractions, alpha), strict=True):
        if state.fraction >= 1.0:
            found.append(math.inf)
            continue
        state = state.step(fraction)
        bound = state.bound_spending(float(allowed) - state.spent)
        state = state.cut(bound)
        found.append(bound)
    return tuple(found)


def crossing(fractions: Sequence[float], bounds: Sequence[float], drift: float = 0.0) -> Floats:
    """Chance of having stopped by each look, shape (n_looks,), when z has mean `drift` * sqrt(fraction).

    With drift 0 this is the false-positive rate of looking that often; with `planned_drift(...)` it is the power.
    """
    _check(fractions, 0.05)
    state, chances = _State.start(), []
    for fraction, bound in zip(fractions, bounds, strict=True):
        state = state.step(fraction, drift).cut(bound, drift)
        chances.append(state.spent)
    return np.array(chances)


def planned_drift(alpha: float = 0.05, power: float = 0.8) -> float:
    """The mean of z at the end of a fixed two-sided test of that power, without the chance of the wrong side."""
    return float(norm.isf(alpha / 2) + norm.ppf(power))


def inflation(n_looks: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """How many times the units of a fixed test are needed for the same power with equally spaced looks."""
    fractions = (np.arange(n_looks) + 1) / n_looks
    bounds = boundaries(tuple(fractions), alpha)
    fixed = planned_drift(alpha, power)

    def missing(drift: float) -> float:
        return float(crossing(tuple(fractions), tuple(bounds), drift)[-1]) - power

    return float((brentq(missing, fixed * 0.9, fixed * 1.3, xtol=1e-6) / fixed) ** 2)


class _State:
    """The law of z at a look among the paths that have not stopped: density `f` at `nodes` with quadrature weights."""

    __slots__ = ("f", "fraction", "nodes", "pending", "spent", "weights")

    def __init__(
        self, fraction: float, nodes: Floats, weights: Floats, f: Floats, spent: float, pending: float | None = None
    ) -> None:
        self.fraction, self.nodes, self.weights, self.f, self.spent = fraction, nodes, weights, f, spent
        self.pending = pending  # the information of the look that is stepped to and not cut yet

    @classmethod
    def start(cls) -> _State:
        return cls(0.0, np.zeros(1), np.ones(1), np.ones(1), 0.0)

    def step(self, fraction: float, drift: float = 0.0) -> _State:
        del drift  # the density is carried at the former look; the move is made where it is integrated
        return _State(self.fraction, self.nodes, self.weights, self.f, self.spent, fraction)

    def outside(self, bound: float, drift: float = 0.0) -> float:
        """Chance of going over `bound` on either side at the pending look, not having stopped before."""
        to, scale = self._moves(drift)
        root = math.sqrt(self._pending())
        over = ndtr(-(bound * root - to) / scale) + ndtr((-bound * root - to) / scale)
        return float((self.weights * self.f * over).sum())

    def bound_spending(self, alpha: float) -> float:
        """The bound that is gone over with chance `alpha`; infinite when that is next to nothing."""
        if alpha < SMALLEST_SPENT:
            return math.inf
        return float(brentq(lambda c: self.outside(c) - alpha, 0.0, LARGEST_Z + 2.0, xtol=1e-10))

    def cut(self, bound: float, drift: float = 0.0) -> _State:
        """The law at the pending look of the paths within `bound`."""
        to, scale = self._moves(drift)
        pending = self._pending()
        root = math.sqrt(pending)
        centre = drift * root
        low, high = max(-bound, centre - LARGEST_Z), min(bound, centre + LARGEST_Z)
        nodes, weights = _quadrature(low, high, scale / root)
        kernel = np.exp(-0.5 * ((nodes[:, None] * root - to[None, :]) / scale) ** 2) * (root / scale / _ROOT_2PI)
        f = kernel @ (self.weights * self.f)
        return _State(pending, nodes, weights, f, self.spent + self.outside(bound, drift))

    def _pending(self) -> float:
        assert self.pending is not None
        return self.pending

    def _moves(self, drift: float) -> tuple[Floats, float]:
        """Where the score z * sqrt(information) goes from each node, and its standard deviation."""
        added = self._pending() - self.fraction
        return self.nodes * math.sqrt(self.fraction) + drift * added, math.sqrt(added)


_ROOT_2PI = math.sqrt(2 * math.pi)


def _quadrature(low: float, high: float, width: float) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes between two bounds, fine enough for a density as narrow as `width`."""
    n = int(np.clip(math.ceil(4.0 * (high - low) / min(width, 1.0)), 32, 1200))
    x, w = _legendre(n)
    half = (high - low) / 2
    return low + half * (x + 1.0), w * half


@lru_cache(maxsize=64)
def _legendre(n: int) -> tuple[Floats, Floats]:
    x, w = np.polynomial.legendre.leggauss(n)
    return x, w


def _check(fractions: Sequence[float], alpha: float) -> None:
    values = np.asarray(fractions, dtype=float)
    if not 0 < alpha < 1:
        raise BadInput(f"alpha is {alpha}, expected between 0 and 1", "alpha")
    if values.size and not (np.isfinite(values).all() and values[0] > 0 and (np.diff(values) > SMALLEST_STEP).all()):
        raise BadInput("the information of the looks must be above 0 and increase from look to look", "fractions")
