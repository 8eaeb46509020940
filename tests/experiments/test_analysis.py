"""The whole analysis of planted experiments, from tables to the verdict, and what it says of bad input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pandas as pd
import pytest

from experiments.analysis import Analysis, analyse, conclude
from experiments.cells import Cell
from experiments.gathered import Gathered, LookCells, gather, planned_looks
from experiments.moments import Checks, ExposureCount
from experiments.tables import tables_of
from features.errors import BadInput
from features.experiment import Experiment, Guardrail, Phase, Variant

START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 10
END = START + timedelta(days=DAYS)
TWO = (Variant(name="control", weight=0.5, is_control=True), Variant(name="variant", weight=0.5))


def experiment(**more):
    fields = {
        "experiment_id": "e",
        "hypothesis": "more",
        "variants": TWO,
        "primary_metric": "revenue_per_customer",
        "secondary_metrics": ("visit_frequency", "acceptance_rate"),
        "guardrails": (Guardrail(metric="opt_out_rate", max_relative=0.5),),
        "planned_units": 3_000,
        "status": "running",
        "started_at": START,
    }
    return Experiment(**(fields | more))


def world(seed=1, n=3_000, lift=0.0, share=0.5, opt_out=(0.02, 0.02), rich=False):
    """Customers who arrive over ten days, visit and buy before and after; the variant buys for `lift` more."""
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < share
    who = np.array([f"c{i}" for i in range(n)])
    exposed = rng.uniform(0, DAYS - 1, n)
    taste = rng.gamma(2.0, 1.0, n)
    exposures = pd.DataFrame(
        {
            "experiment_id": "e", "phase": 1, "unit_id": who, "customer_id": who, "decision_id": who,
            "variant": np.where(treated, "variant", "control"),
            "exposed_at": _times(exposed),
        }
    )  # fmt: skip
    before = _bought(rng, who, exposed - rng.uniform(0.1, 9, n), taste * 5 + rng.gamma(1, 1, n))
    after = _bought(
        rng, who, exposed + rng.uniform(0.001, 0.9, n), taste * 5 * (1 + lift * treated) + rng.gamma(1, 1, n)
    )
    left = rng.random(n) < np.where(treated, opt_out[1], opt_out[0])
    outs = pd.DataFrame({"event_type": "opt_out", "customer_id": who[left], "occurred_at": _times(exposed[left] + 0.5)})
    visits = pd.DataFrame({"event_type": "visit", "customer_id": who, "occurred_at": _times(exposed + 0.01)})
    events = pd.concat([before, after, outs, visits], ignore_index=True)
    customers = pd.DataFrame(
        {"customer_id": who, "known_from": START - timedelta(days=90), "tier": rng.choice(["a", "b"], n)}
    )
    return {"exposures": exposures, "events": events, "customers": customers}


def _bought(rng, who, day, value):
    return pd.DataFrame(
        {
            "event_type": "purchase",
            "customer_id": who,
            "occurred_at": _times(day),
            "value": value.round(2),
            "currency": "EUR",
        }
    )


def _times(days):
    return pd.to_datetime(START) + pd.to_timedelta(days * 86_400_000_000, unit="us").round("us")


def analysed(tables, made=None, **more) -> Analysis:
    with tables_of(**tables) as opened:
        return analyse(made or experiment(), opened, END, **more)


@pytest.fixture(scope="module")
def gained():
    return analysed(world(lift=0.3), segments=("tier",))


def test_a_planted_gain_is_recovered_and_shipped(gained):
    assert gained.verdict.decision == "ship"
    primary = gained.metrics[0]
    (effect,) = primary.effects
    assert (primary.metric, primary.role) == ("revenue_per_customer", "primary")
    truth = 0.3 * 10 / 11  # 30 % of taste * 5, whose mean is 10 of a level of 11
    assert effect.relative_low < truth < effect.relative_high
    assert effect.cuped_reduction > 0.4
    assert effect.p_adjusted == effect.p_value  # one variant, one primary metric


def test_it_was_decided_before_the_end(gained):
    (one,) = gained.paths
    assert len(one.looks) == DAYS
    assert [look.at for look in one.looks] == [START + timedelta(days=day) for day in range(1, DAYS + 1)]
    assert one.outcome == "better"
    assert one.decided_at < END


def test_everything_that_a_report_shows_is_there(gained):
    assert [(m.metric, m.role) for m in gained.metrics] == [
        ("revenue_per_customer", "primary"),
        ("visit_frequency", "secondary"),
        ("acceptance_rate", "secondary"),
        ("opt_out_rate", "guardrail"),
    ]
    assert sum(one.n for one in gained.exposures) == gained.n_units == 3_000
    assert gained.sample_ratio.mismatch is False
    assert [s.segment for s in gained.segments] == ["tier"]
    assert len(gained.novelty[0].days) >= 3
    assert gained.guardrails[0].metric == "opt_out_rate"
    assert gained.reach[0].relative < 0.1
    assert msgspec.json.decode(msgspec.json.encode(gained), type=Analysis) == gained


def test_a_metric_without_data_is_flagged_and_not_zero(gained):
    acceptance = next(m for m in gained.metrics if m.metric == "acceptance_rate")
    assert acceptance.effects[0].absolute is None
    assert acceptance.effects[0].flags
    visits = next(m for m in gained.metrics if m.metric == "visit_frequency")
    assert visits.effects[0].flags


def test_in_the_first_week_an_acceptance_rate_says_what_it_waits_for():
    tables = world(n=400)
    late = _times(np.array([DAYS - 1.0] * 2))
    shown = pd.DataFrame({"event_type": ["impression", "accept"], "customer_id": ["c0", "other"], "occurred_at": late})
    tables["events"] = pd.concat([tables["events"], shown], ignore_index=True)
    found = analysed(tables, experiment(primary_metric="acceptance_rate", secondary_metrics=()))
    assert found.verdict.reasons == (
        "Acceptance rate could not be computed: phase 1: no attribution window of an impression has ended yet",
    )


def test_no_effect_is_no_proof_and_at_the_planned_end_a_stop():
    found = analysed(world(seed=2))
    assert found.verdict.decision == "stop"
    assert "no difference is proven, and all 3,000 planned units are in" in found.verdict.reasons[0]


def test_lost_units_are_not_trusted():
    found = analysed(world(lift=0.3, share=0.43))
    assert found.verdict.decision == "do not trust"
    assert found.sample_ratio.mismatch


def test_a_guardrail_rings():
    found = analysed(world(lift=0.3, opt_out=(0.05, 0.3)))
    assert found.verdict.decision == "stop"
    assert "opt_out_rate changed by more than its limit of +50.0%" in found.verdict.reasons[0]


def test_crossed_units_are_left_out_and_not_trusted():
    tables = world(lift=0.3)
    twice = tables["exposures"].head(100).copy()
    twice["variant"] = np.where(twice["variant"] == "control", "variant", "control")
    twice["exposed_at"] += timedelta(hours=1)
    tables["exposures"] = pd.concat([tables["exposures"], twice], ignore_index=True)
    found = analysed(tables)
    assert (found.n_crossed, found.n_units) == (100, 2_900)
    assert found.verdict.decision == "do not trust"
    assert "100 of 3,000 units met more than one variant" in found.verdict.reasons[0]
    assert found.flags[0] == "100 units met more than one variant and were left out"


def test_phases_with_different_shares_are_no_alarm_and_no_paradox():
    """Whoever comes late buys ten times as much, and the variant's share grew from 10 to 90 %: pooled it would win."""
    tables = world(seed=4, n=4_000)
    rng = np.random.default_rng(4)
    late = tables["exposures"]["exposed_at"] >= pd.Timestamp(START + timedelta(days=5))
    treated = rng.random(4_000) < np.where(late, 0.9, 0.1)
    tables["exposures"]["variant"] = np.where(treated, "variant", "control")
    tables["exposures"]["phase"] = np.where(late, 2, 1)
    rich = set(tables["exposures"]["customer_id"][late])
    tables["events"].loc[tables["events"]["customer_id"].isin(rich), "value"] *= 10
    first = Phase(
        number=1,
        starts_at=START,
        traffic=1.0,
        weights={"control": 0.9, "variant": 0.1},
        stops_at=START + timedelta(days=5),
    )
    second = Phase(number=2, starts_at=START + timedelta(days=5), traffic=1.0, weights={"control": 0.1, "variant": 0.9})
    found = analysed(tables, experiment(phases=(first, second), planned_units=4_000))
    (effect,) = found.metrics[0].effects
    assert not found.sample_ratio.mismatch
    assert effect.phases == 2
    assert effect.relative_low < 0 < effect.relative_high
    assert any("each phase is compared within itself, never pooled" in flag for flag in found.flags)


def test_without_a_single_exposure_nothing_is_claimed():
    tables = world(n=200)
    tables["exposures"] = tables["exposures"].head(0)
    found = analysed(tables)
    assert found.verdict.decision == "keep running"
    assert found.metrics[0].effects[0].absolute is None
    assert found.sample_ratio.p_chi2 is None


def test_purchases_in_another_currency_are_not_added_and_not_trusted():
    tables = world(lift=0.3)
    tables["events"].loc[tables["events"].index[::5], "currency"] = "USD"
    found = analysed(tables)
    assert found.verdict.decision == "do not trust"
    assert any("would mix currencies" in reason for reason in found.verdict.reasons)


def test_three_variants_share_alpha_and_are_corrected_by_holm():
    tables = world(seed=6, n=4_000)
    names = np.random.default_rng(6).choice(["control", "variant", "third"], 4_000)
    tables["exposures"]["variant"] = names
    three = tuple(
        Variant(name=n, weight=w, is_control=n == "control")
        for n, w in (("control", 0.34), ("variant", 0.33), ("third", 0.33))
    )
    found = analysed(tables, experiment(variants=three))
    assert [one.alpha for one in found.paths] == [0.025, 0.025]
    p = sorted(e.p_value for e in found.metrics[0].effects)
    adjusted = sorted(e.p_adjusted for e in found.metrics[0].effects)
    assert adjusted[0] == pytest.approx(min(1.0, 2 * p[0]))
    assert len(found.verdicts) == 2


def test_metrics_and_segments_that_do_not_exist_are_refused():
    with pytest.raises(BadInput, match="is not a metric"):
        analysed(world(n=50), experiment(primary_metric="happiness"))
    with pytest.raises(BadInput, match="is not known of customers"):
        analysed(world(n=50), segments=("shoe_size",))


def held_at(n, z):
    """Cells of two arms with `n` units each, `z` standard errors apart."""
    lift = z * (2 / n) ** 0.5
    return [
        Cell(metric="revenue_per_customer", variant=name, n=n, phase=1, mean_num=10 + by, var_num=1.0)
        for name, by in (("control", 0.0), ("variant", lift))
    ]


def concluded(looks, **more):
    """The conclusion of looks (day, units per arm, z, whether planned), of which the last is now."""
    found = [LookCells(START + timedelta(days=day), held_at(n, z), decides) for day, n, z, decides in looks]
    n = looks[-1][1]
    gathered = Gathered(
        cells=found[-1].cells,
        looks=found,
        exposures=[ExposureCount("2026-03-02", 1, name, n) for name in ("control", "variant")],
        checks=Checks(n_units=2 * n, n_crossed=0, n_immature=0, n_before=0, foreign_purchases={}),
    )
    return conclude(experiment(guardrails=(), secondary_metrics=(), **more), gathered, found[-1].at)


@pytest.mark.parametrize(
    ("planned_units", "why"), [(4_000, "before its plan"), (2_030, "before the next planned look")]
)
def test_stopping_at_a_good_moment_does_not_ship(planned_units, why):
    """Ten daily looks at z = 1, and five hours later, at z = 4.2, somebody stops it."""
    watched = [(day, 100 * day, 1.0, True) for day in range(1, 11)]
    stop = START + timedelta(days=10, hours=5)
    found = concluded(
        [*watched, (10 + 5 / 24, 1_020, 4.2, False)], planned_units=planned_units, status="stopped", stopped_at=stop
    )
    assert (found.verdict.decision, found.paths[0].outcome) == ("stop", "undecided")
    assert why in found.verdict.reasons[0]
    assert found.paths[0].looks[-1].bound is None
    assert found.paths[0].looks[-1].always_low is not None


def test_what_a_planned_look_decided_stands_after_the_stop():
    stop = START + timedelta(days=10, hours=5)
    looks = [*((day, 200 * day, 5.0, True) for day in range(1, 11)), (10 + 5 / 24, 2_020, 3.0, False)]
    assert concluded(looks, planned_units=4_000, status="stopped", stopped_at=stop).verdict.decision == "ship"


def test_the_moment_of_stopping_is_not_asked_to_decide():
    stop = START + timedelta(days=4, hours=5)
    with tables_of(**world(n=300)) as opened:
        found = gather(experiment(status="stopped", stopped_at=stop), opened, END)
    assert [(one.at - START) / timedelta(days=1) for one in found.looks] == pytest.approx([1, 2, 3, 4, 4 + 5 / 24])
    assert [one.decides for one in found.looks] == [True] * 4 + [False]


def test_looks_are_fixed_by_the_start():
    """Days for two weeks, then weeks; opening the report in between adds none, nor does stopping."""
    days = [(one - START).days for one in planned_looks(START, START + timedelta(days=30, hours=5))]
    assert days == [*range(1, 15), 21, 28]
    stopped = planned_looks(START, END, START + timedelta(days=2, hours=3))
    assert [(one - START) / timedelta(days=1) for one in stopped] == [1, 2]
    assert planned_looks(START, START) == []
