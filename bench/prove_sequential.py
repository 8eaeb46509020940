"""Proofs of the sequential tests: twenty looks, fifty looks at the sample ratio, and what early decisions cost."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from bench.proof import Proof
from bench.simulated import WORLDS, Floats, World, moments, moments_by_look, z_of
from experiments.statistics.confidence_sequence import multiplier
from experiments.statistics.effect import compare
from experiments.statistics.group_sequential import boundaries, crossing, inflation, planned_drift
from experiments.statistics.sample_ratio import log_bayes_factor

SEED = 20_260_309
LOOKS = 20
FIXED = float(norm.isf(0.025))
AT_ONCE = 100


def peeking(proof: Proof) -> None:
    """A/A with twenty looks: naive, group-sequential, and always valid."""
    print(f"\n## {LOOKS} looks at two arms that were treated alike\n")
    n_runs, n_units = proof.replications(2_000), 8_000
    fractions = tuple((np.arange(LOOKS) + 1) / LOOKS)
    bounds = boundaries(fractions)
    always = multiplier(2 * np.array(_looks(n_units)), 0.05, 2 * n_units)
    rows, bad = [], []
    for world in WORLDS:
        proof.progress(f"peeking: {world.name}")
        z = np.concatenate([z for z, _ in _paths(world, np.random.default_rng(SEED), n_runs, n_units, 0.0)])
        rates = [float((np.abs(z) > bound).any(1).mean()) for bound in (np.full(LOOKS, FIXED), bounds, always)]
        rows.append((world.name, *(f"{rate:.3f}" for rate in rates)))
        bad += [(world.name, rate) for rate in rates[1:] if rate > 0.05 + _error(n_runs)]
        if rates[0] < 0.2:
            bad.append((world.name, rates[0]))
    z = np.concatenate(list(_returning(np.random.default_rng(SEED), proof.replications(2_000))))
    rates = [float((np.abs(z) > bound).any(1).mean()) for bound in (np.full(LOOKS, FIXED), bounds, always)]
    rows.append(("spending of customers who keep coming back", *(f"{rate:.3f}" for rate in rates)))
    bad += [("returning", rate) for rate in rates[1:] if rate > 0.05 + _error(proof.replications(2_000))]
    theory = [float(crossing(fractions, each)[-1]) for each in (np.full(LOOKS, FIXED), bounds, always)]
    rows.append(("a normal law, by integration", *(f"{rate:.3f}" for rate in theory)))
    header = ("false positives at 0.05", "naive", "group-sequential", "confidence sequence")
    proof.table(header, rows)
    said = f"{n_runs:,} experiments each: the sequential tests err at most 0.05 (+ {_error(n_runs):.4f}, two errors)"
    proof.line(not bad, f"{said} {bad or ''}")


def early_decisions(proof: Proof) -> None:
    """With an effect that the fixed test finds in 80 of 100: what looking costs, and what it saves."""
    print(f"\n## {LOOKS} looks at an effect that is there\n")
    n_runs = proof.replications(4_000)
    world, lift, n_units = WORLDS[0], 0.15, 6_600
    fractions = tuple((np.arange(LOOKS) + 1) / LOOKS)
    rows = []
    powers = []
    for named, factor in (("as many units as the fixed test", 1.0), ("inflated for the looks", inflation(LOOKS))):
        units = math.ceil(n_units * factor / LOOKS) * LOOKS
        proof.progress(f"early decisions, {named}")
        z = np.concatenate([z for z, _ in _paths(world, np.random.default_rng(SEED + 1), n_runs, units, lift)])
        bounds = boundaries(fractions)
        crossed = np.abs(z) > bounds
        stops = np.where(crossed.any(1), crossed.argmax(1) + 1, LOOKS)
        always = np.abs(z) > multiplier(2 * np.array(_looks(units)), 0.05, 2 * units)
        fixed, found = float((z[:, -1] > FIXED).mean()), float(crossed.any(1).mean())
        powers.append((fixed, found))
        share = float(stops.mean()) / LOOKS * factor
        rows.append((named, f"{fixed:.3f}", f"{found:.3f}", f"{share:.0%}", f"{always.any(1).mean():.3f}"))
    drift = planned_drift()
    in_theory = float(crossing(fractions, boundaries(fractions), drift)[-1])
    rows.append(("a normal law, by integration", "0.800", f"{in_theory:.3f}", "–", "–"))
    header = ("units", "power, fixed", "power, group-sequential", "units used", "power, confidence sequence")
    proof.table(header, rows)
    slack = 0.03 + (_error(n_runs) if proof.quick else 0.0)
    proof.line(
        abs(powers[0][1] - powers[0][0] - (in_theory - 0.8)) < slack,
        f"looking costs {powers[0][0] - powers[0][1]:.3f} of power; by integration {0.8 - in_theory:.3f}",
    )
    proof.line(
        abs(powers[1][1] - powers[0][0]) < slack,
        f"with {inflation(LOOKS) - 1:.1%} more units the power is {powers[1][1]:.3f} against {powers[0][0]:.3f} again",
    )


def split_looks(proof: Proof) -> None:
    """The sample ratio of a right split, looked at fifty times; and of a wrong one."""
    print("\n## 50 looks at the sample ratio\n")
    n_runs, looks, per_look = proof.replications(20_000), 50, 500
    rng = np.random.default_rng(SEED + 2)
    rows, rates = [], []
    n = per_look * np.arange(1, looks + 1)
    for named, share in (("50:50, as planned", 0.5), ("51:49", 0.51), ("52:48", 0.52)):
        ones = np.cumsum(rng.binomial(per_look, share, (n_runs, looks)), axis=1)
        chi2 = np.abs(ones - n / 2) / np.sqrt(n / 4) > norm.isf(0.005)
        valid = log_bayes_factor(np.stack([ones, n - ones], -1), [0.5, 0.5]) > math.log(100)
        rates.append((float(chi2.any(1).mean()), float(chi2[:, -1].mean()), float(valid.any(1).mean())))
        rows.append((named, *(f"{rate:.3f}" for rate in rates[-1])))
    theory = float(crossing(tuple((np.arange(looks) + 1) / looks), [float(norm.isf(0.005))] * looks)[-1])
    rows.append(("50:50, by integration", f"{theory:.3f}", "0.010", "–"))
    proof.table(("25,000 units, at 0.01", "χ² at each look", "χ² once, at the end", "sequential multinomial"), rows)
    proof.line(rates[0][0] > 0.05, f"χ² at each look cries wolf: {rates[0][0]:.3f} instead of 0.01")
    proof.line(rates[0][2] <= 0.01, f"the multinomial test does not: {rates[0][2]:.3f}")
    proof.line(rates[2][2] > 0.9, "and it finds 52:48")


def formulas(proof: Proof, each: int = 50) -> None:
    """The many-at-once formulas of these proofs are those that reports use."""
    print("\n## What is simulated is what reports compute\n")
    rng = np.random.default_rng(SEED + 3)
    worst = 0.0
    for world in WORLDS:
        a, b = (moments(world.draw(rng, each, 1_000, lift)) for lift in (0.0, 0.1))
        _, difference, error = z_of(a, b, world.kind, world.cuped)
        cells = zip(*(m.cells("m", v, cuped=world.cuped) for m, v in ((a, "c"), (b, "v"))), strict=True)
        for i, pair in enumerate(cells):
            found = compare(pair, "m", "c", "v", kind=world.kind, cuped=world.cuped)
            assert found.absolute is not None
            assert found.standard_error is not None
            off = abs(found.absolute - difference[i]), abs(found.standard_error - error[i])
            worst = max(worst, *(one / error[i] for one in off))
    proof.line(worst < 1e-6, f"{each * len(WORLDS)} comparisons agree with the arrays to {worst:.0e}")


def _looks(n_units: int) -> list[int]:
    """Units per arm at each look."""
    return [n_units // LOOKS * (i + 1) for i in range(LOOKS)]


def _paths(
    world: World, rng: np.random.Generator, n_runs: int, n_units: int, lift: float
) -> Iterator[tuple[Floats, Floats]]:
    """z and the difference at each look, shape (n, n_looks), some experiments at a time."""
    for start in range(0, n_runs, AT_ONCE):
        size = min(AT_ONCE, n_runs - start)
        control, variant = (moments_by_look(world.draw(rng, size, n_units, up), LOOKS) for up in (0.0, lift))
        z, difference, _ = z_of(control, variant, world.kind, world.cuped)
        yield z, difference


def _returning(rng: np.random.Generator, n_runs: int) -> Iterator[Floats]:
    """Customers arrive over 20 days and spend on every day since, each at a level of their own.

    The metric is the sum since exposure, so that looks see the same customers again, with more of their time.
    """
    per_day = 60
    for _ in range(n_runs):
        sums = []
        for _arm in range(2):
            own = rng.gamma(0.5, 2.0, (LOOKS, per_day))  # by day of arrival
            spent = own[:, :, None] * rng.gamma(0.5, 2.0, (LOOKS, per_day, LOOKS))
            arrived = np.arange(LOOKS)[:, None, None] <= np.arange(LOOKS)[None, None, :]
            sums.append(np.cumsum(spent * arrived, axis=2))
        z = []
        for look in range(LOOKS):
            a, b = (arm[: look + 1, :, look].ravel() for arm in sums)
            z.append((b.mean() - a.mean()) / math.sqrt(a.var(ddof=1) / a.size + b.var(ddof=1) / b.size))
        yield np.array([z])


def _error(n_runs: int) -> float:
    return 2 * math.sqrt(0.05 * 0.95 / n_runs)
