"""Each metric in a world small enough to count by hand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import sqlglot

from experiments.metrics import EXPERIMENT_METRICS, METRICS, experiment_metrics, filled, metric_of
from experiments.moments import per_unit
from features.data_settings import Attribution, Churn, DataSettings
from features.errors import BadInput
from tests.experiments.worlds import day, event, exposure, offer, world


def numbers(metric, events, *, until=30.0, exposures=None, pre=False, **others):
    """What one metric gives each unit: {unit: (numerator, denominator)}; None where it takes no part."""
    asked = {name: others.pop(name) for name in ("unit", "window_days", "pre_days", "phase_ends") if name in others}
    with world(events, exposures or [exposure("a", "control")], **others) as tables:
        rows = per_unit(tables, "e", [metric], until=day(until), **asked).to_pylist()
    part = "_pre" if pre else ""
    found = {row["unit_id"]: (row[f"{metric}{part}_num"], row[f"{metric}{part}_den"]) for row in rows}
    return {unit: None if pair == (None, None) else pair for unit, pair in found.items()}


def shown(at, customer="a", offer_id="o", **fields):
    return event(customer, "impression", at, offer_id=offer_id, **fields)


def taken(at, customer="a", offer_id="o", kind="accept", **fields):
    return event(customer, kind, at, offer_id=offer_id, **fields)


def test_acceptance_rate_counts_impressions_with_an_acceptance_among_those_watched_to_their_windows_end():
    events = [
        shown(1), taken(2),  # taken within 7 days
        shown(3, offer_id="p"), taken(11, offer_id="p"),  # 8 days later: too late
        shown(25, offer_id="q"), taken(26, offer_id="q"),  # taken, but on day 30 its window is still open
    ]  # fmt: skip
    assert numbers("acceptance_rate", events) == {"a": (1, 2)}


def test_one_acceptance_answers_one_impression_as_in_training():
    events = [shown(1), shown(2), shown(3), taken(4)]
    assert numbers("acceptance_rate", events) == {"a": (1, 3)}


def test_a_decision_binds_its_own_acceptance():
    """The second impression is the latest, but the acceptance names the decision of the first, whose window is open."""
    events = [shown(1, decision_id="d1"), shown(2, decision_id="d2"), taken(3, decision_id="d1")]
    rules = Attribution(window_days=1.5)  # of the first until 2.5: too late; of the second until 3.5
    assert numbers("acceptance_rate", events) == {"a": (1, 2)}
    assert numbers("acceptance_rate", events, settings=DataSettings(attribution=rules)) == {"a": (0, 2)}


def test_what_counts_as_accepted_and_for_how_long_is_what_the_data_settings_say():
    rules = Attribution(outcomes=("purchase",), matching="fifo", window_attribute="valid_days", at_most_days=3)
    events = [shown(1), taken(3, kind="purchase", value=5, currency="EUR"), taken(1.5), shown(10, offer_id="p")]
    settings = DataSettings(attribution=rules)
    short, long = [offer("o", valid_days=1), offer("p")], [offer("o", valid_days=30), offer("p")]
    assert numbers("acceptance_rate", events, settings=settings, offers=short) == {"a": (0, 2)}
    assert numbers("acceptance_rate", events, settings=settings, offers=long) == {"a": (1, 2)}


def test_click_through_counts_an_impression_clicked_twice_once_and_does_not_wait():
    events = [shown(1), taken(1.1, kind="click"), taken(1.2, kind="click"), shown(29, offer_id="p")]
    assert numbers("click_through_rate", events) == {"a": (1, 2)}


def test_offer_value_is_what_the_catalogue_says_of_each_offer_accepted():
    events = [shown(1), taken(2), shown(3, offer_id="p"), taken(4, offer_id="p"), shown(5, offer_id="unknown"),
              taken(5.5, offer_id="unknown")]  # fmt: skip
    assert numbers("offer_value_per_visitor", events, offers=[offer("o", 12.5), offer("p", 3)]) == {"a": (15.5, 1)}


def test_revenue_counts_purchases_in_the_deployments_currency_since_exposure():
    events = [
        event("a", "purchase", -1, value="100", currency="EUR"),
        event("a", "purchase", 0, value="20.5", currency="EUR"),
        event("a", "purchase", 2, value="7", currency="USD"),
        event("a", "purchase", 29.9, value="1", currency="EUR"),
        event("a", "purchase", 30, value="50", currency="EUR"),  # the end is exclusive
        event("b", "purchase", 2, value="5", currency="EUR"),
    ]
    both = [exposure("a", "control"), exposure("b", "treatment", at=3)]
    assert numbers("revenue_per_customer", events, exposures=both) == {"a": (21.5, 1), "b": (0, 1)}
    assert numbers("revenue_per_customer", events, exposures=both, pre=True) == {"a": (100, 1), "b": (5, 1)}


def test_dismissal_rate_counts_impressions_that_were_dismissed_or_rejected():
    events = [shown(1), taken(1, kind="dismiss"), shown(2), taken(3, kind="reject"), shown(4), shown(5)]
    assert numbers("dismissal_rate", events) == {"a": (2, 4)}


def test_opting_out_twice_is_opting_out():
    events = [event("a", "opt_out", 1, category="x"), event("a", "opt_out", 2, category="y"),
              event("b", "opt_in", 1, category="x")]  # fmt: skip
    both = [exposure("a", "control"), exposure("b", "treatment")]
    assert numbers("opt_out_rate", events, exposures=both) == {"a": (1, 1), "b": (0, 1)}


@pytest.mark.parametrize(
    ("events", "churned"),
    [
        ([], 1),
        ([event("a", "view", 1)], 1),  # within the gap
        ([event("a", "view", 2.5)], 0),
        ([event("a", "view", 9)], 0),  # gap 2 + horizon 7, inclusive
        ([event("a", "view", 9.1)], 1),
        ([event("a", "impression", 5, offer_id="o")], 1),  # seeing an offer is no activity
        ([event("a", "view", 5), event("a", "cancel", 6)], 1),
        ([event("a", "view", 5), event("a", "cancel", 9.5)], 0),  # after the horizon
    ],
)
def test_churn_is_no_activity_in_the_horizon_after_the_gap_or_a_cancellation(events, churned):
    settings = DataSettings(churn=Churn(gap_days=2, horizon_days=7))
    assert numbers("churn_rate", events, settings=settings) == {"a": (churned, 1)}


def test_who_was_not_watched_for_the_horizon_takes_no_part_in_churn():
    settings = DataSettings(churn=Churn(gap_days=0, horizon_days=7))
    both = [exposure("a", "control", at=0), exposure("b", "treatment", at=4)]
    assert numbers("churn_rate", [], exposures=both, until=10, settings=settings) == {"a": (1, 1), "b": None}


def test_engagement_is_the_share_of_active_customers_times_visits_per_active_customer():
    """a visits 3 times, b only buys, c does nothing: active 2 of 3, visits per active 3 / 2, engagement 3 / 3."""
    events = [*(event("a", "visit", at) for at in (1, 2, 2.1)), event("b", "purchase", 1, value=1, currency="EUR")]
    three = [exposure(unit, "control") for unit in "abc"]
    assert numbers("active_customers", events, exposures=three) == {"a": (1, 1), "b": (1, 1), "c": (0, 1)}
    assert numbers("visit_frequency", events, exposures=three) == {"a": (3, 1), "b": (0, 1), "c": (0, 0)}
    assert numbers("customer_engagement", events, exposures=three) == {"a": (3, 1), "b": (0, 1), "c": (0, 1)}


def test_daily_weekly_and_monthly_active_count_back_from_the_end():
    events = [event("a", "visit", 29.5), event("b", "visit", 24), event("c", "visit", 1)]
    units = [*(exposure(unit, "control") for unit in "abc"), exposure("late", "control", at=29.5)]
    assert numbers("dau", events, exposures=units) == {"a": (1, 1), "b": (0, 1), "c": (0, 1), "late": None}
    assert numbers("wau", events, exposures=units) == {"a": (1, 1), "b": (1, 1), "c": (0, 1), "late": None}
    assert numbers("mau", events, exposures=units) == {"a": (1, 1), "b": (1, 1), "c": (1, 1), "late": None}


def test_stickiness_is_active_days_by_days_watched_of_active_customers():
    events = [event("a", "visit", at) for at in (0.1, 0.9, 3, 9.5)]
    units = [exposure("a", "control"), exposure("b", "control"), exposure("c", "control", at=-30)]
    events.append(event("c", "view", 5))  # on day 35: beyond the 30 days
    assert numbers("stickiness", events, exposures=units, until=9.75) == {"a": (3, 10), "b": (0, 0), "c": (0, 0)}


def test_retention_is_activity_in_the_second_week():
    events = [event("a", "visit", 6.9), event("b", "visit", 7), event("c", "visit", 13.9), event("d", "visit", 14)]
    units = [*(exposure(unit, "control") for unit in "abcd"), exposure("late", "control", at=17)]
    assert numbers("retention", events, exposures=units) == {
        "a": (0, 1), "b": (1, 1), "c": (1, 1), "d": (0, 1), "late": None}  # fmt: skip


def test_scores_of_feedback():
    def said(at, **scores):
        text = ", ".join(f'"{name}": {score}' for name, score in scores.items())
        return event("a", "feedback", at, properties="{" + text + "}")

    events = [said(1, nps=10), said(2, nps=9), said(3, nps=8), said(4, nps=6, csat=4), said(5, csat=3, ces=7),
              said(6, ces=2), said(7, text='"7"')]  # fmt: skip
    assert numbers("nps", events) == {"a": (100, 4)}  # 100 + 100 + 0 − 100
    assert numbers("csat", events) == {"a": (1, 2)}
    assert numbers("ces", events) == {"a": (9, 2)}


def test_lifetime_value_is_revenue_of_the_horizon_by_the_share_that_churns_in_it():
    """Revenue 30 and 10 of two customers of whom one churns: 20 per customer ÷ 0.5 = 40."""
    settings = DataSettings(churn=Churn(gap_days=0, horizon_days=7))
    events = [
        event("a", "purchase", 3, value=30, currency="EUR"),
        event("a", "purchase", 8, value=500, currency="EUR"),  # after the horizon
        event("b", "purchase", 0, value=10, currency="EUR"),  # at the exposure: not after it
    ]
    both = [exposure("a", "control"), exposure("b", "control")]
    assert numbers("clv", events, exposures=both, settings=settings) == {"a": (30, 0), "b": (10, 1)}


def test_what_is_known_beforehand_holds_nothing_that_the_exposure_could_change():
    """The offer was seen before the exposure and taken after it: neither an acceptance before nor one since."""
    assert numbers("acceptance_rate", [shown(-1), taken(1)], pre=True) == {"a": (0, 1)}
    assert numbers("acceptance_rate", [shown(-1), taken(1)]) == {"a": (0, 0)}
    assert numbers("acceptance_rate", [shown(-2), taken(-1)], pre=True) == {"a": (1, 1)}


def test_an_unknown_metric_is_refused_with_the_names_there_are():
    with pytest.raises(BadInput, match="'revenu' is not a metric; expected one of acceptance_rate, click"):
        metric_of("revenu")
    with pytest.raises(BadInput, match="lifecycle has no value per customer"):
        experiment_metrics(["lifecycle"])


def test_metrics_are_known_without_the_libraries_that_compute_them():
    code = (
        "import sys, experiments.metrics; "
        "print(*[m for m in ('duckdb', 'pandas', 'pyarrow', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_every_metric_says_what_it_is_in_plain_sql(metric):
    assert METRICS[metric.name] is metric
    assert metric.title
    assert metric.formula
    assert metric.window
    assert metric.exposure_rule
    texts = [metric.numerator, metric.denominator, metric.pre_numerator, metric.pre_denominator, metric.takes_part]
    functions = {name.lower() for text in texts if text for name in re.findall(r"(\w+)\(", text)}
    assert functions <= {"sum", "max", "count", "least", "ceil", "coalesce"}
    for text in filter(None, texts):  # both databases read the same
        sql = filled(text, DataSettings())
        assert sqlglot.parse_one(sql, read="spark").sql("spark") == sqlglot.parse_one(sql, read="duckdb").sql("spark")
    assert bool(metric.numerator) == (metric.name in EXPERIMENT_METRICS and metric.kind != "quantile")
