"""Experiments whose truth was planted: what the analysis found of it, and whether the whole chain can be believed.

An experiment without a planted effect, an A/A test, is one with a truth of 0. One run tells of many experiments at
once, each in a layer of its own: their assignments are independent, so each sees the others' effects in both variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from scipy.stats import binom, norm

from experiments.analysis import analyse
from experiments.assignment import variants_of
from experiments.statistics.effect import Effect
from experiments.tables import Tables
from features.experiment import Experiment

CHANCE = 1e-4  # that a chain in order is said to be broken, per statement
RATIO_P = 1e-6  # sample-ratio p-value below which an assignment is not what it should be


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment as it ran, and by how much its variant really changes each metric, relative to control."""

    experiment: Experiment
    truth: Mapping[str, float]

    @property
    def is_null(self) -> bool:
        return not any(self.truth.values())


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one experiment. None: it could not be computed."""

    experiment_id: str
    metric: str
    planted: float
    found: float | None
    low: float | None
    high: float | None
    p_value: float | None
    is_null: bool
    primary: bool

    @property
    def covered(self) -> bool | None:
        if self.low is None or self.high is None:
            return None
        return self.low <= self.planted <= self.high

    @property
    def z(self) -> float | None:
        """How many standard errors the estimate is from the truth."""
        if self.found is None or self.low is None or self.high is None or self.high <= self.low:
            return None
        return (self.found - self.planted) / ((self.high - self.low) / (2 * float(norm.ppf(0.975))))


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """Whether everybody who came was exposed once, to the variant that the documented formula names."""

    experiment_id: str
    n_units: int  # counted by the analysis
    n_wrong: int  # exposed to another variant than the formula's
    n_missing: int  # came and should have been exposed, and were not
    n_crossed: int
    sample_ratio_p: float | None
    verdict: str


class Claim(msgspec.Struct, frozen=True):
    """One statement about the chain."""

    holds: bool
    sentence: str


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run of planted experiments said."""

    n_visitors: int
    recovered: tuple[Recovered, ...]
    assigned: tuple[Assigned, ...]
    claims: tuple[Claim, ...]

    @property
    def holds(self) -> bool:
        return all(one.holds for one in self.claims)


def recover(planted: Sequence[Planted], tables: Tables, at: datetime, visitors: Sequence[str]) -> Chain:
    """What the analysis finds by `at`; `visitors` are the units that came."""
    recovered: list[Recovered] = []
    assigned: list[Assigned] = []
    for one in planted:
        analysis = analyse(one.experiment, tables, at, looks=())  # one look, at the end
        recovered += [
            _recovered(one, effect, primary=group.role == "primary")
            for group in analysis.metrics
            for effect in group.effects
        ]
        wrong, missing = _astray(one.experiment, tables, visitors)
        ratio = analysis.sample_ratio.p_chi2
        assigned.append(
            Assigned(
                experiment_id=one.experiment.experiment_id,
                n_units=analysis.n_units,
                n_wrong=wrong,
                n_missing=missing,
                n_crossed=analysis.n_crossed,
                sample_ratio_p=ratio,
                verdict=analysis.verdict.decision,
            )
        )
    return Chain(
        n_visitors=len(visitors),
        recovered=tuple(recovered),
        assigned=tuple(assigned),
        claims=tuple(claims(recovered, assigned)),
    )


def _recovered(one: Planted, effect: Effect, *, primary: bool) -> Recovered:
    return Recovered(
        experiment_id=one.experiment.experiment_id,
        metric=effect.metric,
        planted=one.truth[effect.metric],
        found=effect.relative,
        low=effect.relative_low,
        high=effect.relative_high,
        p_value=effect.p_value,
        is_null=one.is_null,
        primary=primary,
    )


def _astray(experiment: Experiment, tables: Tables, visitors: Sequence[str]) -> tuple[int, int]:
    """Exposures that the formula contradicts, and visitors without one."""
    rows = tables.db.execute(
        "SELECT unit_id, variant FROM exposures WHERE experiment_id = $1", [experiment.experiment_id]
    ).fetchall()
    names = [variant.name for variant in experiment.variants]
    should = dict(zip(visitors, variants_of(experiment, visitors).tolist(), strict=True))
    met = dict(rows)
    wrong = sum(should.get(unit, -1) < 0 or names[should[unit]] != variant for unit, variant in rows)
    return wrong + len(rows) - len(met), sum(at >= 0 and unit not in met for unit, at in should.items())


def claims(recovered: Sequence[Recovered], assigned: Sequence[Assigned], alpha: float = 0.05) -> list[Claim]:
    """What must hold of a chain in order. Where chance has a part, it breaks a statement once in `1 / CHANCE` runs."""
    n_astray = sum(one.n_wrong + one.n_missing + one.n_crossed for one in assigned)
    found = [Claim(n_astray == 0, f"{n_astray} units were exposed otherwise than the formula of assignment says")]
    ratios = [one.sample_ratio_p for one in assigned if one.sample_ratio_p is not None]
    lowest = min(ratios, default=1.0)
    found.append(Claim(lowest >= RATIO_P, f"the lowest p-value of {len(ratios)} sample ratios is {lowest:.2g}"))
    null = [one for one in recovered if one.is_null and one.primary]
    unknown = [one for one in recovered if one.z is None]
    found.append(Claim(not unknown, f"{len(unknown)} of {len(recovered)} effects could not be computed"))
    if null:
        wrong = sum(one.p_value is not None and one.p_value < alpha for one in null)
        most = int(binom.isf(CHANCE, len(null), alpha))
        said = f"{wrong} of {len(null)} A/A tests are significant at {alpha:g}; by chance up to {most} could be"
        found.append(Claim(wrong <= most, said))
    known = [one for one in recovered if one.primary and one.covered is not None]
    if known:
        covered, least = sum(bool(one.covered) for one in known), int(binom.ppf(CHANCE, len(known), 1 - alpha))
        said = f"{covered} of {len(known)} intervals hold the planted effect; by chance as few as {least} could"
        found.append(Claim(covered >= least, said))
    farthest = max((abs(one.z) for one in recovered if one.z is not None), default=0.0)
    limit = float(norm.isf(CHANCE / 2 / max(len(recovered), 1)))
    said = f"no estimate is more than {farthest:.1f} standard errors from its truth; by chance up to {limit:.1f}"
    found.append(Claim(farthest <= limit, said))
    return found


def table(chain: Chain) -> tuple[list[str], list[list[str]]]:
    """Header and a row per experiment and metric: planted ones in full, of A/A tests the primary metric."""
    header = ["experiment", "metric", "planted", "found", "95% interval", "holds it", "p"]
    rows = [
        [
            one.experiment_id,
            one.metric,
            f"{one.planted:+.1%}",
            "none" if one.found is None else f"{one.found:+.1%}",
            "" if one.low is None or one.high is None else f"{one.low:+.1%} to {one.high:+.1%}",
            {None: "", True: "yes", False: "no"}[one.covered],
            "" if one.p_value is None else f"{one.p_value:.3g}",
        ]
        for one in chain.recovered
        if one.primary or not one.is_null
    ]
    return header, rows
