"""Plans come from what visitors did: their spread, their pre-period, how many come, and how many of them take part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from experiments.cells import cells_of
from experiments.planning import plans
from experiments.statistics.power import plan
from experiments.tables import tables_of
from features.experiment import Experiment, Variant

AT = datetime(2026, 3, 30, tzinfo=UTC)
TWO = (Variant(name="control", weight=0.5, is_control=True), Variant(name="variant", weight=0.5))
PER_DAY = 50


@pytest.fixture(scope="module")
def past():
    """Fifty new visitors a day for 28 days, each of whom buys once, an hour after the visit."""
    rng = np.random.default_rng(8)
    n = 28 * PER_DAY
    who = [f"c{i}" for i in range(n)]
    day = np.repeat(np.arange(28), PER_DAY) + rng.uniform(0.1, 0.8, n)
    came = pd.to_datetime(AT - timedelta(days=28)) + pd.to_timedelta((day * 86_400).round(), unit="s")
    value = rng.gamma(2, 10, n).round(2)
    visits = pd.DataFrame({"event_type": "visit", "customer_id": who, "occurred_at": came})
    bought = visits.assign(event_type="purchase", value=value, currency="EUR")
    bought["occurred_at"] += timedelta(hours=1)
    return pd.concat([visits, bought], ignore_index=True), value


def experiment(**more):
    return Experiment(experiment_id="e", hypothesis="h", variants=TWO, primary_metric="revenue_per_customer", **more)


def planned(events, made, **more):
    with tables_of(events=events) as tables:
        return plans(made, tables, AT, **more)


def test_units_are_those_of_the_past_and_days_follow_arrivals(past):
    events, value = past
    (found,) = planned(events, experiment(), changes=(0.1,))
    (cell,) = cells_of("revenue_per_customer", ["all"] * len(value), value)
    assert found.n_units == plan(cell, 0.1, looks=found.looks).n_units
    assert found.days == pytest.approx(found.n_units / PER_DAY, abs=1)
    assert not found.cuped


def test_half_the_traffic_takes_twice_the_days(past):
    whole, half = (planned(past[0], experiment(traffic=share), changes=(0.1,))[0] for share in (1.0, 0.5))
    assert half.n_units == whole.n_units
    assert half.days == pytest.approx(2 * whole.days, abs=1)


def test_smaller_changes_take_more_and_an_audience_is_said_not_to_be_known(past):
    found = planned(past[0], experiment(audience="customer.tier == 'gold'"))
    units = [one.n_units for one in found]
    assert units == sorted(units, reverse=True)
    assert all("not of the audience alone" in one.flags[-1] for one in found)


def test_without_a_past_there_is_no_plan(past):
    (found,) = planned(past[0].head(0), experiment(), changes=(0.1,))
    assert found.n_units is None
    assert found.flags == ("no past data of this metric",)
