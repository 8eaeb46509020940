"""The ranking protocol: who is judged, what may be ranked, windows, segments, pooling, and paired differences."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInput
from features.events import US_PER_DAY
from tests.training.builders import START_US, interactions, offer
from training.evaluation import (
    difference,
    evaluate,
    evaluate_ranking,
    judged_by,
    mean_interval,
    mean_intervals,
    pooled,
    rolling_cutoffs,
    segment_table,
)
from training.interactions import Interactions

DAY = US_PER_DAY


@dataclass
class Fixed:
    """A recommender that says what it is told: (n_customers, n_offers), by the number in the customer's name."""

    scores: np.ndarray
    version: str = ""
    offer_map: tuple[str, ...] = ()

    def prepare(self, offers):
        return None

    def many(self, customers, features, side):
        return self.scores[[int(name[1:]) for name in customers]].astype(np.float32)


def taken(*rows: tuple[int, int, float], n_customers: int = 4, n_offers: int = 5) -> Interactions:
    """Interactions from (customer, offer, day)."""
    ordered = sorted(rows, key=lambda row: row[2])
    return Interactions(
        customers=tuple(f"c{i}" for i in range(n_customers)),
        offers=tuple(offer(f"o{i}", "even" if i % 2 == 0 else "odd") for i in range(n_offers)),
        profiles=[{}] * n_customers,
        customer=np.array([row[0] for row in ordered], np.int32),
        offer=np.array([row[1] for row in ordered], np.int32),
        weight=np.ones(len(ordered), np.float32),
        occurred_us=np.array([START_US + int(row[2] * DAY) for row in ordered], np.int64),
    )


PAST = taken((0, 0, 0), (0, 1, 1), (1, 0, 2), (2, 4, 40))
FUTURE = taken((0, 0, 50), (0, 2, 50), (1, 3, 51), (3, 0, 52))
RISING = Fixed(np.tile(np.arange(5.0), (4, 1)))  # offer 4 first, then 3, …


def test_offers_taken_before_are_neither_ranked_nor_relevant_when_they_are_excluded():
    found = evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=True, cutoffs=(1, 3))
    assert found.exclude_seen
    assert found.customers == ("c0", "c1", "c3")
    # c0 may have 4, 3, 2 and took 2: rank 3. c1: 4, 3, 2, 1 and took 3: rank 2. c3: all, took 0: rank 5.
    np.testing.assert_allclose(found.at("ndcg", 3), [1 / np.log2(4), 1 / np.log2(3), 0])
    np.testing.assert_allclose(found.at("mrr", 3), [1 / 3, 1 / 2, 0])
    np.testing.assert_array_equal(found.lists[0], [4, 3, 2, -1, -1, -1, -1, -1, -1, -1])


def test_repeats_count_when_they_are_not_excluded():
    found = evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=False, cutoffs=(5,))
    # c0 took 0 and 2: ranks 5 and 3
    ideal = 1 + 1 / np.log2(3)
    assert found.at("ndcg", 5)[0] == pytest.approx((1 / np.log2(4) + 1 / np.log2(6)) / ideal)
    assert found.at("recall", 5)[0] == 1


def test_a_customer_with_nothing_to_rank_is_counted_and_left_out():
    future = taken((0, 0, 50), (1, 3, 51))  # c0 takes only what it had
    found = evaluate_ranking(RISING, PAST, future, exclude_seen=True)
    assert (found.customers, found.n_left_out) == (("c1",), 1)


def test_who_took_little_or_nothing_before_is_a_segment_and_so_is_an_offer_first_taken_lately():
    judged = judged_by(PAST, taken(*((c, 3, 50) for c in range(4))), exclude_seen=False, cut_us=START_US + 45 * DAY)
    np.testing.assert_array_equal(judged.n_taken, [2, 1, 1, 0])
    report = evaluate(RISING, judged)
    assert {name: inside.tolist() for name, inside in report.segments.items()} == {
        "new": [False, False, False, True], "light": [False, True, True, False], "heavy": [True, False, False, False],
    }  # fmt: skip
    np.testing.assert_array_equal(judged.new_offer, [False, False, True, True, True])  # 4 was first taken 5 days before
    assert np.isnan(report.on_offers["old"]["ndcg"]).all()
    np.testing.assert_array_equal(report.on_offers["new"]["ndcg"], report.values["ndcg"])
    table = segment_table(report, against=report).set_index(["slice", "value"])
    assert table.loc[("customers", "new"), "n_customers"] == 1
    assert table.loc[("customers", "all"), "ndcg_at_10_gain"] == 0
    assert table.loc[("customers", "new"), "definition"] == "took nothing before"
    assert table.loc[("offers", "new"), "definition"] == (  # all four took offer 3 alone, which is new
        "took an offer first taken in the 30 days before the cut-off, or not yet; here everybody who was judged"
    )
    assert table.loc[("customers", "all"), "definition"] == "everybody who was judged"


def test_a_paired_difference_needs_the_same_customers():
    one = evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=True)
    better = evaluate_ranking(Fixed(-RISING.scores), PAST, FUTURE, exclude_seen=True)
    found = difference(better, one, "mrr", 10)
    # c0: 2, 3, 4 → rank 1; c1: 1, 2, 3 → rank 3; c3: rank 1; against 3, 2 and 5
    assert found.estimate == pytest.approx(np.mean([1 - 1 / 3, 1 / 3 - 1 / 2, 1 - 1 / 5]))
    with pytest.raises(BadInput, match="same customers"):
        difference(one, evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=False), "ndcg", 10)


def test_parts_of_two_logs_are_refused():
    with pytest.raises(BadInput, match="different customers or offers"):
        evaluate_ranking(RISING, PAST, taken((0, 0, 50), n_offers=6), exclude_seen=True)


@pytest.mark.parametrize("cutoffs", [(), (0, 1), (3, 1), (2, 2)])
def test_cutoffs_must_rise_from_one(cutoffs):
    with pytest.raises(BadInput, match="rising"):
        evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=True, cutoffs=cutoffs)


def test_an_affinity_that_is_not_finite_is_no_rank():
    with pytest.raises(ValueError, match="finite"):
        evaluate_ranking(Fixed(np.full((4, 5), np.nan)), PAST, FUTURE, exclude_seen=True)


def test_windows_lie_end_to_end_and_an_earlier_one_needs_half_of_the_data_before_it():
    log = interactions(n_days=60)
    end = START_US + 50 * DAY
    found = rolling_cutoffs(log, end, days=10, n=4)
    assert [(w.cut_us - START_US) / DAY for w in found] == [40, 30]  # 20 of 50 days is less than half
    assert all(w.end_us - w.cut_us == 10 * DAY for w in found)
    assert found[1].end_us == found[0].cut_us


@pytest.mark.parametrize("day", [-5, 0, 90])
def test_a_cutoff_outside_the_data_is_named_with_the_data_it_is_outside_of(day):
    with pytest.raises(BadInput, match="outside the data, which is from 2023-11-15") as caught:
        rolling_cutoffs(interactions(), START_US + (day + 7) * DAY, days=7, n=1)
    assert caught.value.field == "cutoff"


def test_a_customer_of_two_windows_counts_once_with_the_mean():
    one = evaluate_ranking(RISING, PAST, FUTURE, exclude_seen=False, cutoffs=(5,))
    other = evaluate_ranking(RISING, PAST, taken((0, 4, 60), (2, 4, 60)), exclude_seen=False, cutoffs=(5,))
    both = pooled([one, other])
    assert both.customers == ("c0", "c1", "c2", "c3")
    assert both.at("ndcg", 5)[0] == pytest.approx((one.at("ndcg", 5)[0] + 1) / 2)
    np.testing.assert_array_equal(both.at("ndcg", 5)[1:], [one.at("ndcg", 5)[1], 1, one.at("ndcg", 5)[2]])
    assert pooled([one]) is one


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = mean_interval(rng.exponential(size=150), rng, 150)
        inside += found.low <= 1 <= found.high
    assert 0.89 <= inside / 200 <= 0.98  # 95 % nominal, ± 3 standard errors and the known shortfall for skewed data


def test_a_customer_to_whom_a_figure_does_not_apply_is_left_out_of_it_alone():
    values = np.array([[1.0, np.nan], [3.0, 5.0]])
    first, second = mean_intervals(values, np.random.default_rng(0))
    assert (first.estimate, second.estimate) == (2, 5)
    assert np.isnan(mean_intervals(np.zeros((0, 1)), np.random.default_rng(0))[0].estimate)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 40))
def test_customers_are_judged_alike_whoever_else_is_judged(seed, exclude_seen, at_most):
    rng = np.random.default_rng(seed)
    log = interactions(30, 8, 20, seed)
    past, future = log.before(START_US + 10 * DAY), log.between(START_US + 10 * DAY, START_US + 20 * DAY)
    scorer = Fixed(rng.integers(0, 3, (30, 8)).astype(float))  # with ties
    scorer_named = replace(scorer, scores=scorer.scores)
    everybody = evaluate_ranking(scorer, past, future, exclude_seen=exclude_seen)
    some = evaluate_ranking(scorer_named, past, future, exclude_seen=exclude_seen, at_most=at_most)
    assert len(some) == min(at_most, len(everybody))
    rows = [everybody.customers.index(name) for name in some.customers]
    for metric, values in some.values.items():
        np.testing.assert_array_equal(values, everybody.values[metric][rows])
