"""Simulated experiments for proofs: many at once as arrays, with a truth that is known by formula.

Every generator draws units of one arm, shape (n_experiments, 4, n_units), in the order of `cells.NUMBERS`: numerator,
denominator, and both before the experiment. A `lift` is relative and changes the numerator after exposure only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from experiments.cells import NUMBERS, Cell
from experiments.statistics.arms import Kind

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int, float], Floats]


@dataclass(frozen=True, slots=True)
class World:
    """One kind of metric, how it is drawn, and its mean without a lift."""

    name: str
    kind: Kind
    draw: Draw
    level: float
    cuped: bool = False


def revenue(rng: np.random.Generator, n_experiments: int, n_units: int, lift: float) -> Floats:
    """Most customers buy nothing, few buy much: 60 % zeros, else lognormal times their own level; mean 10."""
    shape = n_experiments, n_units
    own = rng.gamma(1.0, 1.0, shape)

    def bought() -> Floats:
        return 10.0 * own * (rng.random(shape) < 0.4) / 0.4 * np.exp(0.8 * rng.normal(size=shape) - 0.32)

    return np.stack([bought() * (1 + lift), np.ones(shape), bought(), np.ones(shape)], axis=1)


def conversion(rng: np.random.Generator, n_experiments: int, n_units: int, lift: float) -> Floats:
    """One in ten converts; whoever did before does so three times as often as the others."""
    shape = n_experiments, n_units
    before = rng.random(shape) < 0.25
    chance = np.where(before, 0.2, 1 / 15)  # 0.25 * 0.2 + 0.75 / 15 = 0.1
    ones = np.ones(shape)
    return np.stack([(rng.random(shape) < chance * (1 + lift)).astype(float), ones, before.astype(float), ones], axis=1)


def clicks(rng: np.random.Generator, n_experiments: int, n_units: int, lift: float) -> Floats:
    """Clicks over impressions; customers differ much in both, and those who click more see more.

    q ~ Beta(0.5, 4.5), impressions 1 + Poisson(90 q): E[n q] / E[n] = (0.1 + 90 * 0.025) / 10 = 0.235.
    """
    shape = n_experiments, n_units
    q = rng.beta(0.5, 4.5, shape)
    seen, seen_before = 1 + rng.poisson(90 * q), 1 + rng.poisson(90 * q)
    clicked = rng.binomial(seen, np.minimum(q * (1 + lift), 1.0))
    return np.stack([clicked, seen, rng.binomial(seen_before, q), seen_before], axis=1).astype(np.float64)


WORLDS = (
    World("revenue per customer", "mean", revenue, 10.0),
    World("revenue per customer, CUPED", "mean", revenue, 10.0, cuped=True),
    World("conversion", "proportion", conversion, 0.1),
    World("conversion, CUPED", "proportion", conversion, 0.1, cuped=True),
    World("click-through", "ratio", clicks, 0.235),
    World("click-through, CUPED", "ratio", clicks, 0.235, cuped=True),
)


@dataclass(frozen=True, slots=True)
class Moments:
    """Counts, means (..., 4) and covariances (..., 4, 4) of many arms at once."""

    n: NDArray[np.int64]
    mean: Floats
    cov: Floats

    def cells(self, metric: str, variant: str, *, cuped: bool, phase: int | None = None) -> list[Cell]:
        """The cells of a flat array of arms."""
        names = NUMBERS if cuped else NUMBERS[:2]
        pairs = [(NUMBERS.index(a), NUMBERS.index(b), a, b) for a, b in combinations_with_replacement(names, 2)]
        return [
            Cell(
                metric=metric,
                variant=variant,
                n=int(n),
                phase=phase,
                **{f"mean_{name}": float(mean[i]) for i, name in enumerate(names)},
                **{(f"var_{a}" if a == b else f"cov_{a}_{b}"): float(cov[i, j]) for i, j, a, b in pairs},
            )
            for n, mean, cov in zip(self.n, self.mean, self.cov, strict=True)
        ]


def moments(units: Floats) -> Moments:
    """Of (n_experiments, 4, n_units)."""
    mean = units.mean(-1)
    centred = units - mean[..., None]
    cov = centred @ centred.swapaxes(-1, -2) / (units.shape[-1] - 1)
    return Moments(np.full(len(units), units.shape[-1]), mean, cov)


def moments_by_look(units: Floats, n_looks: int) -> Moments:
    """Of the units so far at each look, looks equally far apart; shapes begin (n_experiments, n_looks).

    The number of units is a multiple of the number of looks.
    """
    n_experiments, _, n_units = units.shape
    shift = units.mean(axis=(0, -1))
    away = units - shift[:, None]
    blocks = away.reshape(n_experiments, 4, n_looks, n_units // n_looks).swapaxes(1, 2)
    n = n_units // n_looks * np.arange(1, n_looks + 1)
    products = np.cumsum(blocks @ blocks.swapaxes(-1, -2), axis=1)
    mean = np.cumsum(blocks.sum(-1), axis=1) / n[:, None]
    cov = (products - n[:, None, None] * mean[..., :, None] * mean[..., None, :]) / (n[:, None, None] - 1)
    return Moments(np.broadcast_to(n, mean.shape[:2]), mean + shift, cov)


def z_of(control: Moments, variant: Moments, kind: Kind, cuped: bool) -> tuple[Floats, Floats, Floats]:
    """z, difference and its standard error of many comparisons at once; the same formulas as `statistics.arms`.

    The proofs hold it against `compare` on a few experiments before they believe it.
    """
    n = control.n + variant.n
    pooled_mean = (control.n[..., None] * control.mean + variant.n[..., None] * variant.mean) / n[..., None]
    gap = variant.mean - control.mean
    between = gap[..., :, None] * gap[..., None, :] * (control.n * variant.n / n)[..., None, None]
    within = (control.n - 1)[..., None, None] * control.cov + (variant.n - 1)[..., None, None] * variant.cov
    pooled_cov = (within + between) / (n - 1)[..., None, None]
    theta = np.zeros(n.shape)
    if cuped:
        y, x = _gradients(pooled_mean, kind)
        theta = _form(y, pooled_cov, x) / _form(x, pooled_cov, x)
    arms = [_adjusted(arm, kind, theta, cuped) for arm in (control, variant)]
    difference = arms[1][0] - arms[0][0]
    error = np.sqrt(arms[0][1] / control.n + arms[1][1] / variant.n)
    return difference / error, difference, error


def _adjusted(arm: Moments, kind: Kind, theta: Floats, cuped: bool) -> tuple[Floats, Floats]:
    """Mean and variance per unit of the adjusted metric, up to a constant that both arms share."""
    y, x = _gradients(arm.mean, kind)
    level, before = arm.mean[..., 0] / arm.mean[..., 1], arm.mean[..., 2] / arm.mean[..., 3]
    if not cuped:
        return level, _form(y, arm.cov, y)
    gradient = y - theta[..., None] * x
    return level - theta * before, _form(gradient, arm.cov, gradient)


def _gradients(mean: Floats, kind: Kind) -> tuple[Floats, Floats]:
    """Of the metric and of the pre-period's metric by the four numbers (the delta method)."""
    y, x = np.zeros_like(mean), np.zeros_like(mean)
    for gradient, num, den in ((y, 0, 1), (x, 2, 3)):
        gradient[..., num] = 1 / mean[..., den]
        if kind == "ratio":
            gradient[..., den] = -mean[..., num] / mean[..., den] ** 2
    return y, x


def _form(left: Floats, cov: Floats, right: Floats) -> Floats:
    return np.asarray(np.einsum("...i,...ij,...j->...", left, cov, right))
