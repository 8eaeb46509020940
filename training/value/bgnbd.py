"""BG/NBD: how many purchases a customer will make, and whether there will be any.

Purchases come at a rate that differs between customers (gamma: r, alpha); after each, the customer drops out with a
probability that differs too (beta: a, b). Source: Fader, Hardie and Lee, "Counting your customers" the easy way,
Marketing Science 24 (2005), equations (6) to (10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.errors import NotTrainable
from training.value.history import Numbers, Repeats

MIN_CUSTOMERS, MIN_REPEATERS = 100, 30
MOST_TERMS, SMALL = 500, 1e-12  # of a series, and of what is left out of it
# Where a likelihood still rises, a parameter stands for its limit: all customers alike, or nobody who ever leaves.
LEAST, MOST = 1e-4, {"r": 1e4, "alpha": 1e7, "a": 50.0, "b": 1e4}
LITTLE = 0.01  # a mean chance to leave that a and b at their limits may have made: 50 of 10,050 is the most


@dataclass(frozen=True, slots=True)
class BgNbd:
    """Its four parameters, all above 0; time in days."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float = float("nan")  # of all customers it was fitted on

    @property
    def leaving(self) -> float:
        """The mean chance to drop out after a purchase."""
        return self.a / (self.a + self.b)

    @property
    def at_limit(self) -> tuple[str, ...]:
        """The parameters for which the data know no finite value above 0."""
        return tuple(name for name, most in MOST.items() if not LEAST * 1.001 < getattr(self, name) < most * 0.999)

    @property
    def knows_leaving(self) -> bool:
        """Whether purchases show that customers leave for good; if not, `p_active` is 1 for anybody's silence."""
        return self.leaving >= LITTLE or not {"a", "b"} & set(self.at_limit)

    def p_active(self, of: Repeats) -> Numbers:
        """The chance that the customer has not dropped out, (n,); 1 for who bought once, as that follows a repeat."""
        return 1.0 / (1.0 + self._odds_of_gone(of))

    def purchases(self, of: Repeats, days: float) -> Numbers:
        """Expected purchases in the next `days`, (n,)."""
        return self.purchases_if_active(of, days) * self.p_active(of)

    def purchases_if_active(self, of: Repeats, days: float) -> Numbers:
        """Expected purchases in the next `days` of a customer who has not dropped out yet, (n,).

        The hypergeometric function stands after Euler's transformation, in which many purchases do not overflow.
        """
        a = self.a if abs(self.a - 1.0) > 1e-6 else 1.0 + 1e-6  # where the formula has its limit
        x, seen = of.frequency, self.alpha + of.age
        z = days / (seen + days)
        series = _hypergeometric(a + self.b - 1.0 - self.r, a - 1.0, a + self.b + x - 1.0, z)
        found: Numbers = (a + self.b + x - 1.0) / (a - 1.0) * (1.0 - (1.0 - z) ** (a - 1.0) * series)
        return found

    def _odds_of_gone(self, of: Repeats) -> Numbers:
        x = of.frequency
        with np.errstate(over="ignore"):
            longer = ((self.alpha + of.age) / (self.alpha + of.recency)) ** (self.r + x)
        return np.where(x > 0, self.a / np.maximum(self.b + x - 1.0, 1e-12) * longer, 0.0)


def _hypergeometric(a: float, b: float, c: Numbers, z: Numbers) -> Numbers:
    """Gauss's 2F1(a, b; c; z) for 0 <= z < 1, (n,), by its series.

    SciPy's gives inf or NaN where c is large and z near 1, where the series is short; where it is long, c is small.
    """
    from scipy.special import hyp2f1

    total, term = np.ones(len(c)), np.ones(len(c))
    rest = np.arange(len(c))
    for k in range(MOST_TERMS):
        term = term * ((a + k) * (b + k) / (k + 1.0)) / (c[rest] + k) * z[rest]
        total[rest] += term
        open_still = np.abs(term) > SMALL * (1.0 - z[rest]) * np.abs(total[rest])
        rest, term = rest[open_still], term[open_still]
        if not rest.size:
            return total
    total[rest] = hyp2f1(a, b, c[rest], z[rest])
    return total


def fit_bgnbd(of: Repeats, weights: Numbers | None = None) -> BgNbd:
    """Maximum likelihood; `weights` (n,) count customers more than once, as a bootstrap does.

    A parameter for which the data know no finite value is at its limit, and `at_limit` names it. `NotTrainable` with
    too few customers, or too few who bought again.
    """
    from scipy.optimize import minimize

    n, again = len(of), int((of.frequency > 0).sum())
    if n < MIN_CUSTOMERS or again < MIN_REPEATERS:
        raise NotTrainable(
            "customer value",
            f"{n} customers bought, {again} of them again; {MIN_CUSTOMERS} and {MIN_REPEATERS} are needed",
        )
    w = np.ones(n) if weights is None else weights
    start = np.log([1.0, max(float(of.age.mean()), 1e-3), 1.0, 2.0])
    bounds = [(np.log(LEAST), np.log(most)) for most in MOST.values()]
    found = minimize(
        _loss, start, args=(of.frequency, of.recency, of.age, w), jac=True, method="L-BFGS-B",
        bounds=bounds, options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9},
    )  # fmt: skip
    r, alpha, a, b = np.exp(found.x).tolist()
    if not np.isfinite(found.fun):
        raise NotTrainable("customer value", f"the likelihood of BG/NBD is not finite on {n} customers")
    return BgNbd(r, alpha, a, b, -float(found.fun) * float(w.sum()))


def _loss(at: Numbers, x: Numbers, recency: Numbers, age: Numbers, w: Numbers) -> tuple[float, NDArray[np.float64]]:
    """Minus the mean log-likelihood at the parameters' logarithms, with its gradient."""
    from scipy.special import betaln, gammaln, psi

    r, alpha, a, b = np.exp(at)
    again = x > 0
    lived = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    less = np.where(again, b + x - 1.0, 1.0)
    left = np.where(again, betaln(a + 1.0, less) - betaln(a, b) - (r + x) * np.log(alpha + recency), -np.inf)
    both = np.logaddexp(lived, left)
    total = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + both
    is_left = np.exp(left - both)
    is_alive = 1.0 - is_left
    of_a = psi(a + b) - psi(a + b + x)
    slopes = (
        psi(r + x) - psi(r) + np.log(alpha) - is_alive * np.log(alpha + age) - is_left * np.log(alpha + recency),
        r / alpha - (r + x) * (is_alive / (alpha + age) + is_left / (alpha + recency)),
        of_a + is_left / a,
        is_alive * psi(b + x) + is_left * psi(less) - psi(b) + of_a,
    )
    size = w.sum()
    gradient = -np.array([(w * slope).sum() for slope in slopes]) / size * np.exp(at)
    return float(-(w * total).sum() / size), gradient
