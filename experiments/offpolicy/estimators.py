"""Estimators of what a policy would have earned, as sums over logged rows; ESTIMATORS in the order reports show them.

Each takes the log, with the candidate's chances, and the reward model's guesses q, (n, n_offers); w is how much more
often the candidate would have shown what was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.offpolicy.intervals import Terms
from experiments.offpolicy.logged import Logged

Numbers = NDArray[np.float64]
CUTS = (1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, np.inf)


@dataclass(frozen=True, slots=True)
class Parts:
    """What all estimators are made of; shapes (n,)."""

    reward: Numbers
    weights: Numbers
    guessed: Numbers  # q of what was shown
    expected: Numbers  # q under the candidate's chances

    @classmethod
    def of(cls, logged: Logged, q: Numbers) -> Parts:
        guessed = q[np.arange(len(logged)), logged.action]
        return cls(logged.reward, logged.weights, guessed, np.einsum("ij,ij->i", logged.chances, q))


@dataclass(frozen=True, slots=True)
class Estimated:
    """An estimator's sums, and the cut it chose, if it has one."""

    terms: Terms
    cut: float | None = None


Estimator = Callable[[Parts], Estimated]


def direct(parts: Parts) -> Estimated:
    """DM: what the reward model expects of the candidate's choices. As biased as the model is; its interval leaves the
    model's own error out."""
    return _mean(parts.expected)


def ips(parts: Parts) -> Estimated:
    """IPS: rewards weighted by w. Unbiased, of high variance. Source: Horvitz & Thompson, JASA 47 (1952)."""
    return _mean(parts.weights * parts.reward)


def snips(parts: Parts) -> Estimated:
    """SNIPS: IPS by the mean weight; within the range of the rewards, and indifferent to a constant added to them.
    Source: Swaminathan & Joachims, The self-normalized estimator for counterfactual learning, NeurIPS 2015.
    """
    return Estimated(Terms(parts.weights * parts.reward, parts.weights))


def doubly_robust(parts: Parts) -> Estimated:
    """DR: DM, corrected by what weighted residuals say. Unbiased when the chances are right, whatever the model.
    Source: Dudik, Erhan, Langford & Li, Doubly robust policy evaluation and optimization, Stat. Sci. 29 (2014).
    """
    return _mean(_corrected(parts, parts.weights))


def switch_dr(parts: Parts) -> Estimated:
    """Switch-DR: rows whose w is above a cut are left to the model. The cut is chosen by estimated squared error.
    Source: Wang, Agarwal & Dudik, Optimal and adaptive off-policy evaluation in contextual bandits, ICML 2017.
    """
    return _best_of(parts, switched)


def dr_os(parts: Parts) -> Estimated:
    """DRos: w shrunk to cut w / (w^2 + cut), the optimistic shrinkage. The cut is chosen by estimated squared error.
    Source: Su, Dimakopoulou, Krishnamurthy & Dudik, Doubly robust off-policy evaluation with shrinkage, ICML 2020.
    """
    return _best_of(parts, shrunk)


ESTIMATORS: Mapping[str, Estimator] = {
    "DM": direct,
    "IPS": ips,
    "SNIPS": snips,
    "DR": doubly_robust,
    "Switch-DR": switch_dr,
    "DRos": dr_os,
}


def switched(weights: Numbers, cut: float) -> Numbers:
    return np.where(weights <= cut, weights, 0.0)


def shrunk(weights: Numbers, cut: float) -> Numbers:
    return weights if np.isinf(cut) else cut * weights / (weights**2 + cut)


def at_cut(parts: Parts, change: Callable[[Numbers, float], Numbers], cut: float) -> Estimated:
    """Switch-DR (`switched`) or DRos (`shrunk`) with a cut of one's own choice."""
    return Estimated(_mean(_corrected(parts, change(parts.weights, cut))).terms, cut)


def _best_of(parts: Parts, change: Callable[[Numbers, float], Numbers], cuts: tuple[float, ...] = CUTS) -> Estimated:
    """The cut with the smallest estimated variance + bias^2. What was cut off estimates the bias; that estimate is
    noisy too, so one standard error is added to it, and little is cut where little is known.
    Source: after Su et al., 2020, section 5, with a bound that does not depend on the currency.
    """
    n, found = len(parts.reward), []
    for cut in cuts:
        kept = change(parts.weights, cut)
        cut_off = (parts.weights - kept) * (parts.reward - parts.guessed)
        bias = abs(float(cut_off.mean())) + float(cut_off.std()) / np.sqrt(n)
        found.append((float(_corrected(parts, kept).var()) / n + bias**2, -cut))  # of equals, what cuts least
    return at_cut(parts, change, -min(found)[1])


def _corrected(parts: Parts, weights: Numbers) -> Numbers:
    return parts.expected + weights * (parts.reward - parts.guessed)


def _mean(rows: Numbers) -> Estimated:
    return Estimated(Terms(rows, np.ones(len(rows))))
