"""Cells by SQL are those of the units' own numbers; who counts, from when, and who does not."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import moments as module
from experiments.cells import Cell, cells_of
from experiments.metrics import METRICS
from experiments.moments import Checks, ask, checks, moments, per_unit
from experiments.units import Question
from features.data_settings import Churn, DataSettings
from features.errors import BadInput
from features.events import ANONYMOUS, EVENT_TYPES, to_us
from tests.experiments.worlds import day, event, exposure, offer, world

OF_EVENTS = [name for name, metric in METRICS.items() if metric.numerator]
SHORT = DataSettings(churn=Churn(horizon_days=5))
NAMES = [field.name for field in fields(Cell)]


def close(left, right):
    return all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-7) or (math.isnan(a) and math.isnan(b))
        if isinstance(a := getattr(left, name), float) and isinstance(b := getattr(right, name), float)
        else getattr(left, name) == getattr(right, name)
        for name in NAMES
    )


@st.composite
def histories(draw):
    """Events and exposures of a few units, with everything at once on purpose: same instants, odd orders, nobody."""
    times = st.sampled_from([-20.0, -3.0, -0.5, 0.0, 0.0, 1.0, 1.0, 2.5, 8.0, 14.0, 20.0])
    units = st.sampled_from("abcdef")
    kinds = st.sampled_from([kind.name for kind in EVENT_TYPES])
    events = []
    for _ in range(draw(st.integers(0, 40))):
        kind = draw(kinds)
        more = {"offer_id": draw(st.sampled_from("op")), "decision_id": draw(st.sampled_from([None, "d"]))}
        if kind == "purchase":
            more |= {
                "value": draw(st.sampled_from([0, 5, 99999.99, -3])),
                "currency": draw(st.sampled_from(["EUR", "USD"])),
            }
        if kind == "feedback":
            more["properties"] = draw(st.sampled_from(['{"nps": 0}', '{"nps": 10, "ces": 7}', '{"csat": 5}', "{}"]))
        events.append(event(draw(units), kind, draw(times), **more))
    exposures = [
        exposure(unit, draw(st.sampled_from(["control", "treatment"])), draw(times), phase=draw(st.integers(1, 2)),
                 tier=draw(st.sampled_from(["gold", None])))
        for unit in draw(st.lists(units, min_size=1, max_size=6, unique=True))
    ]  # fmt: skip
    return events, exposures


@settings(max_examples=12, deadline=None)
@given(histories(), st.lists(st.sampled_from(OF_EVENTS), min_size=1, max_size=5, unique=True), st.booleans())
def test_cells_by_sql_are_those_of_each_units_numbers(history, names, in_parts):
    events, exposures = history
    with pytest.MonkeyPatch.context() as patch, world(events, exposures, offers=[offer("o")], settings=SHORT) as tables:
        patch.setattr(module, "AT_ONCE", 2 if in_parts else 1000)
        with ask(tables, Question(experiment_id="e", until=day(21), segments=["tier"]), names) as answer:
            found, rows = answer.cells(), answer.per_unit().to_pandas()
    expected = []
    for name in names:
        mine = rows[rows[f"{name}_num"].notna()]
        if not len(mine):
            continue
        ratio = METRICS[name].denominator is not None
        pre = mine[f"{name}_pre_num"].to_numpy() if (mine[f"{name}_pre_num"] != 0).any() else None
        expected += cells_of(
            name,
            mine["variant"].to_numpy(str),
            mine[f"{name}_num"].to_numpy(),
            mine[f"{name}_den"].to_numpy() if ratio else None,
            pre,
            mine[f"{name}_pre_den"].to_numpy() if pre is not None else None,
            phase=mine["phase"].to_numpy(),
            segments={"tier": mine["tier"].to_numpy(str)},
        )

    def place(cell):
        return cell.metric, cell.segment or ("", ""), cell.phase, cell.variant

    assert len(found) == len(expected)
    for mine, other in zip(sorted(found, key=place), sorted(expected, key=place), strict=True):
        assert close(mine, other), (mine, other)


@settings(max_examples=5, deadline=None)
@given(histories())
def test_days_since_exposure_add_up_to_the_whole(history):
    """Over units watched for whole days only, the sums of the days are the sum of the period: 21 days from day 0."""
    events, exposures = history
    at_start = [one | {"exposed_at": day(0), "phase": 1} for one in exposures]
    names = ["revenue_per_customer", "customer_engagement", "click_through_rate", "nps"]
    counted = ["revenue_per_customer", "click_through_rate", "nps"]  # engagement asks whether somebody was active
    with world(events, at_start, offers=[offer("o")], settings=SHORT) as tables:
        whole = moments(tables, "e", names, until=day(21))
        daily = moments(tables, "e", names, until=day(21), by_day=True)
    assert {cell.day_since_exposure for cell in daily} == (set(range(21)) if exposures else set())
    for cell in whole:
        parts = [one for one in daily if (one.metric, one.variant) == (cell.metric, cell.variant)]
        assert {one.n for one in parts} == {cell.n}
        if cell.metric in counted:
            assert np.isclose(sum(one.mean_num for one in parts), cell.mean_num)
            if METRICS[cell.metric].denominator:
                assert np.isclose(sum(one.mean_den for one in parts), cell.mean_den)


def test_a_day_of_novelty_is_counted_by_hand():
    """Day 1 of a and b: a spends 3 and 4, b nothing; c was exposed too late to be watched for a second day."""
    spent = [event("a", "purchase", at, value=value, currency="EUR") for at, value in ((0.5, 1), (1.2, 3), (1.9, 4))]
    units = [exposure("a", "control"), exposure("b", "control"), exposure("c", "control", at=1)]
    with world(spent, units) as tables:
        found = moments(tables, "e", ["revenue_per_customer"], until=day(2.5), by_day=True)
    assert [(one.day_since_exposure, one.n, one.mean_num) for one in found] == [(0, 3, 1 / 3), (1, 2, 3.5)]
    assert found[1].var_num == pytest.approx(24.5)  # of 7 and 0
    assert not found[1].has_pre


def numbers(tables, metric="revenue_per_customer", **asked):
    rows = per_unit(tables, "e", [metric], **({"until": day(30)} | asked)).to_pylist()
    return {row["unit_id"]: (row["variant"], row[f"{metric}_num"]) for row in rows}


def spent(customer, at, value=1):
    return event(customer, "purchase", at, value=value, currency="EUR")


def test_units_seen_in_two_variants_are_counted_and_left_out():
    units = [exposure("a", "control"), exposure("a", "treatment", at=2, phase=2), exposure("b", "control")]
    with world([spent("a", 1), spent("b", 1)], units) as tables:
        assert numbers(tables) == {"b": ("control", 1)}
        assert checks(tables, "e", ["revenue_per_customer"], until=day(30))[0].n_crossed == 1


def test_a_unit_that_a_new_phase_moves_counts_in_its_first_until_that_phase_ends():
    units = [
        exposure("a", "control"),
        exposure("a", "treatment", at=3, phase=2),
        exposure("b", "treatment", 3, phase=2),
    ]
    with world([spent("a", 1, 10), spent("a", 4, 100), spent("b", 4, 7)], units) as tables:
        assert numbers(tables, phase_ends={1: day(2)}) == {"a": ("control", 10), "b": ("treatment", 7)}
        assert numbers(tables, phase_ends={1: day(2)}, phase=2) == {"b": ("treatment", 7)}


def test_a_unit_seen_again_in_the_same_variant_counts_once_and_from_the_first_time():
    units = [exposure("a", "control", 2, phase=2), exposure("a", "control", 0)]
    with world([spent("a", 1), spent("a", 3)], units) as tables:
        assert numbers(tables) == {"a": ("control", 2)}


def test_a_visitor_who_becomes_known_stays_one_unit():
    """Exposed as a visitor, joined on day 2, goes on as a customer: all of it is one unit under the visitor's key."""
    visitor = f"{ANONYMOUS}v"
    joined = [(visitor, "c", to_us(day(2)))]
    events = [spent(visitor, 1, 1), spent("c", 3, 10), spent("c", -1, 100)]
    with world(events, [exposure(visitor, "control")], identities=joined) as tables:
        assert numbers(tables) == {visitor: ("control", 11)}
        assert numbers(tables, until=day(1.5)) == {visitor: ("control", 1)}  # nobody knew then
        row = per_unit(tables, "e", ["revenue_per_customer"], until=day(30)).to_pylist()[0]
        assert row["revenue_per_customer_pre_num"] == 100


def test_one_person_exposed_under_two_keys_is_one_unit_or_crossed():
    visitor = f"{ANONYMOUS}v"
    joined = [(visitor, "c", to_us(day(2)))]
    for variant, expected in (("control", {visitor: ("control", 11)}), ("treatment", {})):
        units = [exposure(visitor, "control"), exposure("c", variant, at=1)]
        with world([spent(visitor, 1, 1), spent("c", 3, 10)], units, identities=joined) as tables:
            assert numbers(tables) == expected


def test_sessions_are_units_of_their_own():
    units = [exposure("s1", "control", customer_id="a"), exposure("s2", "treatment", customer_id="a", at=1),
             exposure("b", "control")]  # fmt: skip
    events = [
        spent("a", 0.5) | {"session_id": "s1"}, spent("a", 1.5, 10) | {"session_id": "s2"},
        spent("a", 1.6, 100) | {"session_id": "s3"}, spent("b", 2, 7),
    ]  # fmt: skip
    with world(events, [one | {"customer_id": one.get("customer_id", "b")} for one in units]) as tables:
        assert numbers(tables, unit="session") == {"s1": ("control", 1), "s2": ("treatment", 10), "b": ("control", 7)}


def test_with_a_window_only_units_watched_for_it_count_and_all_for_the_same_time():
    units = [exposure("a", "control"), exposure("late", "control", at=25)]
    with world([spent("a", 6, 5), spent("a", 8, 100), spent("late", 26)], units) as tables:
        assert numbers(tables, window_days=7) == {"a": ("control", 5)}
        assert checks(tables, "e", ["revenue_per_customer"], until=day(30), window_days=7)[0].n_immature == 1


def test_checks_count_other_currencies_and_events_dated_before_the_exposure_that_caused_them():
    events = [
        spent("a", 1), event("a", "purchase", 1, value=5, currency="USD"),
        event("a", "purchase", 2, value=5, currency="GBP"),
        event("a", "purchase", -1, value=5, currency="USD"), event("a", "click", -0.1, offer_id="o", decision_id="d"),
    ]  # fmt: skip
    with world(events, [exposure("a", "control", decision_id="d"), exposure("b", "treatment", at=1.5)]) as tables:
        found, counts = checks(tables, "e", ["revenue_per_customer"], until=day(30))
        assert found == Checks(2, 0, 0, 1, {"GBP": 1, "USD": 1})
        assert [(one.day, one.phase, one.variant, one.n) for one in counts] == [
            ("2026-03-02", 1, "control", 1), ("2026-03-03", 1, "treatment", 1)]  # fmt: skip


def test_a_metric_without_data_has_cells_without_a_denominator_and_one_without_units_has_none():
    with world([], [exposure("a", "control"), exposure("b", "treatment")]) as tables:
        assert [cell.mean_den for cell in moments(tables, "e", ["nps"], until=day(5))] == [0.0, 0.0]
        assert moments(tables, "e", ["retention"], until=day(5)) == []  # nobody was watched for two weeks
        assert moments(tables, "another", ["nps"], until=day(5)) == []
        assert moments(tables, "e", ["nps"], until=day(-1)) == []


def test_customers_are_grouped_by_what_was_known_of_them_when_they_were_exposed():
    import pyarrow as pa

    customers = pa.table(
        {
            "customer_id": ["a", "a", "a", "b"],
            "known_from": [day(-9), day(-1), day(1), day(1)],
            "city": ["Rome", "Oslo", "Nice", "Nice"],
        }
    )
    with world([], [exposure("a", "control"), exposure("b", "control")], customers=customers) as tables:
        rows = per_unit(tables, "e", ["opt_out_rate"], until=day(5), segments=["city", "known"]).to_pylist()
    assert [(row["city"], row["known"]) for row in rows] == [("Oslo", "known"), ("unknown", "known")]


def test_bad_segments_are_refused_by_name():
    with world([], [exposure(f"u{n}", "control", tier=str(n)) for n in range(51)]) as tables:
        with pytest.raises(BadInput, match="'colour' is not known of customers; expected one of known, tier"):
            moments(tables, "e", ["nps"], until=day(5), segments=["colour"])
        with pytest.raises(BadInput, match="tier has 51 values, expected at most 50"):
            moments(tables, "e", ["nps"], until=day(5), segments=["tier"])
