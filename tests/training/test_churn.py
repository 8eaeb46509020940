"""Churn by horizon on customers whose chance of coming back is planted, and what is refused before learning."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import feature_set
from features.errors import BadInput, BrokenRelease, Leakage, NotTrainable
from features.events import US_PER_DAY
from features.live import Instant, feature_table
from tests.contracts.test_scorers import FEATURES as ODD_FEATURES
from tests.training.builders import churn_scorer
from training.models.churn import ChurnTable, Times, slices_of
from training.models.churn_horizons import learn_horizons
from training.scorers import ChurnScorer, read_scorer, scorer_files
from training.scorers.churn import Step, by_horizon
from training.steps.churn import described

FEATURES = feature_set((1, 7), {"age": "number", "tier": "category"})
START_US = 20_000 * US_PER_DAY
LONGEST = 90


def world(n=7_000, seed=0, n_instants=40):
    """A customer comes back on each day with a chance that rises with age, from 0.3 % to 6 %."""
    rng = np.random.default_rng(seed)
    age, day = rng.uniform(20, 60, n), np.sort(rng.integers(0, n_instants, n)) * 7
    chance = 0.003 + 0.057 * (age - 20) / 40
    silent = np.minimum(rng.geometric(chance) - 1, LONGEST)
    us = START_US + day * US_PER_DAY
    names = ["gold" if rng.random() < 0.3 else "plain" for _ in range(n)]
    instants = [Instant(None, (), (a, t), int(at)) for a, t, at in zip(age.tolist(), names, us.tolist(), strict=True)]
    table = ChurnTable(
        customers=[f"c{i}" for i in range(n)],
        us=us.astype(np.int64),
        features=pd.DataFrame(feature_table(FEATURES, "customer", instants)),
        silent_days=silent.astype(np.int64),
    )
    return table, chance


def times(label_days, n_instants=40):
    instants = [START_US + week * 7 * US_PER_DAY for week in range(n_instants)]
    test = instants[-8:]
    return Times([t for t in instants if t + label_days * US_PER_DAY <= test[0]], test)


@pytest.fixture(scope="module")
def learned():
    table, chance = world()
    return learn_horizons(FEATURES, table, (7, 30, 90), 30, times, 0), table, chance


def test_every_horizon_finds_the_planted_chance(learned):
    """P(silent for h days) is (1 - chance)^h; the mean and each probability must be near it."""
    fit, _, chance = learned
    assert [one.horizon_days for one in fit.horizons] == [7, 30, 90]
    for one in fit.horizons:
        rows = fit.learned.rows
        truth = (1 - chance[rows]) ** one.horizon_days
        assert len(one.p) == len(rows)  # the same test instants here, whatever the horizon
        assert one.p.mean() == pytest.approx(truth.mean(), abs=0.03)
        assert np.sqrt(np.mean((one.p - truth) ** 2)) < 0.06
        assert one.verdict in ("beats", "undecided")
        assert one.intervals["auc"].low < one.intervals["auc"].estimate < one.intervals["auc"].high


def test_a_longer_silence_is_never_more_likely_for_any_customer(learned):
    fit, table, _ = learned
    scorer = fit.scorer
    for row in range(0, len(table.us), 97):
        found = scorer.hazard(table.features.iloc[row].to_dict())
        assert list(found) == [7, 30, 90]
        assert 1 > found[7] >= found[30] >= found[90] > 0


def test_what_serves_is_the_horizon_that_was_asked_for(learned):
    fit, table, _ = learned
    features = table.features.iloc[5].to_dict()
    assert fit.scorer.p_churn(features) == fit.scorer.hazard(features)[30]
    other = learn_horizons(FEATURES, table, (7, 30), 7, times, 0)
    assert other.scorer.p_churn(features) == other.scorer.hazard(features)[7]
    assert other.scorer.hazard(features)[7] >= other.scorer.hazard(features)[30]


def test_the_metrics_of_each_horizon_and_the_canaries_are_kept(learned):
    metrics = learned[0].metrics
    for name in ("h7_auc", "h30_brier_low", "h90_ece_high", "h90_baseline_auc", "auc", "canary_shuffled_auc"):
        assert np.isfinite(metrics[name])
    assert metrics["h30_auc"] == pytest.approx(metrics["auc"])
    assert metrics["h7_rate"] > metrics["h30_rate"] > metrics["h90_rate"]


def test_a_slice_that_holds_everybody_is_left_out_and_said(learned):
    """Nobody in this world ever bought or was active: the three segments have one value each."""
    fit, table, _ = learned
    assert not len(fit.horizons[0].slices)
    assert not len(fit.fit.slices)
    run = described(fit, {}, None, None, 200, table, {})
    assert not len(run.fit.tables["slices_by_horizon"])
    assert "No slice by tenure: all of the test part are '30 days or more'." in run.fit.notes
    assert "No slice by purchases: all of the test part are 'none'." in run.fit.notes


def test_the_slices_that_tell_customers_apart_stay(learned):
    """By hand: tenure 5 and 40 days, no purchase in either row."""
    table = learned[1]
    features = table.features.assign(days_since_first_activity=40.0, purchases_ever=0.0, active_days_7d=1.0)
    features.loc[1, "days_since_first_activity"] = 5.0
    found = slices_of(changed(table, features=features), np.array([0, 1]))
    assert found == {"tenure": ["30 days or more", "under 30 days"], "customer": ["light", "new"]}


def test_a_scorer_with_horizons_comes_back_from_its_files_the_same(learned):
    scorer, features = learned[0].scorer, learned[1].features.iloc[3].to_dict()
    again = read_scorer(scorer_files(scorer), "", ())
    assert isinstance(again, ChurnScorer)
    assert again.hazard(features) == scorer.hazard(features)
    assert scorer_files(again) == scorer_files(scorer)


def test_a_release_from_before_there_were_horizons_still_serves():
    files = scorer_files(churn_scorer())
    old = files["scorer.json"].replace(b' "horizon_days": 0,\n', b"").replace(b' "steps": [],\n', b"")
    assert old != files["scorer.json"]
    found = read_scorer({**files, "scorer.json": old}, "", ())
    assert found.p_churn({"age": 1.0}) == churn_scorer().p_churn({"age": 1.0})


def test_what_customers_are_worth_is_kept_with_the_scorer():
    scorer = replace(churn_scorer(), if_staying={"b": 12.5, "a": 0.1, "é\x1f": 3e9})
    again = read_scorer(scorer_files(scorer), "", ())
    assert again.if_staying == scorer.if_staying
    assert scorer_files(again) == scorer_files(scorer)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, np.nan], [1.0, np.inf], [[1.0], [2.0]]])
def test_values_that_are_no_number_for_each_customer_are_refused(wrong):
    files = scorer_files(replace(churn_scorer(), if_staying={"a": 1.0, "b": 2.0}))
    buffer = io.BytesIO()
    np.save(buffer, np.array(wrong))
    with pytest.raises(BrokenRelease, match="if_staying"):
        read_scorer({**files, "if_staying.npy": buffer.getvalue()}, "", ())


@settings(deadline=None, max_examples=30)
@given(features=ODD_FEATURES, days=st.lists(st.sampled_from([1, 7, 60, 90]), unique=True))
def test_horizons_are_in_order_and_inside_for_any_features(features, days):
    classifier = churn_scorer().classifier
    scorer = ChurnScorer("1", classifier, 30, tuple(Step(d, classifier) for d in days))
    found = scorer.hazard(features)
    assert list(found) == sorted([*days, 30])
    assert all(0 < p < 1 for p in found.values())
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_horizons_by_hand():
    """P(30) = .4; of those who go on, half to 90: .2. Of who is back within 30, a quarter is so after 7: .55."""
    assert by_horizon(30, 0.4, {90: 0.5, 7: 0.25}) == pytest.approx({7: 0.55, 30: 0.4, 90: 0.2})
    found = by_horizon(30, np.array([0.4]), {90: np.array([0.5])})
    assert found[90] == pytest.approx([0.2])


def test_without_purchases_the_report_says_that_there_is_no_value(learned):
    fit, table, _ = learned
    run = described(fit, {180: "too few dates"}, None, "the log holds no purchases", 200, table, {})
    assert "The horizon of 180 days is left out: too few dates." in run.fit.notes
    assert "Customers have no value and no expected loss: the log holds no purchases." in run.fit.notes
    assert "expected_loss" not in run.fit.tables
    assert run.fit.tables["what_weighs"]["feature"].iloc[0] == "age"


# What is refused


def changed(table, **columns):
    from dataclasses import replace

    return replace(table, **columns)


def test_a_horizon_without_rows_of_both_classes_is_left_out_with_its_numbers(learned):
    _, table, _ = learned
    short = changed(table, silent_days=np.minimum(table.silent_days, 60))
    fit = learn_horizons(FEATURES, short, (30, 90), 30, times, 0)
    assert list(fit.left_out) == [90]
    assert "0 of them positive" in fit.left_out[90]
    assert [one.horizon_days for one in fit.horizons] == [30]


def test_one_class_at_the_horizon_that_serves_is_not_trainable(learned):
    _, table, _ = learned
    with pytest.raises(NotTrainable, match="0 of them positive"):
        learn_horizons(FEATURES, changed(table, silent_days=np.zeros(len(table.us), np.int64)), (30,), 30, times, 0)


def test_features_that_are_all_the_same_are_not_trainable(learned):
    _, table, _ = learned
    same = pd.DataFrame({name: [table.features[name].iloc[0]] * len(table.us) for name in table.features})
    with pytest.raises(NotTrainable, match="no feature differs"):
        learn_horizons(FEATURES, changed(table, features=same), (30,), 30, times, 0)


def test_features_that_are_all_missing_are_left_out_and_the_rest_learned(learned):
    _, table, _ = learned
    without = table.features.assign(tier=None)
    fit = learn_horizons(FEATURES, changed(table, features=without), (30,), 30, times, 0)
    assert [column.name for column in fit.fit.classifier.encoder.columns] == ["customer.age"]


def test_a_feature_made_of_the_label_is_refused_by_name(learned):
    _, table, _ = learned
    leak = table.features.assign(age=np.where(table.churned(30), 1.0, 0.0) + np.linspace(0, 0.1, len(table.us)))
    with pytest.raises(Leakage, match=r"customer\.age alone") as error:
        learn_horizons(FEATURES, changed(table, features=leak), (30,), 30, times, 0)
    assert error.value.feature == "customer.age"


def test_infinite_features_duplicate_rows_and_other_lengths_are_refused_by_name(learned):
    _, table, _ = learned
    for columns, field in (
        ({"features": table.features.assign(age=np.inf)}, "age"),
        ({"customers": [*table.customers[:-1], table.customers[0]], "us": np.full(7_000, START_US)},
         "customers"),
        ({"silent_days": table.silent_days[:-1]}, "silent_days"),
    ):  # fmt: skip
        with pytest.raises(BadInput) as error:
            changed(table, **columns)
        assert error.value.field == field
