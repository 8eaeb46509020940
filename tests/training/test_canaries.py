"""Leaks that are planted are refused by name, and honest data pass; chance is what permutations of labels give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import Leakage, NotTrainable
from features.events import US_PER_DAY
from training.canaries import (
    TOO_GOOD,
    Watched,
    _shuffled,
    _within_days,
    alone_aucs,
    check_canaries,
    refuse_future,
    row_ids,
    shuffled_auc,
)
from training.encoder import Column, Encoder

ENCODER = Encoder(
    (Column("customer", "age"), Column("customer", "noise"), Column("customer", "country", ("a", "b", "c", "d")))
)


def watched(n=3_000, seed=0, first_id=0):
    """Age moves the rate of the label, and so does the day: by as much as real data may."""
    rng = np.random.default_rng(seed)
    day = rng.integers(0, 10, n)
    rows = np.column_stack([rng.normal(size=n), rng.normal(size=n), rng.integers(0, 4, n).astype(float)])
    rows[rng.random(n) < 0.1, 0] = np.nan
    p = 1 / (1 + np.exp(-(np.nan_to_num(rows[:, 0]) + 0.3 * (day - 5))))
    return Watched(rows, rng.random(n) < p, day * US_PER_DAY, first_id + np.arange(n))


def with_column(of, at, values):
    rows = of.rows.copy()
    rows[:, at] = values
    return Watched(rows, of.y, of.us, of.ids)


def test_honest_data_pass_and_the_report_says_what_was_found():
    found = check_canaries("acceptance", ENCODER, watched(), watched(seed=1, first_id=10_000), 0)
    assert found.shuffled.low < 0.5 < found.shuffled.high
    assert found.alone["column"].iloc[0] == "customer.age"
    assert 0.6 < found.metrics["canary_strongest_column_auc"] < TOO_GOOD
    assert found.said == ()


@pytest.mark.parametrize("shape", ["a number", "the middle of a number", "missing", "a category"])
def test_a_column_that_is_the_label_is_refused_by_name_whatever_its_shape(shape):
    train, judge = watched(), watched(seed=1, first_id=10_000)
    sign = np.where(train.y, 1.0, -1.0)
    noise = np.random.default_rng(2).random(len(sign))
    values = {
        "a number": sign + 0.1 * noise,
        "the middle of a number": np.where(train.y, 0.1 * noise, np.where(noise < 0.5, -1 - noise, 1 + noise)),
        "missing": np.where(train.y, np.nan, noise),
        "a category": np.where(train.y, 3.0, np.floor(3 * noise)),
    }[shape]
    at = 2 if shape == "a category" else 1
    with pytest.raises(Leakage, match=ENCODER.columns[at].name) as error:
        check_canaries("churn", ENCODER, with_column(train, at, values), judge, 0)
    assert error.value.feature == ENCODER.columns[at].name
    assert error.value.code == "leakage"
    assert isinstance(error.value, NotTrainable)  # so that the other models are trained and released without it


def test_a_column_of_names_gains_nothing_alone():
    of = watched()
    found = alone_aucs(ENCODER, with_column(of, 1, of.ids.astype(float)))
    assert found.set_index("column")["auc"]["customer.noise"] == pytest.approx(0.5, abs=0.05)


def test_rows_that_stand_in_both_parts_are_found_by_shuffled_labels():
    train = watched()
    with pytest.raises(Leakage, match="rows of the training part stand in the judged part too"):
        check_canaries("churn", ENCODER, train, train, 0)


@pytest.mark.parametrize("seed", range(12))
def test_shuffled_labels_are_told_as_well_as_by_a_coin_though_days_differ_much(seed):
    """Each seed is inside of the interval with 95 %; none may be outside of the limit that refuses."""
    interval = shuffled_auc(ENCODER, watched(800, seed), watched(800, seed + 100, 10_000), seed)
    assert abs(interval.estimate - 0.5) < 4 / 1.96 * (interval.high - 0.5)


def test_the_interval_of_chance_is_that_of_many_shuffles():
    rng = np.random.default_rng(0)
    day, y, score = np.repeat([0, 1, 2], [50, 80, 30]), rng.random(160) < 0.4, rng.normal(size=160)
    draws = []
    for _ in range(2_000):
        shuffled = _shuffled(np.arange(160), day * US_PER_DAY, y, rng)
        draws.append(_within_days(shuffled, score, day).estimate)
    interval = _within_days(y, score, day)
    np.testing.assert_allclose(np.quantile(draws, [0.025, 0.975]), [interval.low, interval.high], atol=0.012)


def test_shuffling_keeps_the_rate_of_every_day_and_one_label_per_row():
    of = watched(500)
    twice = np.concatenate([of.ids, of.ids])
    new = _shuffled(twice, np.tile(of.us, 2), np.tile(of.y, 2), np.random.default_rng(0))
    np.testing.assert_array_equal(new[:500], new[500:])
    assert (new[:500] != of.y).any()
    for day in np.unique(of.us):
        assert new[:500][of.us == day].sum() == of.y[of.us == day].sum()


def test_within_days_by_hand():
    """Day 0: the positive is above one of two negatives; day 1: below its only one. 1 of 3 pairs."""
    y = np.array([True, False, False, True, False])
    found = _within_days(y, np.array([2.0, 1.0, 3.0, 0.0, 9.0]), np.array([0, 0, 0, 1, 1]))
    assert found.estimate == pytest.approx(1 / 3)


def test_a_day_of_one_class_is_not_judged_and_that_is_said():
    of = watched(300)
    sure = Watched(of.rows, np.arange(300) % 2 == 0, (np.arange(300) % 2) * US_PER_DAY, of.ids)
    found = check_canaries("churn", ENCODER, sure, sure, 0)
    assert math.isnan(found.shuffled.estimate)
    assert found.said


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf])), min_size=2, max_size=60)
)
def test_odd_values_give_an_auc_all_the_same(pairs):
    n = len(pairs)
    of = Watched(
        np.array([[v, 0.0, 1.0] for _, v in pairs]),
        np.array([y for y, _ in pairs]),
        np.zeros(n, np.int64),
        np.arange(n),
    )
    assert alone_aucs(ENCODER, of)["auc"].between(0, 1).all()


# Features of the future


def test_a_feature_that_knows_the_future_is_named_with_what_it_should_have_been():
    given_ = {"age": [1.0, 2.0], "purchases_30d": [3.0, 5.0]}
    as_of = {"age": [1.0, 2.0], "purchases_30d": [3.0, 4.0]}
    assert refuse_future("churn", as_of, as_of) == 2
    with pytest.raises(Leakage, match=r"purchases_30d differs in 1 of 2 rows .*5\.0, as of then 4\.0") as error:
        refuse_future("churn", given_, as_of)
    assert error.value.feature == "purchases_30d"


def test_a_feature_of_which_nobody_knows_when_it_was_known_is_refused():
    with pytest.raises(Leakage, match="will_cancel"):
        refuse_future("churn", {"will_cancel": [1.0]}, {"age": [1.0]})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (math.nan, math.nan, True),
        (None, math.nan, True),
        (None, "a", False),
        ("a", "a", True),
        (1.0, 1.0 + 1e-12, True),
        (1.0, 1.1, False),
        (math.inf, math.inf, True),
        (math.nan, 1.0, False),
        ({"a": 1.0}, {"a": 1.0}, True),
        ({"a": 1.0}, {"a": 2.0}, False),
        ({"a": 1.0}, {}, False),
        (0, 0.0, True),
    ],
)
def test_what_counts_as_the_same_value(one, other, same):
    if same:
        assert refuse_future("churn", {"f": [one]}, {"f": [other]}) == 1
    else:
        with pytest.raises(Leakage):
            refuse_future("churn", {"f": [one]}, {"f": [other]})


def test_row_ids_are_the_same_for_the_same_row():
    assert row_ids(["a", "b", "a"], np.array([1, 1, 1])).tolist() == [0, 1, 0]
    assert row_ids(["a", None, None], [1, 1, 1]).tolist() == [0, 1, 1]
