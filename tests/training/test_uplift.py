"""Uplift learned and judged: what is claimed of planted effects, of none, and of too few; and what cannot be taken."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from features.errors import BadInput, NotTrainable
from tests.training.uplift_worlds import COLUMNS, planted
from training.scorers import scorer_files
from training.uplift import BASES, Trial
from training.uplift import report as pages
from training.uplift.curves import alike
from training.uplift.judge import MIN_CLAIM, MODEL, RISK, judge
from training.uplift.learn import learn_uplift
from training.uplift.propensity import SMALLEST, with_propensity
from training.uplift.trial import folds

FAST = {"logistic": BASES["logistic"]}
WORDS = pages.Words()


def learned(trial, **more):
    return learn_uplift(COLUMNS, trial, bases=FAST, n_draws=60, **more)


@pytest.fixture(scope="module")
def differing():
    return learned(planted(2_000).trial)


def test_an_effect_that_differs_is_claimed_and_the_last_are_harmed(differing):
    judged = differing.judged
    assert judged.verdict == "orders"
    assert judged.top[MODEL].low > 0.1  # 0.3 was planted
    assert judged.bottom[MODEL].high < 0.05  # -0.1 was planted
    assert judged.qini[RISK].low < judged.qini[MODEL].low
    assert differing.choice.learner != "constant"
    assert 0.2 < differing.share_below_zero < 0.6  # of nearly a half it was planted


def test_predictions_are_of_the_size_that_is_measured(differing):
    bands = differing.judged.bands
    assert np.corrcoef(bands["predicted"], bands["effect"])[0, 1] > 0.8
    assert abs(bands["predicted"].mean() - differing.judged.average.estimate) < 0.05


def test_no_effect_is_no_claim():
    judged = learned(planted(2_000, high=0.0, low=0.0, seed=1).trial).judged
    assert judged.verdict == "undecided"
    assert judged.qini[MODEL].low <= 0.0
    assert "Nothing is shown" in pages.sentence(judged, WORDS)


def test_the_same_effect_for_all_is_claimed_as_that():
    fit = learned(planted(2_000, high=0.25, low=0.25, seed=2).trial)
    assert fit.judged.verdict == "alike"
    assert fit.judged.average.low > 0.15
    assert fit.scorer.many(planted(500).trial.rows).mean() == pytest.approx(0.25, abs=0.08)


def test_below_the_least_number_of_outcomes_nothing_is_claimed_however_large_the_effect():
    world = planted(2_000, high=0.5, low=0.5, seed=3).trial
    kept = world.treated | (np.cumsum(~world.treated) <= 210)  # in control some 85 stay
    fit = learned(world.part(kept))
    assert fit.judged.arms["control"].least < MIN_CLAIM
    assert fit.judged.verdict == "too_few"
    assert pages.sentence(fit.judged, WORDS).startswith("No claim: 100 units")


def test_the_same_seed_gives_the_same_figures_and_bytes(differing):
    again = learned(planted(2_000).trial)
    assert scorer_files(again.scorer) == scorer_files(differing.scorer)
    assert pages.as_json(again, WORDS) == pages.as_json(differing, WORDS)


def test_contacts_that_went_to_those_at_risk_are_weighed_by_an_estimated_chance():
    """Planted: no effect at all; of those who stay less often more were contacted."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=3_000), np.zeros(3_000), rng.normal(size=3_000)])
    at_risk = rows[:, 0] > 0
    treated = rng.random(3_000) < np.where(at_risk, 0.8, 0.3)
    y = rng.random(3_000) < np.where(at_risk, 0.3, 0.7)
    trial = Trial(rows, y, treated, np.arange(3_000))
    naive = y[treated].mean() - y[~treated].mean()
    fit = learned(trial)
    assert naive < -0.15
    assert not fit.known_propensity
    assert abs(fit.judged.average.estimate) < 0.06
    assert "estimated" in pages.markdown(fit, WORDS)


def test_estimated_chances_are_of_others_and_kept_away_from_0_and_1():
    world = planted(2_000).trial
    sure = replace(world, rows=np.column_stack([world.treated * 9.0, *world.rows.T[1:]]), propensity=None)
    found, moved = with_propensity(COLUMNS, sure, 0)
    assert found.propensity.min() >= SMALLEST
    assert found.propensity.max() <= 1 - SMALLEST
    assert moved > 0.5
    assert with_propensity(COLUMNS, world, 0) == (world, None)


def test_the_page_the_json_and_the_pictures_have_risk_and_random_beside_the_model(differing):
    page, found = pages.markdown(differing, WORDS), pages.as_json(differing, WORDS)
    assert all(f"| {name} |" in page for name in ("predicted uplift", "risk (least likely untreated first)", "random"))
    assert set(found["rankings"]) == {MODEL, RISK}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["propensity"] == "known by design"
    assert set(pages.figures(differing.judged)) == {"uplift_qini", "uplift_by_tenth"}
    assert pages.metrics(differing.judged)["uplift_qini_low"] > 0.0


GOOD = planted(800).trial


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"propensity": np.where(np.arange(800) == 3, np.nan, 0.5)}, "propensity"),
        ({"propensity": np.ones(800)}, "propensity"),
        ({"propensity": np.full(799, 0.5)}, "propensity"),
        ({"rows": np.where(np.arange(800)[:, None] == 3, np.inf, GOOD.rows)}, "rows"),
        ({"rows": GOOD.rows[:-1]}, "rows"),
        ({"y": GOOD.y.astype(float)}, "y"),
        ({"treated": GOOD.treated.astype(int)}, "treated"),
        ({"clusters": GOOD.clusters[1:]}, "clusters"),
    ],
)
def test_what_cannot_be_taken_is_named(changes, field):
    with pytest.raises(BadInput) as error:
        learned(replace(GOOD, **changes))
    assert error.value.field == field


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (np.ones(800, bool), "the treated arm has .* 200 rows with 20 of each outcome are needed"),
        (GOOD.y & GOOD.treated, "the control arm has .* the outcome in 0 of them"),
    ],
)
def test_one_outcome_only_is_named_with_its_arm(y, said):
    with pytest.raises(NotTrainable, match=said):
        learned(replace(GOOD, y=y))


def test_features_that_are_all_missing_or_the_same_are_one_effect_for_all():
    rows = np.column_stack([np.full(1_200, np.nan), np.zeros(1_200), np.ones(1_200)])
    fit = learned(replace(planted(1_200, high=0.3, low=0.3).trial, rows=rows))
    assert fit.choice.learner == "constant"
    assert fit.judged.verdict == "alike"
    assert fit.judged.qini[MODEL].estimate == pytest.approx(0.0, abs=1e-12)


def test_rows_of_one_customer_are_never_on_both_sides_of_a_fold():
    whose = np.random.default_rng(0).integers(0, 50, 400)
    fold = folds(whose, 5, seed=1)
    assert all(len(np.unique(fold[whose == one])) == 1 for one in range(50))
    assert sorted(np.unique(fold)) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(fold, folds(whose, 5, seed=1))


def test_the_interval_is_by_customer_and_not_by_row():
    world = planted(1_000).trial
    twice = world.part(np.repeat(np.arange(1_000), 2))

    def width(trial):
        of = alike(trial.y, trial.treated, trial.propensity)
        scores = {MODEL: [trial.rows[:, 2]], RISK: [trial.rows[:, 2]]}
        found = judge(of, scores, trial.rows[:, 2], trial.clusters, np.random.default_rng(0), 200).average
        return found.high - found.low

    assert width(twice) == pytest.approx(width(world))  # the same customers twice tell nothing more
