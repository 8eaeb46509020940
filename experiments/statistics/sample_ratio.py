"""Sample ratio: did the variants get the shares of units that they were given? If not, nothing else can be believed.

The chi-squared test is for one look at the end. The sequential multinomial test may be looked at after every unit: its
Bayes factor of "any shares" against "the given shares" exceeds 1/alpha at any time with chance alpha at most. Phases
have their own shares; their chi-squared sums add up, their Bayes factors multiply.

Source: Lindon and Malek 2022, "Anytime-valid inference for multinomial count data", NeurIPS (arXiv:2011.03567),
theorem 3.1; Pearson 1900.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import chi2

from features.errors import BadInput

CONCENTRATION = 1_000.0  # of the Dirichlet prior around the given shares: it looks for deviations of some percent
SUSPICIOUS = 0.01  # p-value under which an experiment is not to be trusted
SMALLEST_EXPECTED = 5.0  # units per variant that chi-squared needs; Cochran 1954


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected and found; p-values are None where they could not be computed, and why is in `flags`."""

    observed: dict[str, int]  # units by variant, over all phases
    expected: dict[str, float]
    p_chi2: float | None
    p_sequential: float | None  # smallest so far, valid at every look
    mismatch: bool
    flags: tuple[str, ...] = ()


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one phase: how they were to be split, and the cumulative counts at each look, earliest first."""

    phase: int
    weights: dict[str, float]
    looks: tuple[dict[str, int], ...]


def sample_ratio(phases: Sequence[Counted], alpha: float = SUSPICIOUS) -> SampleRatio:
    """Both tests over all phases, on their last looks and on all of them."""
    for phase in phases:
        if abs(sum(phase.weights.values()) - 1.0) > 1e-6:
            total = sum(phase.weights.values())
            raise BadInput(f"the weights of phase {phase.phase} sum to {total:g}, expected 1", "weights")
    observed, expected = _totals(phases)
    flags, p_chi2, p_sequential = [], None, None
    if not sum(observed.values()):
        flags.append("no unit was exposed yet")
    else:
        p_sequential = sequential_p(phases)
        p_chi2 = chi2_p(phases)
        stray = [
            name for phase in phases for name in _last(phase) if not phase.weights.get(name) and _last(phase)[name]
        ]
        if stray:
            p_sequential = p_chi2 = 0.0
            flags.append(f"units in variants that were to get none: {', '.join(sorted(set(stray)))}")
        elif p_chi2 is None:
            flags.append(f"too few units for chi-squared: it needs {SMALLEST_EXPECTED:g} expected in each variant")
    return SampleRatio(
        observed=observed,
        expected=expected,
        p_chi2=p_chi2,
        p_sequential=p_sequential,
        mismatch=p_sequential is not None and p_sequential < alpha,
        flags=tuple(flags),
    )


def chi2_p(phases: Sequence[Counted]) -> float | None:
    """Of the last look of each phase; None if a variant expects fewer than five units in every phase."""
    statistic, degrees = 0.0, 0
    for phase in phases:
        counts, shares = _arrays(phase)
        if not len(counts) or counts[-1].sum() * shares.min() < SMALLEST_EXPECTED:
            continue
        want = counts[-1].sum() * shares
        statistic += float(((counts[-1] - want) ** 2 / want).sum())
        degrees += len(shares) - 1
    return float(chi2.sf(statistic, degrees)) if degrees else None


def sequential_p(phases: Sequence[Counted]) -> float:
    """One over the largest Bayes factor so far, at most 1; later phases go on from where earlier ones ended."""
    carried, largest = 0.0, 0.0
    for phase in phases:
        counts, shares = _arrays(phase)
        if not len(counts):
            continue
        path = carried + log_bayes_factor(counts, shares)
        largest = max(largest, float(path.max()))
        carried = float(path[-1])
    return math.exp(-largest)


def log_bayes_factor(counts: ArrayLike, shares: ArrayLike, concentration: float = CONCENTRATION) -> NDArray[np.float64]:
    """Log of the odds for some other shares against the given ones; `counts` (..., k), `shares` (k,) -> (...,).

    The prior of the shares is Dirichlet(concentration * shares):
    B(a + counts) / B(a) / prod(shares ** counts), which is a martingale from 1 when the given shares hold.
    """
    x = np.asarray(counts, dtype=np.float64)
    theta = np.asarray(shares, dtype=np.float64)
    a = concentration * theta
    posterior = gammaln(a + x).sum(-1) - gammaln(concentration + x.sum(-1))
    prior = gammaln(a).sum() - gammaln(concentration)
    return np.asarray(posterior - prior - (x * np.log(theta)).sum(-1))


def _arrays(phase: Counted) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts (n_looks, k) and shares (k,) of the variants that were to get units."""
    names = [name for name, weight in phase.weights.items() if weight > 0]
    counts = np.array([[look.get(name, 0) for name in names] for look in phase.looks], dtype=np.float64)
    return counts.reshape(len(phase.looks), len(names)), np.array([phase.weights[name] for name in names])


def _totals(phases: Sequence[Counted]) -> tuple[dict[str, int], dict[str, float]]:
    observed: dict[str, int] = {}
    expected: dict[str, float] = {}
    for phase in phases:
        last = _last(phase)
        for name, weight in phase.weights.items():
            observed[name] = observed.get(name, 0) + last.get(name, 0)
            expected[name] = expected.get(name, 0.0) + sum(last.values()) * weight
    return observed, expected


def _last(phase: Counted) -> Mapping[str, int]:
    return phase.looks[-1] if phase.looks else {}
