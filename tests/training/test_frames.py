"""Training's steps over data frames: what notebooks import, on planted truths, and what they refuse by its name."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

import training
from features.errors import BadInput, Leakage, NotTrainable
from training.frames import (
    customer_value,
    fit_probabilities,
    fit_recommender,
    fit_uplift,
    interactions_from,
    parts_at,
    probabilities,
    recommend,
)

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def events():
    """Customers of even number take offers a…e, of odd number f…j; each at some hour of 40 days."""
    rng = np.random.default_rng(4)
    n = 3_000
    customer = rng.integers(0, 120, n)
    offer = np.array(list("abcdefghij"))[rng.integers(0, 5, n) + 5 * (customer % 2)]
    when = [FIRST + timedelta(hours=int(hour)) for hour in rng.integers(0, 40 * 24, n)]
    return pd.DataFrame({"customer_id": [f"c-{i}" for i in customer], "offer_id": offer, "occurred_at": when})


def test_events_become_interactions_in_time_order_with_the_catalogue_they_name(events):
    found = interactions_from(events)
    assert len(found) == len(events)
    assert found.offer_map == tuple("abcdefghij")
    assert (np.diff(found.occurred_us) >= 0).all()
    first = events.sort_values("occurred_at", kind="stable").iloc[0]
    assert found.occurred_us[0] == int(first["occurred_at"].timestamp() * 1e6)


def test_taste_that_was_planted_is_recommended_to_everybody_at_once(events):
    past, future = parts_at(interactions_from(events), FIRST + timedelta(days=30))
    scorer = fit_recommender("item_knn", past, repeats=True)
    best = recommend(scorer, past, ["c-2", "c-3", "stranger"], k=3)
    assert best["rank"].tolist() == [1, 2, 3] * 3
    assert set(best[best["customer_id"] == "c-2"]["offer_id"]) <= set("abcde")
    assert set(best[best["customer_id"] == "c-3"]["offer_id"]) <= set("fghij")
    assert len(best[best["customer_id"] == "stranger"]) == 3
    ours = training.evaluate_ranking(scorer, past, future, exclude_seen=False, cutoffs=(5,))
    flat = training.evaluate_ranking(
        fit_recommender("popularity", past), past, future, exclude_seen=False, cutoffs=(5,)
    )
    assert training.difference(ours, flat, "ndcg", 5).low > 0


def test_attributes_of_offers_and_customers_come_along(events):
    offers = pd.DataFrame(
        {"offer_id": list("abcdefghij"), "category": ["x"] * 9 + [None], "price": [1.5] * 9 + [np.nan]}
    )
    customers = pd.DataFrame({"customer_id": ["c-0"], "age": [33.0]})
    found = interactions_from(events, offers, customers)
    assert (found.offers[0].category, found.offers[9].category) == ("x", None)
    assert (found.offers[0].attributes, found.offers[9].attributes) == ({"price": 1.5}, {})
    profiles = dict(zip(found.customers, found.profiles, strict=True))
    assert (profiles["c-0"], profiles["c-1"]) == ({"age": 33.0}, {})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda e: e.drop(columns="offer_id"), "lacks the column 'offer_id'"),
        (lambda e: e.assign(occurred_at="soon"), "occurred_at holds what is no time"),
        (lambda e: e.assign(occurred_at=pd.NaT), "occurred_at is missing in 3000 rows"),
        (lambda e: e.assign(occurred_at=20260101), "occurred_at is of kind int64, expected times"),
        (lambda e: e.assign(customer_id=None), "customer_id is missing in 3000 rows"),
        (lambda e: e.assign(offer_id=e["offer_id"].where(e.index > 1)), "offer_id is missing in 2 rows"),
        (lambda e: e["offer_id"].tolist(), "events is a list, expected a DataFrame"),
        (lambda e: e.assign(weight=0.0), "finite number above 0"),
        (lambda e: e.assign(weight=float("inf")), "finite number above 0"),
        (lambda e: e.assign(weight="much"), "finite number above 0"),
    ],
)
def test_events_that_cannot_be_used_are_refused_by_their_column(events, change, named):
    with pytest.raises(BadInput, match=named):
        interactions_from(change(events))


def test_a_catalogue_that_lacks_an_offer_or_has_one_twice_is_refused(events):
    with pytest.raises(BadInput, match="is not among the 2 offers"):
        interactions_from(events, pd.DataFrame({"offer_id": ["a", "b"]}))
    with pytest.raises(BadInput, match="'a' is there twice"):
        interactions_from(events, pd.DataFrame({"offer_id": ["a", "a"]}))


def test_a_model_a_parameter_or_a_cut_that_does_not_exist_is_refused_by_name(events):
    past = interactions_from(events)
    with pytest.raises(BadInput, match="'svd' is not a recommender; expected one of popularity"):
        fit_recommender("svd", past)
    with pytest.raises(BadInput, match="no parameter 'depth'"):
        fit_recommender("ease", past, depth=3)
    with pytest.raises(BadInput):
        parts_at(past, FIRST - timedelta(days=1))


def planted(n: int = 6_000) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """P(y) is logistic in x, with a step by tier; one column says nothing, one is missing for a tenth."""
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"x": rng.normal(size=n), "tier": rng.choice(["gold", "tin"], n), "noise": rng.normal(size=n)})
    table.loc[rng.random(n) < 0.1, "noise"] = np.nan
    p = 1 / (1 + np.exp(-(table["x"] - 1.5 + 1.5 * (table["tier"] == "gold")).to_numpy(float)))
    return table, rng.random(n) < p, p


def test_probabilities_of_any_frame_come_near_the_planted_truth():
    table, y, p = planted()
    fit = fit_probabilities(table, y)
    assert np.abs(probabilities(fit, table) - p).mean() < 0.04
    assert fit.verdict == "beats"
    assert fit.counts["n_test"] == pytest.approx(len(table) / 5, rel=0.05)


def test_with_instants_the_last_fifth_is_the_test_part():
    table, y, _ = planted(2_000)
    when = [FIRST + timedelta(minutes=i) for i in range(2_000)]
    assert fit_probabilities(table, y, when=when).counts["n_test"] == 400


def test_rows_of_one_customer_stay_together_and_one_class_is_too_little():
    table, y, _ = planted(2_000)
    fit = fit_probabilities(table, y, customers=[f"c-{i // 4}" for i in range(2_000)])
    assert all(fit.counts[f"n_{part}"] % 4 == 0 for part in ("train", "validation", "test"))
    with pytest.raises(NotTrainable):
        fit_probabilities(table, np.zeros(2_000, bool))
    with pytest.raises(BadInput, match="expected truth values, or 0 and 1"):
        fit_probabilities(table, y.astype(float) * 2)
    with pytest.raises(BadInput, match="10 values of 2000 rows"):
        fit_probabilities(table, y[:10])


def test_a_column_that_is_made_of_the_label_is_refused_by_its_name():
    table, y, _ = planted(2_000)
    with pytest.raises(Leakage, match="leak alone tells the label"):
        fit_probabilities(table.assign(leak=y.astype(float)), y.astype(int))


def test_columns_that_say_nothing_or_are_there_twice_are_refused():
    table, y, _ = planted(2_000)
    with pytest.raises(NotTrainable, match="every column is constant"):
        fit_probabilities(pd.DataFrame({"x": np.ones(2_000), "z": np.full(2_000, np.nan)}), y)
    with pytest.raises(BadInput, match="the column 'x' is there twice"):
        fit_probabilities(pd.concat([table, table[["x"]]], axis=1), y)


def test_an_offer_without_a_sound_value_a_purchase_of_no_amount_and_a_cut_without_a_zone_are_refused(events):
    with pytest.raises(BadInput, match="value holds what is no finite number"):
        interactions_from(events, pd.DataFrame({"offer_id": list("abcdefghij"), "value": ["x"] * 10}))
    purchases = pd.DataFrame({"customer_id": ["c"], "occurred_at": [FIRST], "value": ["much"]})
    for value in ("much", -1.0):
        with pytest.raises(BadInput, match="no amount of 0 or more"):
            customer_value(purchases.assign(value=value), FIRST + timedelta(days=9))
    for cut in (datetime(2026, 1, 20), "2026-01-20"):
        with pytest.raises(BadInput, match="expected a datetime with a time zone"):
            parts_at(interactions_from(events), cut)


def test_infinities_are_refused_and_a_missing_column_is_named():
    table, y, _ = planted(2_000)
    with pytest.raises(BadInput):
        fit_probabilities(table.assign(x=table["x"].where(np.arange(2_000) % 2 == 0, np.inf)), y)
    with pytest.raises(BadInput, match="lacks the column 'x'"):
        probabilities(fit_probabilities(table, y), table.drop(columns="x"))
    with pytest.raises(BadInput, match="column x is of kind object, was a number"):
        probabilities(fit_probabilities(table, y), table.assign(x="q"))


def test_who_buys_often_and_lately_is_worth_more():
    rng = np.random.default_rng(2)
    rows = [
        (f"c-{c}", FIRST + timedelta(days=int(day)), 20.0 + c % 5)
        for c in range(300)
        for day in np.unique(rng.integers(0, 200 if c % 3 else 40, 2 + c % 8))
    ]
    purchases = pd.DataFrame(rows, columns=["customer_id", "occurred_at", "value"])
    found = customer_value(purchases, FIRST + timedelta(days=200), days=90)
    assert len(found) == 300
    assert (found["value"] >= 0).all()
    gone = found["customer_id"].map(lambda name: int(name[2:]) % 3 == 0)
    assert found[~gone]["value"].mean() > 2 * found[gone]["value"].mean()
    assert found["p_active"].between(0, 1).all()


def test_uplift_that_was_planted_is_claimed():
    rng = np.random.default_rng(6)
    n = 2_000
    table = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n)})
    treated = rng.random(n) < 0.5
    y = rng.random(n) < 0.2 + 0.25 * treated * (table["x"] > 0)
    fit = fit_uplift(table, y, treated, propensity=0.5)
    assert fit.known_propensity
    effect = fit.judged.average
    assert 0 < effect.low <= 0.125 <= effect.high  # half of the units have 0.25, the others nothing


def test_importing_the_package_loads_no_library_that_only_training_needs():
    heavy = "{'sklearn', 'lightfm', 'mlflow', 'pandas', 'duckdb'}"
    code = f"import sys, training, training.scorers; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported_and_is_listed():
    for name in training._PLACE_OF:
        assert getattr(training, name) is not None
        assert name in dir(training)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training.nothing  # noqa: B018
