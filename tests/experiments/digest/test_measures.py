"""Measures of a week and their changes; expected values by hand unless said."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pytest

from experiments.digest.measures import change_of, data_until, measures
from experiments.digest.week import Week
from tests.experiments.worlds import START, day, event, offer, world

WEEK = Week(START.date(), ZoneInfo("UTC"))  # day 0 to day 7 of the world


def measured(events, *names, **others):
    with world(events, **others) as tables:
        found = measures(tables, WEEK, data_until(tables, WEEK.until), {"engagement": names})
    return {one.metric: one for one in found}


def test_engagement_changes_with_its_factors():
    """Before: a, b of 3 active with 3 visits: 2/3 × 3/2 = 1. Now: a of 3 with 6 visits: 1/3 × 6 = 2."""
    events = [event("c", "visit", -40), *(event("a", "visit", at) for at in (-7, -6)), event("b", "visit", -5),
              *(event("a", "visit", at / 2) for at in range(6))]  # fmt: skip
    names = ("customer_engagement", "active_customers", "visit_frequency")
    engagement, active, frequency = measured(events, *names).values()
    assert (engagement.before.value, engagement.now.value, engagement.change.absolute) == (1, 2, 1)
    assert (active.before.value, active.now.value, active.now.n, active.change.absolute) == (2, 1, 3, -1)
    assert (frequency.before.value, frequency.now.value) == (1.5, 6)


def test_what_was_never_recorded_or_is_older_than_the_data_is_not_zero():
    names = ("opt_out_rate", "dismissal_rate", "mau", "visit_frequency")
    found = measured([event("a", "visit", -7), event("a", "visit", 1)], *names)
    assert found["opt_out_rate"].now.value is None
    assert found["opt_out_rate"].now.why == "no opt_out was ever recorded"
    assert found["dismissal_rate"].now.why == "no impression was ever recorded"
    assert found["mau"].now.why == "it needs what happened from 2026-02-07 on, and the data begin on 2026-02-23"
    assert found["mau"].change is None
    assert found["visit_frequency"].change is not None


def test_a_week_that_the_data_do_not_reach_has_no_change():
    found = measured([event("a", "visit", -3), event("a", "visit", 1)], "active_customers")
    assert found["active_customers"].now.value == 1
    assert found["active_customers"].before.why.endswith("the data begin on 2026-02-27")
    assert found["active_customers"].change is None


def test_acceptance_is_of_impressions_whose_window_ended_in_the_week():
    """With a window of 7 days: those of the week before. Of a's two one was accepted, of b's none; c's is too new."""
    events = [event("z", "visit", -40),
              event("a", "impression", -6, offer_id="o"), event("a", "accept", -5, offer_id="o"),
              event("a", "impression", -4, offer_id="p"), event("b", "impression", -3, offer_id="o"),
              event("c", "impression", 2, offer_id="o"), event("c", "accept", 3, offer_id="o")]  # fmt: skip
    found = measured(events, "acceptance_rate", offers=[offer("o"), offer("p")])["acceptance_rate"]
    assert (found.now.value, found.now.since) == (pytest.approx(1 / 3), day(-7))
    assert found.before.value is None
    assert found.before.why.startswith("nothing to divide by: accepted impressions")


def test_the_same_customers_doing_the_same_twice_changed_for_sure_by_nothing():
    """Two weeks as if of different customers would have an interval; taken together there is none to doubt."""
    events = [event(f"c{n}", "visit", at + k / 10) for n in range(5) for at in (-7, 0) for k in range(n + 1)]
    change = measured(events, "customer_engagement")["customer_engagement"].change
    assert (change.absolute, change.low, change.p_value) == (0, None, None)


def test_measures_that_changed_are_corrected_for_how_many_were_looked_at():
    """80 customers, all known long before; their visits a week are planted to go from 1 to 3 on average."""
    rng = np.random.default_rng(3)
    known = [event(f"c{n:03d}", "visit", -40) for n in range(80)]
    events = [event(f"c{n:03d}", "visit", at + k / 20)
              for n in range(80) for at, mean in ((-7, 1), (0, 3)) for k in range(rng.poisson(mean))]  # fmt: skip
    names = ("customer_engagement", "active_customers", "opt_out_rate")
    change = measured([*known, *events], *names)["customer_engagement"].change
    assert change.p_adjusted == pytest.approx(2 * change.p_value)  # the smallest of two; the third is not known
    assert change.p_adjusted < 0.001
    assert change.low < 2 < change.high


def test_the_delta_methods_change_is_that_of_a_bootstrap_over_customers():
    """Ratio of sums in two weeks of the same customers; the bootstrap draws customers, 4,000 times."""
    rng = np.random.default_rng(7)
    n = 400
    taste = rng.gamma(2.0, 1.0, n)
    seen = rng.poisson(3 * taste, (2, n)) + 1
    taken = rng.binomial(seen, np.clip(0.1 * taste, 0, 0.9))
    rows = np.array([taken[1], seen[1], taken[0], seen[0]], dtype=float)
    change = change_of(n, rows.sum(1).tolist(), np.cov(rows).ravel().tolist(), total=False)
    drawn = rows[:, rng.integers(n, size=(4_000, n))].sum(2)
    absolute, relative = drawn[0] / drawn[1] - drawn[2] / drawn[3], drawn[0] / drawn[1] / (drawn[2] / drawn[3]) - 1
    assert (change.low, change.high) == pytest.approx(np.quantile(absolute, [0.025, 0.975]), abs=0.006)
    assert (change.relative_low, change.relative_high) == pytest.approx(np.quantile(relative, [0.025, 0.975]), abs=0.03)


def test_relative_changes_keep_silent_next_to_zero():
    """One acceptance of ten impressions: the standard error is about as large as the rate."""
    covs = np.diag([0.1, 0, 0.1, 0]).ravel().tolist()
    near = change_of(10, [1, 10, 9, 10], covs, total=False)
    far = change_of(10, [8, 10, 9, 10], covs, total=False)
    assert near.relative is None
    assert near.low < -0.8 < near.high
    assert far.relative == pytest.approx(8 / 9 - 1)
