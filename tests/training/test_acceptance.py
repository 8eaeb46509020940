"""Learning P(accept) from a table whose truth is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.catalogue import Offer, Treatment
from features.data_settings import Acceptance
from features.definitions import feature_set
from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from features.live import Instant, feature_table
from training.columns import growing
from training.models.acceptance import AcceptanceTable, learn_acceptance
from training.split import Split, split_with_gap

FEATURES = feature_set((1, 7), {"age": "number"})
START_US = 20_000 * US_PER_DAY
N = 4_000
OFFERS = tuple(
    Offer(
        offer_id=f"o{i}",
        name=f"o{i}",
        value=1.0,
        currency="EUR",
        category="young" if i % 2 else "old",
        treatments=(Treatment(treatment_id=f"o{i}/a"),),
    )
    for i in range(4)
)


def table(seed=0, affinity=None):
    """Young customers (under 40) take offers of their category with 0.5, everybody anything else with 0.1."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 60, N)
    offers = [OFFERS[i] for i in rng.integers(0, 4, N)]
    us = START_US + np.sort(rng.integers(0, 40, N)) * US_PER_DAY
    suits = np.array([(o.category == "young") == (a < 40) for o, a in zip(offers, age, strict=True)])
    p = np.where(suits, 0.5, 0.1)
    instants = [Instant(None, (), (a,), int(t)) for a, t in zip(age.tolist(), us.tolist(), strict=True)]
    of_offers = [Instant(None, (), (), int(t)) for t in us.tolist()]
    context = {name: np.full(N, "x", object) for name in ("channel", "placement_id")}
    made = AcceptanceTable(
        customers=[f"c{i}" for i in range(N)],
        offers=offers,
        us=us,
        customer_features=pd.DataFrame(feature_table(FEATURES, "customer", instants)),
        offer_features=pd.DataFrame(feature_table(FEATURES, "offer", of_offers)),
        context={**context, "hour": np.full(N, 12.0), "weekday": np.full(N, 1.0)},
        affinity=affinity,
        is_new=np.zeros(N, bool),
        y=rng.random(N) < p,
    )
    return made, p, split_with_gap(us, us + 3 * US_PER_DAY, list(made.customers))


def learnt(made, split):
    return learn_acceptance(FEATURES, OFFERS, made, split, seed=0)


@pytest.fixture(scope="module", autouse=True)
def without_spread():
    """What is fitted for the spread costs most of the time, and changes nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.models.acceptance.fit_spread", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def fitted():
    made, p, split = table()
    return learnt(made, split), made, p, split


def test_the_planted_truth_is_found(fitted):
    """The best possible AUC follows from the two rates: P(0.5-row above 0.1-row), ties counting half."""
    fit, made, p, split = fitted
    y, truth = made.y[split.test], p[split.test]
    pos, neg = truth[y], truth[~y]
    best = (pos[:, None] > neg).mean() + 0.5 * (pos[:, None] == neg).mean()
    assert fit.metrics["auc"] == pytest.approx(best, abs=0.03)
    assert fit.verdict == "beats"
    assert fit.metrics["ece"] < 0.06


def test_affinity_that_is_missing_everywhere_is_left_out():
    made, _, split = table(affinity=np.full(N, np.nan))
    assert "affinity" not in [column.name for column in learnt(made, split).classifier.encoder.columns]


def test_labels_without_a_pattern_cannot_be_learnt(fitted):
    """A leakage canary: with labels shuffled, nothing can tell the test rows apart."""
    _, made, _, split = fitted
    shuffled = np.random.default_rng(1).permutation(made.y)
    fit = learnt(replace(made, y=shuffled), split)
    assert fit.metrics["auc"] == pytest.approx(0.5, abs=0.06)
    assert fit.verdict != "beats"


def test_one_class_is_not_trainable(fitted):
    _, made, _, split = fitted
    with pytest.raises(NotTrainable, match="0 of them positive"):
        learnt(replace(made, y=np.zeros(N, bool)), split)


def test_an_infinite_number_is_refused_by_name(fitted):
    _, made, _, split = fitted
    ages = made.customer_features.assign(age=np.where(np.arange(N) == 7, np.inf, made.customer_features["age"]))
    with pytest.raises(BadInput, match=r"customer\.age is infinite in 1 of 4000 rows") as raised:
        learnt(replace(made, customer_features=ages), split)
    assert raised.value.field == "customer.age"


def test_too_few_impressions_are_not_trainable(fitted):
    _, made, _, split = fitted
    few = Split(split.train & (np.arange(N) < 150), split.validation, split.test, split.test_from_us)
    with pytest.raises(NotTrainable, match=r"the training part has .* 200 rows with 20 of each class are needed"):
        learnt(made, few)


def test_where_no_column_differs_the_base_rate_serves_and_nothing_is_claimed(fitted):
    """All features constant or missing, one offer: the model is the rate, and is the baseline."""
    _, made, _, split = fitted
    blank = replace(
        made,
        offers=[OFFERS[0]] * N,
        customer_features=made.customer_features.assign(age=np.nan),
    )
    fit = learn_acceptance(FEATURES, OFFERS[:1], blank, split, seed=0)
    assert (fit.chosen.name, fit.verdict, fit.spread) == ("base_rate", "is the baseline", None)
    assert fit.p == pytest.approx(made.y[split.train | split.validation].mean(), abs=0.01)


def test_the_same_rows_and_seed_give_the_same_model(fitted):
    fit, made, _, split = fitted
    np.testing.assert_array_equal(learnt(made, split).p, fit.p)


def test_expected_directions_are_reported_with_what_they_cost(fitted):
    """Planted: the young take offers for the young; that acceptance falls with the age is wrong for all others."""
    _, made, _, split = fitted
    fit = learn_acceptance(FEATURES, OFFERS, made, split, 0, Acceptance(expected={"customer.age": -1}))
    assert any(note.startswith("Expected directions of 1 columns cost accuracy") for note in fit.notes)
    assert fit.metrics["constraints_log_loss"] > 0.01
    assert fit.tables["directions"].to_dict("records") == [{"column": "customer.age", "acceptance": "falls"}]


def test_counts_that_only_grow_with_the_age_of_the_log_are_left_out():
    """Training rows of days 0, 7, 14 and 17, used on day 24: of 30 days they saw 9.5 on average, of 7 days 5.25."""
    features = feature_set((7, 30), {"age": "number"})
    young = growing(features, np.array([0.0, 7.0, 14.0, 17.0]), 24.0)
    assert {"purchases_30d", "spent_ever", "active_days_30d", "seen_by_category_30d"} <= set(young)
    assert not {"purchases_7d", "acceptance_rate_30d", "days_since_purchase", "mean_purchase_30d", "age"} & set(young)
    assert growing(features, np.array([300.0, 380.0]), 400.0) == ()


def test_a_young_log_is_said_to_be_one(fitted):
    _, made, _, split = fitted
    fit = learnt(replace(made, first_us=START_US - US_PER_DAY), split)
    assert any("would grow with its age alone, such as" in note for note in fit.notes)
    assert not any(c.name == "customer.purchases_ever" for c in fit.classifier.encoder.columns)
    assert not any(note.startswith("The log is younger than 28 days") for note in fit.notes)


def test_in_a_log_of_less_than_four_weeks_nothing_is_learned_that_tells_the_date(fitted):
    """Impressions of 20 days, whose weekday and whose offers' statistics differ by the date alone."""
    _, made, _, split = fitted
    day = (made.us - START_US) // US_PER_DAY
    dated = replace(
        made,
        us=START_US + day // 2 * US_PER_DAY,
        context={**made.context, "weekday": (day % 7).astype(float)},
        offer_features=made.offer_features.assign(offer_acceptance_rate_7d=day / 40.0),
    )

    def sources(first_us):
        return {c.name for c in learnt(replace(dated, first_us=first_us), split).classifier.encoder.columns}

    telling = {"context.weekday", "offer_feature.offer_acceptance_rate_7d"}
    assert not telling & sources(START_US)
    assert telling <= sources(START_US - 100 * US_PER_DAY)
