"""Each check finds what is planted, says nothing where nothing is, and says what is missing where it cannot tell."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from features.definitions import FeatureSet
from features.definitions.dsl import Count, Family, Feature, Total, Where
from features.events import US_PER_DAY
from tests.training.monitoring.planted import NOW_US, champion, customers, offers, outcomes, seen, shown
from training.monitoring.checks import CHECKS
from training.monitoring.line import crossed
from training.monitoring.thresholds import Thresholds
from training.monitoring.watch import judged

HELD = Thresholds()


def lines_of(name, what):
    return {(line.check, line.of): line for line in CHECKS[name](what, HELD)}


@pytest.fixture(scope="module")
def fine():
    return seen()


def test_where_nothing_is_wrong_no_threshold_is_crossed_and_the_auc_is_as_planted(fine):
    lines = judged(fine, HELD)
    assert crossed(lines) == []
    # champion(auc=.75) is above what a Beta(2, 10) truth allows; its loss is watched below with a planted figure
    assert {line.check for line in lines if line.verdict == "unknown"} == {"unseen"}


def test_a_feature_that_moved_is_named_and_the_others_are_not():
    lines = crossed(lines_of("feature drift", seen(features=customers(1_000, age=50.0))).values())
    assert {(line.check, line.of) for line in lines} == {("psi", "age"), ("ks", "age")}


def test_what_grows_with_a_young_log_is_shown_and_not_judged():
    counted = Feature(name="purchases_ever", value=Total("purchases", None), unit="count", description="planted")
    daily = {"purchases": Count(Where(event_types=("purchase",)))}
    features = FeatureSet(
        (Family(name="spending", description="planted", features=(counted,), daily=daily),), "EUR"
    )  # fmt: skip
    rng = np.random.default_rng(1)
    before = pd.DataFrame({"purchases_ever": rng.poisson(2.0, 1_000).astype(object)})
    after = pd.DataFrame({"purchases_ever": rng.poisson(5.0, 1_000).astype(object)})
    young = seen(feature_set=features, reference=before, features=after, log_age_days=(16.0, 40.0))
    (line,) = lines_of("feature drift", young).values()
    assert (line.verdict, line.bound) == ("ok", None)
    assert "16 days old then and 40 now" in line.said
    old = seen(feature_set=features, reference=before, features=after, log_age_days=(400.0, 430.0))
    assert lines_of("feature drift", old)["psi", "purchases_ever"].verdict == "crossed"


def test_a_feature_that_went_missing_is_named():
    features = customers(1_000)
    features.loc[:299, "age"] = None
    (line,) = [
        line
        for line in crossed(lines_of("feature drift", seen(features=features)).values())
        if line.check == "null_rate"
    ]
    assert (line.of, line.figure) == ("age", pytest.approx(0.3))


def test_drift_is_unknown_with_few_customers_and_with_a_reason_where_the_past_cannot_be_rebuilt():
    (line,) = lines_of("feature drift", seen(features=customers(50))).values()
    assert line.verdict == "unknown"
    assert "50 now" in line.said
    (line,) = lines_of("feature drift", seen(reference="the lake holds no activity")).values()
    assert (line.verdict, line.said) == ("unknown", "the lake holds no activity")


def test_a_category_that_the_model_has_no_column_for_is_named(monkeypatch):
    column = SimpleNamespace(name="tier", values=("gold", "silver"))
    model = SimpleNamespace(classifier=SimpleNamespace(encoder=SimpleNamespace(columns=[column])))
    monkeypatch.setattr("training.monitoring.checks.features.AcceptanceScorer", SimpleNamespace)
    window = seen(features=customers(1_000, tiers=("gold", "silver", "platinum")), champion=champion(acceptance=model))
    line = lines_of("unseen categories", window)["unseen", "tier"]
    assert line.verdict == "crossed"
    assert line.figure == pytest.approx(1 / 3, abs=0.06)
    assert "platinum" in line.said


def test_old_snapshots_and_decisions_without_features_are_found(fine):
    made = fine.decisions.assign(snapshot_us=fine.decisions["us"] - 3.0 * US_PER_DAY)
    made["degraded"] = [["features_unavailable"] if i % 10 == 0 else [] for i in range(len(made))]
    lines = lines_of("age of features", seen(decisions=made))
    assert lines["feature_age_h", ""].figure == pytest.approx(72.0)
    assert lines["without_features", ""].figure == pytest.approx(0.1)
    assert {lines["feature_age_h", ""].verdict, lines["without_features", ""].verdict} == {"crossed"}


def test_predictions_that_moved_since_the_first_days_are_found(fine):
    moved = fine.shown.assign(p_model=np.clip(fine.shown["p_model"] * 1.8, 0, 1))
    lines = lines_of("prediction drift", seen(shown=moved))
    assert lines["prediction_psi", "p_accept"].verdict == "crossed"
    assert lines["prediction_psi", "p_churn"].verdict == "ok"


def test_a_model_that_promises_a_half_too_much_is_found_by_its_interval_and_its_bins(fine):
    half = fine.shown["p_model"].to_numpy() / 1.5
    lines = lines_of("matured outcomes", seen(outcomes=outcomes(fine.shown, half)))
    line = lines["calibration", "2"]
    assert line.verdict == "crossed"
    assert line.low <= 0.5 <= line.high  # planted
    assert lines_of("matured outcomes", fine)["calibration", "2"].low <= 0.0


def test_a_model_that_no_longer_ranks_is_found_against_what_it_had_in_training(fine):
    flat = np.full(len(fine.shown), fine.shown["p_model"].mean())
    lines = lines_of("matured outcomes", seen(outcomes=outcomes(fine.shown, flat)))
    assert lines["auc", "2"].low <= 0.5 <= lines["auc", "2"].high
    assert lines["auc_loss", "2"].verdict == "crossed"


def test_too_few_outcomes_are_no_reason_to_judge(fine):
    (line, *_) = lines_of("matured outcomes", seen(outcomes=fine.outcomes[:100])).values()
    assert line.verdict == "unknown"
    assert "100 matured impressions" in line.said


def test_other_releases_are_shown_beside_the_champion_and_not_judged(fine):
    old = outcomes(fine.shown.assign(release="1"), fine.shown["p_model"].to_numpy() / 3)
    lines = lines_of("matured outcomes", seen(outcomes=pd.concat([fine.outcomes, old])))
    assert lines["calibration", "1"].verdict == "ok"
    assert lines["calibration", "1"].bound is None
    assert lines["calibration", "1"].figure > 1.0


def test_acceptance_by_policy_is_counted_and_chance_is_beside_it(fine):
    made = fine.outcomes.assign(at_random=np.arange(len(fine.outcomes)) % 10 == 0)
    lines = lines_of("acceptance by policy", seen(outcomes=made))
    assert {of for _, of in lines} == {"greedy", "thompson", "at random"}
    random = made[made["at_random"]]["accepted"]
    assert lines["acceptance", "at random"].figure == pytest.approx(random.mean())
    assert lines["acceptance", "at random"].low < random.mean() < lines["acceptance", "at random"].high


def test_coverage_counts_offers_on_sale_and_empty_places(fine):
    one = fine.shown.assign(offer_id="o-0")
    one.loc[: len(one) // 2, "offer_id"] = None
    lines = lines_of("coverage", seen(shown=one, catalogue=fine.catalogue))
    assert lines["offers_shown", ""].figure == pytest.approx(1 / len(offers()))
    assert lines["empty", ""].verdict == "crossed"


def test_headroom_tells_what_limits_hold_back_and_what_is_left(fine):
    used = SimpleNamespace(units=75, spent=0.0, spent_today=20.0)
    lines = lines_of("headroom", seen(levels=(("o-0", used), ("o-1", used))))
    assert lines["held_back", ""].figure == pytest.approx(1 / 5)  # caps held 1 back, 4 passed; the schedule is no limit
    assert lines["inventory_left", "o-0"].figure == pytest.approx(0.25)
    assert "about 0.2 days" in lines["inventory_left", "o-0"].said  # 25 left, 4,000 / 5 / 7 shown a day
    assert lines["budget_left", "o-1"].figure == pytest.approx(0.6)


def test_degraded_and_late_answers_are_counted_with_their_codes(fine):
    made = fine.decisions.assign(latency_us=np.where(np.arange(len(fine.decisions)) % 100 == 0, 60_000.0, 4_000.0))
    made["degraded"] = [["state_unavailable"] if i % 20 == 0 else [] for i in range(len(made))]
    lines = lines_of("answers", seen(decisions=made))
    assert lines["degraded", ""].figure == pytest.approx(0.05)
    assert "state_unavailable 200" in lines["degraded", ""].said
    assert lines["late", ""].figure == pytest.approx(0.01)


def test_the_age_of_the_model_is_that_of_its_data():
    lines = lines_of("age of the model", seen(champion=champion(as_of="2026-04-01T00:00:00+00:00")))
    (line,) = lines.values()
    assert line.verdict == "crossed"
    assert line.figure == pytest.approx((NOW_US / 1e6 - 1_775_001_600) / 86_400)  # 2026-04-01 in seconds since 1970


def test_an_empty_window_without_a_release_says_what_is_missing_and_judges_nothing():
    empty = seen()
    none = empty.decisions[:0]
    lines = judged(
        seen(
            decisions=none, shown=shown(none, np.zeros(0)), outcomes=empty.outcomes[:0], features=customers(0),
            champion=None, first=none, first_shown=shown(none, np.zeros(0)), first_us=None, reference="no release",
        ),
        HELD,
    )  # fmt: skip
    assert {line.verdict for line in lines} <= {"unknown", "ok"}
    assert sum(line.verdict == "unknown" for line in lines) >= 8
    assert all(line.said for line in lines)
