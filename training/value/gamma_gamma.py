"""Gamma-Gamma: how large a customer's next purchases will be, between the own mean and everybody's.

Purchases of a customer vary around a mean that differs between customers (gamma: p, v; gamma: q). Source: Fader and
Hardie, The Gamma-Gamma model of monetary value (2013). It takes the size of purchases to say nothing of how often they
come; `correlation` says how far that holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import NotTrainable
from training.value.bgnbd import MIN_REPEATERS
from training.value.history import Numbers, Repeats

FAR = 12.0  # no parameter's logarithm is further from 0


@dataclass(frozen=True, slots=True)
class GammaGamma:
    """Its three parameters, p and v above 0, q above 1; v is in the currency."""

    p: float
    q: float
    v: float
    log_likelihood: float = float("nan")
    correlation: float = float("nan")  # of frequency and mean value, among those who bought again

    @property
    def mean(self) -> float:
        """The expected purchase of a customer of whom nothing is known, currency."""
        return self.p * self.v / (self.q - 1.0)

    def spend(self, of: Repeats) -> Numbers:
        """The expected value of one purchase, (n,), currency; `mean` for who has not bought again."""
        x = np.where(np.isnan(of.spend), 0.0, of.frequency)
        own = np.where(np.isnan(of.spend), 0.0, of.spend)
        return self.p * (self.v + x * own) / (self.p * x + self.q - 1.0)


def fit_gamma_gamma(of: Repeats, weights: Numbers | None = None) -> GammaGamma:
    """Maximum likelihood over the customers who bought again, for a value.

    `NotTrainable` without money, with too few customers, or where customers differ so much that there is no mean.
    """
    from scipy.optimize import minimize

    known = (of.frequency > 0) & (of.spend > 0)
    if not known.any():
        raise NotTrainable("customer value", "no repeated purchase has a value: purchases are counted, not valued")
    if int(known.sum()) < MIN_REPEATERS:
        raise NotTrainable(
            "customer value",
            f"{int(known.sum())} customers bought again for a value; {MIN_REPEATERS} are needed",
        )
    x, m = of.frequency[known], of.spend[known]
    w = np.ones(len(x)) if weights is None else weights[known]
    unit = float(np.median(m))  # the search is easier around 1
    found = minimize(
        _loss, np.log([2.0, 3.0, 2.0]), args=(x, m / unit, w), jac=True, method="L-BFGS-B",
        bounds=[(-FAR, FAR)] * 3, options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9},
    )  # fmt: skip
    p, q, v = np.exp(found.x).tolist()
    if not np.isfinite(found.fun) or (np.abs(found.x) > FAR - 1e-6).any() or q <= 1.0:
        raise NotTrainable(
            "customer value", f"purchases have no finite mean by Gamma-Gamma: p = {p:.3g}, q = {q:.3g}, expected q > 1"
        )
    spread = x.std() > 0 and m.std() > 0
    log_likelihood = -(float(found.fun) + float(np.log(unit))) * float(w.sum())  # the density of m, not of m / unit
    return GammaGamma(p, q, v * unit, log_likelihood, float(np.corrcoef(x, m)[0, 1]) if spread else float("nan"))


def _loss(at: Numbers, x: Numbers, m: Numbers, w: Numbers) -> tuple[float, NDArray[np.float64]]:
    """Minus the mean log-likelihood at the parameters' logarithms, with its gradient."""
    from scipy.special import gammaln, psi

    p, q, v = np.exp(at)
    px, all_of_it = p * x, x * m + v
    total = (
        gammaln(px + q) - gammaln(px) - gammaln(q) + q * np.log(v) + (px - 1.0) * np.log(m) + px * np.log(x)
        - (px + q) * np.log(all_of_it)
    )  # fmt: skip
    slopes = (
        x * (psi(px + q) - psi(px) + np.log(m) + np.log(x) - np.log(all_of_it)),
        psi(px + q) - psi(q) + np.log(v) - np.log(all_of_it),
        q / v - (px + q) / all_of_it,
    )
    size = w.sum()
    return float(-(w * total).sum() / size), -np.array([(w * s).sum() for s in slopes]) / size * np.exp(at)
