"""What every learner of uplift promises, on either base; expected effects are planted ones."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from features.errors import NotTrainable
from tests.training.uplift_worlds import COLUMNS, planted
from training.scorers import digest, read_scorer, scorer_files
from training.scorers.uplift import UpliftScorer
from training.uplift import BASES, UPLIFT
from training.uplift.trial import check_trial

pytestmark = pytest.mark.parametrize(("learner", "base"), [(one, base) for one in UPLIFT for base in BASES])
WORLD = planted()


def fitted(learner, base, trial=WORLD.trial, seed=0):
    return UpliftScorer("7", COLUMNS, UPLIFT[learner](COLUMNS, trial, BASES[base], seed), 1.0, 0.0)


def test_a_planted_effect_that_differs_is_found(learner, base):
    found = fitted(learner, base).many(WORLD.trial.rows)
    known = ~np.isnan(WORLD.trial.rows[:, 0])
    assert np.corrcoef(found[known], WORLD.effect[known])[0, 1] > 0.7
    assert found.mean() == pytest.approx(WORLD.effect.mean(), abs=0.04)
    young, old = found[known & (WORLD.effect < 0)], found[known & (WORLD.effect > 0)]
    assert 0.2 < old.mean() - young.mean() < 0.5  # 0.4 was planted, as a step; penalties and lines level it


def test_where_there_is_no_effect_the_mean_is_none(learner, base):
    found = fitted(learner, base, planted(high=0.0, low=0.0, seed=1).trial).many(WORLD.trial.rows)
    assert abs(found.mean()) < 0.04


def test_the_same_effect_for_all_is_its_size(learner, base):
    found = fitted(learner, base, planted(high=0.2, low=0.2, seed=2).trial).many(WORLD.trial.rows)
    assert found.mean() == pytest.approx(0.2, abs=0.04)


def test_arms_of_unequal_size_give_the_same_effect(learner, base):
    found = fitted(learner, base, planted(share=0.85, seed=3).trial).many(WORLD.trial.rows)
    assert found.mean() == pytest.approx(WORLD.effect.mean(), abs=0.06)


def test_the_same_seed_gives_the_same_bytes(learner, base):
    assert scorer_files(fitted(learner, base)) == scorer_files(fitted(learner, base))


def test_files_and_back_change_nothing(learner, base):
    scorer = fitted(learner, base)
    again = read_scorer(scorer_files(scorer), "", ())
    np.testing.assert_array_equal(again.many(WORLD.trial.rows), scorer.many(WORLD.trial.rows))
    assert {name: digest(body) for name, body in scorer_files(again).items()} == {
        name: digest(body) for name, body in scorer_files(scorer).items()
    }
    assert json.loads(scorer_files(scorer)["scorer.json"])["kind"] == "uplift"


def test_one_by_one_equals_all_at_once_also_where_everything_is_missing(learner, base):
    scorer = fitted(learner, base)
    customers = [
        {"age": 1.0, "plan": "plus", "spent": -2.0}, {"age": None, "plan": "gone", "spent": 3.0}, {},
        {"age": float("nan"), "plan": None, "spent": 1e300},
    ]  # fmt: skip
    one_by_one = [scorer.uplift(one) for one in customers]
    together = scorer.many(np.concatenate([COLUMNS.one(one) for one in customers]))
    np.testing.assert_allclose(one_by_one, together, rtol=0, atol=1e-12)  # sums of many rows are rounded otherwise
    assert np.isfinite(together).all()
    assert (np.abs(together) <= 1.0).all()


@pytest.mark.parametrize("arm", ["treated", "control"])
def test_an_empty_arm_is_named(learner, base, arm):
    alone = replace(WORLD.trial, treated=np.full(len(WORLD.trial), arm == "control"))
    with pytest.raises(NotTrainable, match=f"the {arm} arm has 0 rows"):
        check_trial(alone)
