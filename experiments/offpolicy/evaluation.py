"""A candidate policy judged on a log: diagnostics, then estimates with intervals, then a verdict if one may be."""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct

from experiments.offpolicy.diagnostics import Overlap, overlap
from experiments.offpolicy.estimators import ESTIMATORS, Parts
from experiments.offpolicy.intervals import Terms, around, bootstrapped, influence, percentiles, standard_error
from experiments.offpolicy.logged import Logged, Numbers
from experiments.offpolicy.reward_models import Fit, cross_fitted
from experiments.offpolicy.variation import n_varied, variation_refusals

HEADLINE = "DR"  # what the verdict is based on
N_SAMPLES = 1_000
Verdict = Literal["higher", "lower", "no difference seen", "no verdict"]


class Estimate(Struct, frozen=True, kw_only=True):
    """One estimator's figure of one policy. Intervals are of the value; None: it could not be computed, as all
    intervals where outcomes do not vary or are of one customer."""

    estimator: str
    value: float | None
    low: float | None  # asymptotic, over units
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    cut: float | None = None  # of Switch-DR and DRos; None: they have none, or cut nothing


class Difference(Struct, frozen=True, kw_only=True):
    """The candidate's value minus another policy's, on the same rows; asymptotic interval."""

    value: float | None
    low: float | None
    high: float | None
    relative: float | None  # by the other's value; None where that is not above 0


class Evaluation(Struct, frozen=True, kw_only=True):
    """What a log says of a candidate policy."""

    n_rows: int
    n_units: int
    n_offers: int
    n_varied: int  # rows with another reward than most
    alpha: float
    logged: Estimate  # of the policies that were logged: the mean reward
    overlap: Overlap
    estimates: tuple[Estimate, ...]  # in the order of ESTIMATORS
    difference: Difference  # of `HEADLINE`, to what was logged
    verdict: Verdict
    reasons: tuple[str, ...]  # why there is no verdict, or what it rests on

    def named(self, estimator: str) -> Estimate:
        return next(one for one in self.estimates if one.estimator == estimator)


class Comparison(Struct, frozen=True, kw_only=True):
    """What a log says of two policies on the same rows."""

    n_rows: int
    n_units: int
    alpha: float
    candidate: Estimate
    other: Estimate
    overlap: Overlap  # of the candidate
    other_overlap: Overlap
    difference: Difference
    verdict: Verdict  # of the candidate against the other
    reasons: tuple[str, ...]


def evaluate(
    logged: Logged,
    *,
    fit: Fit | None = None,
    guessed: Numbers | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    n_samples: int = N_SAMPLES,
    beforehand: tuple[str, ...] = (),
) -> Evaluation:
    """Every estimator on one log. The same arguments give the same figures. `guessed` are a reward model's guesses,
    (n, n_offers), else `fit` is cross-fitted. `beforehand` is known of the log and said before all reasons."""
    guessed = cross_fitted(logged, fit, seed=seed) if guessed is None else guessed
    units, n_units = logged.units
    parts = Parts.of(logged, guessed)
    made = {name: estimator(parts) for name, estimator in ESTIMATORS.items()}
    terms = {"logged": on_policy(logged), **{name: one.terms for name, one in made.items()}}
    samples = bootstrapped(terms, units, n_units, np.random.default_rng(seed), n_samples)
    cuts = {name: one.cut for name, one in made.items()}
    shown = {name: _estimate(name, one, logged, samples[name], alpha, cuts.get(name)) for name, one in terms.items()}
    found, difference = overlap(logged), _difference(terms[HEADLINE], _as_logged(logged, guessed), logged, alpha)
    refused = (*variation_refusals(logged), *found.refusals)
    verdict = _verdict(not refused, difference)
    return Evaluation(
        n_rows=len(logged),
        n_units=n_units,
        n_offers=len(logged.offers),
        n_varied=n_varied(logged),
        alpha=alpha,
        logged=shown.pop("logged"),
        overlap=found,
        estimates=tuple(shown.values()),
        difference=difference,
        verdict=verdict,
        reasons=beforehand + (refused or (_in_words(verdict, difference, alpha, "what was logged"),)),
    )


def compare(
    logged: Logged,
    other: Numbers,
    *,
    fit: Fit | None = None,
    guessed: Numbers | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    n_samples: int = N_SAMPLES,
    names: tuple[str, str] = ("the candidate", "the other policy"),
    beforehand: tuple[str, ...] = (),
) -> Comparison:
    """The log's candidate against another policy's chances, (n, n_offers): what both share cancels out, so the
    difference is known better than either value."""
    guessed = cross_fitted(logged, fit, seed=seed) if guessed is None else guessed
    units, n_units = logged.units
    beside = logged.of(other)
    terms = {
        name: ESTIMATORS[HEADLINE](Parts.of(one, guessed)).terms
        for name, one in (("candidate", logged), ("other", beside))
    }
    samples = bootstrapped(terms, units, n_units, np.random.default_rng(seed), n_samples)
    difference = _difference(terms["candidate"], terms["other"], logged, alpha)
    overlaps = overlap(logged), overlap(beside)
    refused = variation_refusals(logged) + tuple(
        f"{who}: {reason}" for who, one in zip(names, overlaps, strict=True) for reason in one.refusals
    )
    verdict = _verdict(not refused, difference)
    return Comparison(
        n_rows=len(logged),
        n_units=n_units,
        alpha=alpha,
        candidate=_estimate(HEADLINE, terms["candidate"], logged, samples["candidate"], alpha),
        other=_estimate(HEADLINE, terms["other"], logged, samples["other"], alpha),
        overlap=overlaps[0],
        other_overlap=overlaps[1],
        difference=difference,
        verdict=verdict,
        reasons=beforehand + (refused or (_in_words(verdict, difference, alpha, names[1]),)),
    )


def _as_logged(logged: Logged, guessed: Numbers) -> Terms:
    """What the candidate is compared with: the logged policies by the same estimator, whose noise then cancels out,
    where all their chances are known; else the mean reward."""
    if logged.propensity is None:
        return on_policy(logged)
    return ESTIMATORS[HEADLINE](Parts.of(logged.of(logged.propensity), guessed)).terms


def on_policy(logged: Logged) -> Terms:
    """The value of the policies that were logged: nothing to weigh."""
    return Terms(logged.reward, np.ones(len(logged)))


def _estimate(
    name: str, terms: Terms, logged: Logged, samples: Numbers, alpha: float, cut: float | None = None
) -> Estimate:
    units, n_units = logged.units
    low, high = around(terms.value, standard_error(influence(terms), units, n_units), alpha, n_units)
    boot_low, boot_high = percentiles(samples, alpha)
    if not _tells_spread(logged):
        low = high = boot_low = boot_high = float("nan")
    return Estimate(
        estimator=name,
        value=known(terms.value),
        low=known(low),
        high=known(high),
        bootstrap_low=known(boot_low),
        bootstrap_high=known(boot_high),
        cut=None if cut is None else known(cut),
    )


def _difference(one: Terms, other: Terms, logged: Logged, alpha: float) -> Difference:
    units, n_units = logged.units
    value = one.value - other.value
    se = standard_error(influence(one) - influence(other), units, n_units)
    low, high = around(value, se, alpha, n_units) if _tells_spread(logged) else (float("nan"), float("nan"))
    relative = value / other.value if other.value > 0.0 else float("nan")
    return Difference(value=known(value), low=known(low), high=known(high), relative=known(relative))


def _tells_spread(logged: Logged) -> bool:
    """Whether the log tells how outcomes vary, and between whom. Without, resampling gives the same value again and
    again, which is no certainty."""
    return logged.units[1] > 1 and n_varied(logged) > 0


def _verdict(permitted: bool, found: Difference) -> Verdict:
    if not permitted or found.low is None or found.high is None:
        return "no verdict"
    if found.low > 0.0:
        return "higher"
    return "lower" if found.high < 0.0 else "no difference seen"


def _in_words(verdict: Verdict, found: Difference, alpha: float, other: str) -> str:
    if verdict == "no verdict" or found.low is None or found.high is None:
        return "an interval of the difference could not be computed"
    said = {"higher": "is higher than", "lower": "is lower than"}.get(verdict, "cannot be told apart from")
    interval = f"{found.low:+.4g} to {found.high:+.4g}"
    return f"the value {said} that of {other}: {1 - alpha:.0%} interval of the difference {interval}"


def known(value: float) -> float | None:
    """None stands for what could not be computed; nothing does so silently as a number."""
    return value if np.isfinite(value) else None
