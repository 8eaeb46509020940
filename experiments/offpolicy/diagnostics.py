"""Whether a log can say anything of a candidate policy: looked at before any estimate is.

The rule: no verdict when the effective sample size is under 200 or under 1 % of the rows, when one row holds over 5 %
of the weight, or when the mean weight is further from 1 than three of its standard errors. Where all chances of the
logged policy are known, also when over 5 % of what the candidate would show could never have been logged.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from experiments.offpolicy.intervals import Terms, influence, standard_error
from experiments.offpolicy.logged import Logged

LEAST_EFFECTIVE, LEAST_SHARE = 200.0, 0.01
LARGEST_SHARE = 0.05
STANDARD_ERRORS = 3.0
UNSUPPORTED_SHARE = 0.05
ROUNDING = 1e-6  # of a mean weight whose standard error is 0


class Overlap(Struct, frozen=True, kw_only=True):
    """How far a candidate's choices are among those that were logged."""

    n_rows: int
    n_units: int
    effective_rows: float  # Kish: the square of the sum of weights by the sum of their squares
    largest_weight: float
    largest_share: float  # of all weight in one row, [0, 1]
    mean_weight: float
    mean_weight_se: float  # over rows: given what was known before each draw, its weight has mean 1
    unsupported: float | None  # share of the candidate's choices that could never be logged; None: not known
    refusals: tuple[str, ...]  # why there is no verdict, as sentences; empty: there may be one

    @property
    def permits(self) -> bool:
        """Whether overlap permits a verdict."""
        return not self.refusals


def overlap(logged: Logged) -> Overlap:
    """The diagnostics of a candidate's weights. Source: Kish, Survey Sampling (1965), 11.7 (effective sample size)."""
    weights = logged.weights
    n, total = len(logged), float(weights.sum())
    terms = Terms(weights, np.ones(n))
    mean_se = standard_error(influence(terms), np.arange(n), n)
    unsupported = None
    if logged.propensity is not None:
        unsupported = float(logged.chances[logged.propensity <= 0.0].sum()) / n
    effective = total**2 / float(weights @ weights) if total > 0.0 else 0.0
    largest_share = float(weights.max()) / total if total > 0.0 else 1.0
    found = Overlap(
        n_rows=n,
        n_units=logged.units[1],
        effective_rows=effective,
        largest_weight=float(weights.max()),
        largest_share=largest_share,
        mean_weight=terms.value,
        mean_weight_se=mean_se,
        unsupported=unsupported,
        refusals=(),
    )
    return replace(found, refusals=_refusals(found))


def _refusals(found: Overlap) -> tuple[str, ...]:
    said = []
    if found.effective_rows < LEAST_EFFECTIVE:
        said.append(
            f"the log is worth {found.effective_rows:,.0f} rows for this policy, at least {LEAST_EFFECTIVE:.0f} are "
            "needed"
        )
    if found.effective_rows < LEAST_SHARE * found.n_rows:
        said.append(
            f"the log is worth {found.effective_rows / found.n_rows:.2%} of its {found.n_rows:,} rows for this policy, "
            f"at least {LEAST_SHARE:.0%} are needed"
        )
    if found.largest_share > LARGEST_SHARE:
        said.append(
            f"one row holds {found.largest_share:.0%} of the weight ({found.largest_weight:,.1f}), at most "
            f"{LARGEST_SHARE:.0%} are allowed"
        )
    if not abs(found.mean_weight - 1.0) <= STANDARD_ERRORS * found.mean_weight_se + ROUNDING:
        said.append(
            f"the mean weight is {found.mean_weight:.3f} ± {found.mean_weight_se:.3f}, which is further from 1 than "
            f"{STANDARD_ERRORS:.0f} standard errors: the logged chances are wrong, or offers are missing from the log"
        )
    if found.unsupported is not None and found.unsupported > UNSUPPORTED_SHARE:
        said.append(
            f"{found.unsupported:.0%} of what this policy would show could never have been logged, at most "
            f"{UNSUPPORTED_SHARE:.0%} are allowed"
        )
    return tuple(said)
