"""Metrics of customers at large, lifecycle and latency; expected values by hand unless said."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from experiments.lifecycle import STAGES, lifecycle
from experiments.metrics import EXPERIMENT_METRICS, METRICS
from experiments.metrics_page import reference_page
from experiments.moments import moments
from experiments.population import measured, measured_all
from experiments.tables import open_tables, tables_of
from features.errors import BadInput
from features.facts import Facts
from features.home import Home
from features.ingest import ingest
from tests.conftest import ROOT
from tests.experiments.worlds import day, event, exposure, exposures_table, world


def test_engagement_of_a_week_is_its_two_factors_multiplied():
    """Four customers known, of whom two are active this week with 3 visits: 2/4 × 3/2 = 3/4."""
    events = [event("a", "visit", 1), event("a", "visit", 2), event("b", "visit", 3), event("b", "view", 4),
              event("c", "visit", -5), event("d", "impression", 2, offer_id="o"),
              event("late", "visit", 8)]  # fmt: skip
    names = ["active_customers", "visit_frequency", "customer_engagement"]
    with world(events) as tables:
        active, frequency, engagement = measured_all(tables, names, day(0), day(7))
    assert [one.metric for one in (active, frequency, engagement)] == names
    assert (active.n, active.value, frequency.value, engagement.value) == (4, 2, 1.5, 0.75)
    assert active.value / active.n * frequency.value == engagement.value


def test_a_share_has_wilsons_interval():
    """2 of 10 at 95 %: Newcombe's tables give 0.0567 to 0.5098; counted in customers, ten times that."""
    events = [event(f"c{n}", "visit", 1 if n < 2 else -1) for n in range(10)]
    with world(events) as tables:
        (found,) = measured(tables, "active_customers", day(0), day(7))
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (2, 0.567, 5.098)


def test_a_ratio_has_the_delta_methods_interval():
    """Clicks 1, 0, 2 of impressions 2, 1, 3: ratio 1/2; num − den/2 is 0, −1/2, 1/2, its variance 1/4."""
    events = []
    for customer, clicks, seen in (("a", 1, 2), ("b", 0, 1), ("c", 2, 3)):
        for n in range(seen):
            events.append(event(customer, "impression", n, offer_id=f"o{n}"))
            events += [event(customer, "click", n + 0.1, offer_id=f"o{n}")] if n < clicks else []
    with world(events) as tables:
        (found,) = measured(tables, "click_through_rate", day(0), day(7))
    assert found.value == 0.5
    assert found.high - found.value == pytest.approx(1.959964 * math.sqrt(1 / 12) / 2, rel=1e-6)


def test_what_cannot_be_measured_has_no_value_and_says_why():
    with world([event("a", "visit", 1)]) as tables:
        by_name = {one.metric: one for one in measured_all(tables, EXPERIMENT_METRICS, day(0), day(7))}
    assert (by_name["csat"].value, by_name["csat"].low) == (None, None)
    assert by_name["csat"].why.startswith("nothing to divide by: answers of 4 or 5")
    assert by_name["mau"].why == "nobody to measure: units watched for at least 30 days"
    assert by_name["latency_p99"].value is None
    assert by_name["revenue_per_customer"].value == 0  # this is a zero that was measured
    assert by_name["revenue_per_customer"].low is None  # but one customer does not tell how others differ


def test_a_level_is_set_beside_the_holdouts():
    events = [event("a", "visit", 1), event("b", "visit", 1), event("b", "visit", 2), event("c", "visit", 1)]
    exposed = [exposure("a", "holdout", experiment="holdout"), exposure("b", "served", experiment="holdout")]
    with world(events, exposed) as tables:
        found = measured(tables, "customer_engagement", day(0), day(7), by="variant:holdout")
    assert [(one.group, one.n, one.value) for one in found] == [("holdout", 1, 1), ("none", 1, 1), ("served", 1, 2)]


def test_groups_by_attribute_and_bad_names():
    customers = pa.table({"customer_id": ["a", "b"], "city": ["Rome", "Oslo"]})
    with world(
        [event("a", "visit", 1), event("b", "visit", -1), event("c", "visit", 2)], customers=customers
    ) as tables:
        found = measured(tables, "active_customers", day(0), day(7), by="city")
        assert [(one.group, one.n, one.value) for one in found] == [("Oslo", 1, 0), ("Rome", 1, 1), ("unknown", 1, 1)]
        with pytest.raises(BadInput, match="'town' is not known of customers"):
            measured(tables, "nps", day(0), day(7), by="town")
        with pytest.raises(BadInput, match="the period ends before it begins"):
            measured(tables, "nps", day(7), day(7))


def test_visitors_are_followed_from_their_first_activity_in_the_period():
    """a comes on day 1 and again on day 9: retained. b comes on day 1 only. c comes on day 20: too late to know."""
    events = [event("a", "visit", 1), event("a", "visit", 9), event("b", "visit", 1), event("c", "visit", 20)]
    with world(events) as tables:
        (found,) = measured(tables, "retention", day(0), day(28))
    assert (found.n, found.value) == (2, 0.5)


def test_lifecycle_puts_everybody_ever_active_into_one_stage():
    events = [
        event("new", "visit", 80), event("active", "visit", 50), event("active", "visit", 80),
        event("returned", "visit", 10), event("returned", "visit", 80), event("at risk", "visit", 30),
        event("lapsed", "visit", 0), event("left", "visit", 80), event("left", "cancel", 81),
        event("back", "visit", 50), event("back", "cancel", 51), event("back", "visit", 80),
        event("never", "impression", 80, offer_id="o"), event("future", "visit", 95),
    ]  # fmt: skip
    with world(events) as tables:
        found = {one.stage: (one.n, one.share) for one in lifecycle(tables, day(90))}
    assert list(found) == list(STAGES)
    assert found["active"] == (2, 2 / 7)  # who cancelled and came back is active
    assert all(found[stage] == (1, 1 / 7) for stage in STAGES if stage != "active")


@pytest.mark.parametrize(
    ("began", "known"),
    [(67, {"left"}), (30.001, {"left"}), (30, {"left", "new", "returned", "active"}),
     (0.001, {"left", "new", "returned", "active"}), (0, set(STAGES))],
)  # fmt: skip
def test_stages_are_not_known_where_the_data_begin_later_than_the_spans_they_need(began, known):
    """Judged on day 90, with data from 23 days before, and from just under and just 60 and 90 days before."""
    events = [event("seen", "impression", began, offer_id="o"), event("a", "visit", 80), event("gone", "visit", 81),
              event("gone", "cancel", 82)]  # fmt: skip
    with world(events) as tables:
        found = {one.stage: one for one in lifecycle(tables, day(90))}
    assert {name for name, one in found.items() if one.n is not None} == known
    assert (found["left"].n, found["left"].share) == (1, 0.5)
    for name in set(STAGES) - known:
        assert (found[name].n, found[name].share) == (None, None)
        needed = 90 if name in ("lapsed", "at risk") else 60
        assert found[name].why == f"the data begin {90 - began:.0f} days before the end, {needed} are needed"


def latencies(rng, customers, per_customer, slow=1.0):
    """Decisions whose latency is a customer's own level times chance: those of one customer are alike."""
    own = rng.lognormal(0, 0.5, customers).repeat(per_customer)
    us = (own * rng.exponential(5_000 * slow, customers * per_customer)).astype(np.int64)
    return us, np.arange(customers).repeat(per_customer)


def decisions_table(us, customer, prefix="c"):
    return pa.table(
        {
            "decision_id": [f"{prefix}d{n}" for n in range(len(us))],
            "customer_id": [f"{prefix}{c}" for c in customer],
            "decided_at": pa.array([day(1)] * len(us), pa.timestamp("us", tz="UTC")),
            "payload": [f'{{"latency_us": {one}}}' for one in us],
        }
    )


def test_latency_quantiles_are_those_of_the_decisions_and_their_error_counts_customers():
    """The standard error agrees with a bootstrap of customers, and is larger than one of decisions would say."""
    us, customer = latencies(np.random.default_rng(1), 400, 8)
    with tables_of(decisions=decisions_table(us, customer), exposures=exposures_table(
        [exposure(f"c{n}", "control") for n in range(400)]
    )) as tables:  # fmt: skip
        cells = {cell.metric: cell for cell in moments(tables, "e", ["latency_p50", "latency_p99"], until=day(2))}
    rng = np.random.default_rng(2)
    by_customer = us.reshape(400, 8) / 1000
    for name, share in (("latency_p50", 0.5), ("latency_p99", 0.99)):
        draws = [np.quantile(by_customer[rng.integers(0, 400, 400)], share) for _ in range(400)]
        assert cells[name].mean_num == pytest.approx(np.quantile(us / 1000, share))
        assert cells[name].n == 400
        assert math.sqrt(cells[name].var_num / 400) == pytest.approx(np.std(draws), rel=0.25)


def test_latency_is_not_known_from_too_few_decisions_or_where_none_states_it():
    few = decisions_table(np.arange(1, 500) * 1000, np.arange(499))
    exposed = exposures_table([exposure(f"c{n}", "control") for n in range(499)])
    with tables_of(decisions=few, exposures=exposed) as tables:
        cells = moments(tables, "e", ["latency_p50", "latency_p99"], until=day(2))
    assert [(cell.metric, cell.mean_num) for cell in cells] == [("latency_p50", 250.0)]
    silent = few.set_column(3, "payload", pa.array(["{}"] * 499))
    with tables_of(decisions=silent, exposures=exposed) as tables:
        assert moments(tables, "e", ["latency_p50"], until=day(2)) == []


def test_latency_at_large_needs_no_events_and_counts_the_decisions_of_the_period():
    """Decisions on day 1, of 1 to 100 ms; the median is 50.5. Nobody sent an event."""
    with tables_of(decisions=decisions_table(np.arange(1, 101) * 1000, np.arange(100))) as tables:
        (found,) = measured(tables, "latency_p50", day(0), day(2))
        (none,) = measured(tables, "latency_p50", day(2), day(4))
    assert (found.n, found.value) == (100, 50.5)
    assert found.low < 50.5 < found.high
    assert none.value is None


def test_the_page_of_metrics_is_what_the_definitions_say():
    page = (ROOT / "docs/reference/engagement-metrics.md").read_text()
    assert page == reference_page(), "run: python -m experiments.metrics_page > docs/reference/engagement-metrics.md"
    assert all(f"## {name}\n" in page for name in METRICS)


@pytest.mark.real_data
def test_the_real_offers_of_starbucks_are_measured_as_the_models_are_trained(shared_data, tmp_path):
    """Acceptances and impressions are those of the training labels; members active and revenue by plain counting."""
    from training.dataset import open_log, read_impressions

    home = Home(tmp_path)
    facts = Facts(home.facts_db)
    ingest(home, facts, shared_data / "starbucks_offers", "starbucks", now=datetime(2018, 8, 25, tzinfo=UTC))
    since, until = datetime(2018, 7, 26, tzinfo=UTC), datetime(2018, 8, 24, 18, 0, 0, 1, tzinfo=UTC)
    with open_tables(home, facts) as tables:
        rate, revenue, active = measured_all(
            tables, ["acceptance_rate", "revenue_per_customer", "active_customers"], since, until
        )
        ((spent, buyers, members),) = tables.db.execute(
            "SELECT sum(value), count(DISTINCT CASE WHEN event_type = 'purchase' THEN customer_id END), "
            "count(DISTINCT customer_id) FROM events"
        ).fetchall()
        by_gender = measured(tables, "revenue_per_customer", since, until, by="gender")
    log = open_log(home, facts, int(until.timestamp() * 1e6))
    labelled = read_impressions(log, facts.catalogue().offers, facts.data_settings(), 0)
    facts.close()
    assert rate.value == pytest.approx(labelled.accepted.sum() / len(labelled.accepted), abs=1e-12)
    assert (rate.n, active.n, active.value) == (members, members, buyers)
    assert revenue.value == pytest.approx(float(spent) / members)
    assert {one.group for one in by_gender} == {"F", "M", "O", "unknown"}
    assert sum(one.n for one in by_gender) == members
