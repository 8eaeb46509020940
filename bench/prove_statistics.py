"""Proofs of the fixed tests: A/A for every metric, planted effects recovered, power as planned, and a warning.

A/A of the registry's metrics goes the whole way: a simulated shop's events, the metrics' own SQL, and 2,000 splits of
its customers at random, each compared by the code that reports use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.proof import Proof, within
from bench.simulated import WORLDS, Floats, Moments, World, moments
from bench.simulated_shop import DAYS, SEED, START, shop
from experiments.cells import NUMBERS, Cell, cell_of
from experiments.latency import FEWEST_BEYOND
from experiments.metrics import EXPERIMENT_METRICS, METRICS
from experiments.moments import per_unit
from experiments.statistics.arms import kind_of
from experiments.statistics.effect import Effect, compare
from experiments.statistics.power import plan

AT_ONCE = 200  # simulated experiments in memory


# A/A


def false_positives(proof: Proof) -> None:
    """Every metric of the registry: how often two equal halves of one shop look different."""
    print("\n## A/A: one look at two halves that were treated alike\n")
    n_splits = proof.replications(2_000)
    rows, holds = [], []
    with shop(4_000) as tables:
        proof.progress("the shop's metrics per customer")
        names = [name for name in EXPERIMENT_METRICS if METRICS[name].kind != "quantile"]
        units = per_unit(tables, "aa", names, until=START + timedelta(days=DAYS))
    rng = np.random.default_rng(SEED)
    treated = rng.random((n_splits, units.num_rows)) < 0.5
    for name in names:
        proof.progress(f"A/A {name}")
        numbers = np.stack([units[f"{name}_{number}"].to_numpy(zero_copy_only=False) for number in NUMBERS])
        found = [
            [
                compare(pair, name, "a", "b", kind=kind_of(METRICS[name].kind), cuped=cuped)
                for pair in _splits(name, numbers, treated)
            ]
            for cuped in (False, True)
        ]
        plain, adjusted = ([e for e in effects if e.p_value is not None] for effects in found)
        rates = [_rate(effects) for effects in (plain, adjusted)]
        reduction = np.mean([e.cuped_reduction for e in adjusted if e.cuped_reduction is not None] or [np.nan])
        saved = "–" if np.isnan(reduction) else f"{reduction:.0%}"
        rows.append(
            (METRICS[name].title, plain[0].method, f"{plain[0].n:,}", f"{rates[0]:.3f}", f"{rates[1]:.3f}", saved)
        )
        holds += [(name, rate) for rate in rates if not within(rate, 0.035, 0.065, n_splits, proof.quick)]
    proof.table(("metric", "test", "customers", "false positives", "with CUPED", "variance saved"), rows)
    proof.line(
        not holds, f"{n_splits:,} splits per metric: false positives at 0.05 within [0.035, 0.065] {holds or ''}"
    )


def _rate(effects: Sequence[Effect]) -> float:
    return float(np.mean([e.p_value is not None and e.p_value < 0.05 for e in effects])) if effects else float("nan")


def _splits(name: str, numbers: Floats, treated: NDArray[np.bool_]) -> Iterator[list[Cell]]:
    """Cells of both halves for each split, by sums over the customers who take part."""
    takes_part = ~np.isnan(numbers[0])
    rows = numbers[:, takes_part]
    known = NUMBERS if not np.isnan(rows).any() and np.any(rows[2]) else NUMBERS[:2]
    rows = rows[: len(known)]
    shift = rows.mean(1, keepdims=True)
    away = rows - shift
    products = (away[:, None] * away[None]).reshape(-1, rows.shape[1])
    sides = []
    for side in (~treated[:, takes_part], treated[:, takes_part]):
        n = side.sum(1)
        chosen = side.astype(np.float64)
        mean = chosen @ away.T / n[:, None]
        cov = (chosen @ products.T).reshape(-1, len(known), len(known))
        cov = (cov - n[:, None, None] * mean[:, :, None] * mean[:, None, :]) / (n - 1)[:, None, None]
        sides.append(Moments(n, mean + shift[:, 0], cov))
    cells = [side.cells(name, v, cuped=len(known) > 2) for side, v in zip(sides, ("a", "b"), strict=True)]
    for pair in zip(*cells, strict=True):
        yield list(pair)


def latency_false_positives(proof: Proof) -> None:
    """Quantiles of latency, whose customers ask several times and differ in how slow they are."""
    from experiments.latency import quantile_cell

    print("\n## A/A: quantiles of latency\n")
    n_splits = proof.replications(2_000)
    rng = np.random.default_rng(SEED + 1)
    n_customers = 3_000
    customer = np.repeat(np.arange(n_customers), rng.poisson(4, n_customers) + 1)
    ms = np.exp(rng.normal(0, 0.3, n_customers)[customer] + rng.normal(1, 0.5, len(customer)))
    rows, holds = [], []
    for name in ("latency_p50", "latency_p99"):
        share = METRICS[name].quantile
        assert share is not None
        found = []
        for _ in range(n_splits):
            side = (rng.random(n_customers) < 0.5)[customer]
            cells = [quantile_cell("m", share, customer[part], ms[part]) for part in (side, ~side)]
            named = [replace(c, variant=v) for c, v in zip(cells, ("a", "b"), strict=True) if c is not None]
            found.append(compare(named, "m", "a", "b", cuped=False))
        rate = _rate(found)
        rows.append((METRICS[name].title, f"{len(ms):,}", f"{rate:.3f}"))
        holds.append(within(rate, 0.035, 0.065, n_splits, proof.quick))
    proof.table(("metric", "decisions", "false positives"), rows)
    proof.line(all(holds), f"{n_splits:,} splits: false positives at 0.05 within [0.035, 0.065]")
    proof.line(FEWEST_BEYOND >= 10, f"a quantile with fewer than {FEWEST_BEYOND} decisions beyond it is not claimed")


# Planted effects


def planted(proof: Proof) -> None:
    """A known lift: do 95 % intervals hold it 95 times of 100, absolute and relative?"""
    print("\n## Planted effects: how often 95 % intervals hold the truth\n")
    n_runs, n_units, lift = proof.replications(2_000), 2_000, 0.1
    rows, bad = [], []
    for world in WORLDS:
        proof.progress(f"planted: {world.name}")
        effects = list(_compared(world, np.random.default_rng(SEED), n_runs, n_units, lift))
        absolute, relative = _coverage(effects, lift * world.level, lift)
        bad += [world.name for c in (absolute, relative) if not within(c, 0.93, 0.97, n_runs, proof.quick)]
        mean = np.mean([e.relative for e in effects if e.relative is not None])
        rows.append((world.name, effects[0].method, f"{mean:+.2%}", f"{absolute:.3f}", f"{relative:.3f}"))
    proof.progress("planted: two phases")
    effects = list(_two_phases(np.random.default_rng(SEED), n_runs))
    absolute = float(np.mean([e.absolute_low <= 1.0 <= e.absolute_high for e in effects if e.known]))
    rows.append(
        ("revenue, 90:10 then 50:50 while its level triples", effects[0].method, "+1.00 each", f"{absolute:.3f}", "–")
    )
    if not within(absolute, 0.93, 0.97, n_runs, proof.quick):
        bad.append("two phases")
    proof.table(("planted +10 %", "test", "mean estimate", "coverage, absolute", "coverage, relative"), rows)
    proof.line(
        not bad, f"{n_runs:,} experiments of {n_units:,} units per arm: coverage within [0.93, 0.97] {bad or ''}"
    )


def _compared(
    world: World, rng: np.random.Generator, n_runs: int, n_units: int, lift: float, share: float = 0.5
) -> Iterator[Effect]:
    n_control, n_variant = round(2 * n_units * (1 - share)), round(2 * n_units * share)
    for start in range(0, n_runs, AT_ONCE):
        size = min(AT_ONCE, n_runs - start)
        arms = (
            moments(world.draw(rng, size, n, up)).cells("m", name, cuped=world.cuped)
            for name, n, up in (("c", n_control, 0.0), ("v", n_variant, lift))
        )
        for pair in zip(*arms, strict=True):
            yield compare(pair, "m", "c", "v", kind=world.kind, cuped=world.cuped)


def _coverage(effects: Sequence[Effect], absolute: float, relative: float) -> tuple[float, float]:
    held = [e.absolute_low <= absolute <= e.absolute_high for e in effects if e.known]  # type: ignore[operator]
    ratio = [e.relative_low <= relative <= e.relative_high for e in effects if e.relative is not None]  # type: ignore[operator]
    assert len(held) == len(ratio) == len(effects)
    return float(np.mean(held)), float(np.mean(ratio))


def _two_phases(rng: np.random.Generator, n_runs: int) -> Iterator[Effect]:
    """The variant adds 1 in both phases; the second has three times the level and another split."""
    for _ in range(n_runs):
        cells = []
        for phase, level, n_control, n_variant in ((1, 10.0, 1_800, 200), (2, 30.0, 1_000, 1_000)):
            for name, n, up in (("c", n_control, 0.0), ("v", n_variant, 1.0)):
                values = level * rng.gamma(1.0, 1.0, n) + up
                rows = np.stack([values, np.ones(n), np.full(n, np.nan), np.full(n, np.nan)])
                cells.append(replace(cell_of("m", name, rows), phase=phase))
        yield compare(cells, "m", "c", "v", cuped=False)


# Power


def power(proof: Proof) -> None:
    """Sizes planned for 80 % power find the effect in 80 of 100 experiments."""
    print("\n## Power: experiments of the planned size\n")
    n_runs = proof.replications(2_000)
    rows, bad = [], []
    for world, lift in zip(WORLDS, (0.3, 0.3, 0.25, 0.25, 0.1, 0.1), strict=True):
        proof.progress(f"power: {world.name}")
        rng = np.random.default_rng(SEED + 2)
        (sample,) = moments(world.draw(rng, 1, 200_000, 0.0)).cells("m", "all", cuped=world.cuped)
        size = plan(sample, lift, kind=world.kind, looks=1, cuped=world.cuped)
        assert size.n_per_comparison is not None
        found = list(_compared(world, rng, n_runs, size.n_per_comparison // 2, lift))
        rate = _rate(found)
        rows.append((world.name, f"{lift:+.0%}", f"{size.n_per_comparison:,}", f"{rate:.3f}"))
        if not within(rate, 0.77, 0.83, n_runs, proof.quick):
            bad.append(world.name)
    proof.table(("metric", "effect", "planned units", "found"), rows)
    proof.line(not bad, f"{n_runs:,} experiments each: power within 0.80 ± 0.03 {bad or ''}")


def naive_ratio(proof: Proof) -> None:
    """A warning: taking impressions for independent trials, as a z test of clicks over impressions does."""
    print("\n## A warning: clicks over impressions as if impressions were independent\n")
    n_runs, n_units = proof.replications(2_000), 2_000
    rng = np.random.default_rng(SEED + 3)
    world = next(w for w in WORLDS if w.kind == "ratio")
    naive, right = 0, 0
    for start in range(0, n_runs, AT_ONCE):
        size = min(AT_ONCE, n_runs - start)
        arms = [world.draw(rng, size, n_units, 0.0) for _ in range(2)]
        clicked, seen = (np.stack([arm[:, i].sum(-1) for arm in arms]) for i in (0, 1))
        pooled = clicked.sum(0) / seen.sum(0)
        error = np.sqrt(pooled * (1 - pooled) * (1 / seen).sum(0))
        naive += int((np.abs(clicked[1] / seen[1] - clicked[0] / seen[0]) / error > norm.isf(0.025)).sum())
        cells = zip(*(moments(arm).cells("m", v, cuped=False) for arm, v in zip(arms, "cv", strict=True)), strict=True)
        right += sum(compare(pair, "m", "c", "v", kind="ratio", cuped=False).p_value < 0.05 for pair in cells)  # type: ignore[operator]
    proof.table(
        ("test of click-through", "false positives at 0.05"),
        [
            ("naive z over impressions", f"{naive / n_runs:.3f}"),
            ("delta method over customers", f"{right / n_runs:.3f}"),
        ],
    )
    proof.line(naive / n_runs > 0.2, "the naive test finds effects that are not there, again and again")
    proof.line(within(right / n_runs, 0.035, 0.065, n_runs, proof.quick), "the delta method does not")
