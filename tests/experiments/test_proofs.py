"""The proofs of `make prove-experiments` in small, on every run: error rates, coverage, and the real data sets."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.proof import Proof, shared_data
from bench.prove_asos import replay
from bench.prove_hillstrom import hillstrom
from bench.prove_sequential import formulas
from bench.simulated import WORLDS, moments, moments_by_look, z_of
from experiments.statistics.confidence_sequence import multiplier
from experiments.statistics.group_sequential import boundaries
from experiments.statistics.sources import STATISTICS

EXPLANATION = Path(__file__).parents[2] / "docs" / "explanation" / "experiments.md"
by_world = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)


def drawn(world, lift, n_runs=600, n_units=300, seed=17):
    rng = np.random.default_rng(seed)
    return [world.draw(rng, n_runs, n_units, up) for up in (0.0, lift)]


def test_what_is_simulated_is_what_reports_compute(capsys):
    proof = Proof()
    formulas(proof, each=10)
    assert not proof.failures
    assert "60 comparisons agree" in capsys.readouterr().out


@by_world
def test_equal_arms_look_different_five_times_in_a_hundred(world):
    """600 A/A experiments: 0.05 within three and a half of its standard errors of 0.0089."""
    z, _, _ = z_of(*map(moments, drawn(world, 0.0)), world.kind, world.cuped)
    assert 0.019 <= (np.abs(z) > 1.96).mean() <= 0.081


@by_world
def test_intervals_hold_the_planted_effect_95_times_in_a_hundred(world):
    """600 experiments with +20 %: 0.95 within three and a half of its standard errors."""
    _, difference, error = z_of(*map(moments, drawn(world, 0.2)), world.kind, world.cuped)
    held = np.abs(difference - 0.2 * world.level) <= 1.96 * error
    assert 0.919 <= held.mean() <= 0.981


@by_world
def test_ten_looks_err_no_more_than_one(world):
    """400 A/A experiments with ten looks each: at most 0.05 and three standard errors; naively more than twice that."""
    arms = [moments_by_look(units, 10) for units in drawn(world, 0.0, 400, 600)]
    z = np.abs(z_of(*arms, world.kind, world.cuped)[0])
    always = multiplier(120 * np.arange(1, 11), 0.05, 1_200)
    assert (z > boundaries(tuple((np.arange(10) + 1) / 10))).any(1).mean() <= 0.05 + 3 * 0.0109
    assert (z > always).any(1).mean() <= 0.05
    assert (z > 1.96).any(1).mean() > 0.12


@pytest.mark.real_data
@pytest.mark.skipif(not (shared_data() / "hillstrom").is_dir(), reason="no shared data")
def test_hillstroms_published_effects_are_found(capsys):
    proof = Proof()
    hillstrom(proof)
    assert not proof.failures
    assert "+7.66 points of visits, published +7.66" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.skipif(not (shared_data() / "asos_experiments").is_dir(), reason="no shared data")
def test_a_real_experiment_is_replayed_over_time():
    file = shared_data() / "asos_experiments" / "asos_digital_experiments_dataset.parquet"
    data = pd.read_parquet(file)
    found = replay(1, data[(data["experiment_id"] == "4509ec") & (data["variant_id"] == 1) & (data["metric_id"] == 1)])
    assert found is not None
    assert (found.final, found.sequential, found.always) == (-1, -1, -1)
    assert (found.days, found.sequential_day) == (28.5, 5.5)  # a loss that need not have lasted for three weeks more


@pytest.mark.parametrize("statistic", STATISTICS, ids=lambda one: one.name)
def test_every_statistic_is_computed_somewhere_and_named_with_its_source_in_the_docs(statistic):
    module, function = statistic.where.rsplit(".", 1)
    assert callable(getattr(import_module(module), function))
    row = next(line for line in EXPLANATION.read_text().splitlines() if line.startswith(f"| {statistic.name} |"))
    assert statistic.source in row
