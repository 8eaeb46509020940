"""Off-policy estimators: hand calculations, laws, and values that were planted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.offpolicy.diagnostics import overlap
from experiments.offpolicy.estimators import ESTIMATORS, Parts, at_cut, shrunk, switched
from experiments.offpolicy.evaluation import compare, evaluate
from experiments.offpolicy.intervals import Terms, around, influence, standard_error
from experiments.offpolicy.logged import Logged, same_for_all
from experiments.offpolicy.reward_models import cross_fitted, fit_boosted_trees, fit_logistic, fit_offer_means
from features.errors import BadInput


def a_log(**changes):
    """Two offers, four rows, drawn 0.5 / 0.5, 0.8 / 0.2, 0.5 / 0.5, 0.8 / 0.2; the candidate shows 0.25 / 0.75."""
    given = {
        "offers": ("a", "b"),
        "action": np.array([0, 0, 1, 1]),
        "probability": np.array([0.5, 0.8, 0.5, 0.2]),
        "reward": np.array([1.0, 0.0, 1.0, 2.0]),
        "chances": same_for_all([0.25, 0.75], 4),
        **changes,
    }
    return Logged(**given)


Q = np.array([[1.0, 2.0], [0.5, 1.0], [0.0, 1.0], [1.0, 1.0]])


def test_each_estimator_is_what_its_formula_says():
    """By hand: w = .25/.5, .25/.8, .75/.5, .75/.2 = .5, .3125, 1.5, 3.75; q under the candidate 1.75, .875, .75, 1."""
    parts = Parts.of(a_log(), Q)
    found = {name: ESTIMATORS[name](parts).terms.value for name in ("DM", "IPS", "SNIPS", "DR")}
    assert found["DM"] == pytest.approx((1.75 + 0.875 + 0.75 + 1.0) / 4)
    assert found["IPS"] == pytest.approx((0.5 + 0.0 + 1.5 + 7.5) / 4)
    assert found["SNIPS"] == pytest.approx(9.5 / (0.5 + 0.3125 + 1.5 + 3.75))
    assert found["DR"] == pytest.approx(found["DM"] + (0.0 - 0.3125 * 0.5 + 0.0 + 3.75) / 4)
    assert at_cut(parts, switched, 2.0).terms.value == pytest.approx(found["DM"] - 0.3125 * 0.5 / 4)
    of_last = 2.0 * 3.75 / (3.75**2 + 2.0)
    of_second = 2.0 * 0.3125 / (0.3125**2 + 2.0)
    assert at_cut(parts, shrunk, 2.0).terms.value == pytest.approx(found["DM"] + (of_last - of_second * 0.5) / 4)


def test_cut_at_nothing_is_dr_and_cut_at_all_is_the_model():
    parts = Parts.of(a_log(), Q)
    dr, dm = (ESTIMATORS[name](parts).terms.value for name in ("DR", "DM"))
    for change in (switched, shrunk):
        assert at_cut(parts, change, np.inf).terms.value == pytest.approx(dr)
        assert at_cut(parts, change, 0.0).terms.value == pytest.approx(dm)


def test_effective_rows_largest_and_mean_weight_by_hand():
    found = overlap(a_log())
    assert found.effective_rows == pytest.approx(6.0625**2 / (0.25 + 0.3125**2 + 2.25 + 3.75**2))
    assert found.largest_weight == pytest.approx(3.75)
    assert found.largest_share == pytest.approx(3.75 / 6.0625)
    assert found.mean_weight == pytest.approx(6.0625 / 4)
    assert not found.permits


def test_the_standard_error_of_a_mean_is_the_textbook_one_and_grows_with_clusters():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    terms = Terms(values, np.ones(4))
    alone = standard_error(influence(terms), np.arange(4), 4)
    assert alone == pytest.approx(values.std(ddof=1) / 2.0)
    together = standard_error(influence(terms), np.array([0, 0, 1, 1]), 2)
    assert together == pytest.approx(np.std([-2.5, 2.5], ddof=1) / math.sqrt(2))  # the means of two pairs, about 4


# Planted truth


def simulated(rng, n=4_000, n_offers=4, units=None, skew=1.0):
    """A log whose truth is known: P(accept) depends on one number of the customer and on the offer."""
    x = rng.normal(size=n)
    base, slope = np.linspace(-1.5, -0.3, n_offers), np.linspace(1.0, -1.0, n_offers)
    p = 1.0 / (1.0 + np.exp(-(base + x[:, None] * slope)))
    logging = _softmax(skew * x[:, None] * np.linspace(-0.5, 0.5, n_offers))
    candidate = _softmax(3.0 * (p - p.mean(axis=1, keepdims=True)))
    action = (rng.random((n, 1)) < logging.cumsum(axis=1)).argmax(axis=1)
    rows = np.arange(n)
    reward = (rng.random(n) < p[rows, action]).astype(float)
    log = Logged(
        offers=tuple(f"o{i}" for i in range(n_offers)),
        action=action,
        probability=logging[rows, action],
        reward=reward,
        chances=candidate,
        propensity=logging,
        context=x[:, None],
        unit=units,
    )
    return log, p, candidate


def _softmax(scores):
    e = np.exp(scores)
    return e / e.sum(axis=1, keepdims=True)


def fit_lines(shown):
    """A line through the answers to each offer, by least squares."""
    lines = [np.polyfit(shown.context[at, 0], shown.outcome[at], 1) for at in (shown.action == k for k in range(4))]
    return lambda context, estimate: np.column_stack([np.polyval(line, context[:, 0]) for line in lines])


@pytest.fixture(scope="module")
def many_logs():
    """400 logs of one world, each with every estimate, its interval, and the truth over its own customers."""
    rng = np.random.default_rng(20261122)
    found = []
    for _ in range(400):
        log, p, candidate = simulated(rng, n=1_000)
        parts = Parts.of(log, cross_fitted(log, fit_lines))
        truth = float((candidate * p).sum(axis=1).mean())
        units, n_units = log.units
        row = {}
        for name, estimator in ESTIMATORS.items():
            terms = estimator(parts).terms
            se = standard_error(influence(terms), units, n_units)
            row[name] = (terms.value - truth, *around(terms.value, se, 0.05, n_units), truth)
        found.append(row)
    return found


@pytest.mark.parametrize("name", ["IPS", "DR"])
def test_estimates_are_unbiased(many_logs, name):
    errors = np.array([row[name][0] for row in many_logs])
    assert abs(errors.mean()) < 3.3 * errors.std(ddof=1) / math.sqrt(len(errors))


def test_intervals_hold_the_truth_as_often_as_they_say(many_logs):
    """The truth of a log's own customers moves with them: intervals, which are for all customers, hold it as often or
    more often; 400 logs tell shares apart to 1.1 points."""
    for name in ("IPS", "SNIPS", "DR"):
        held = np.mean([low <= truth <= high for _, low, high, truth in (row[name] for row in many_logs)])
        assert 0.915 <= held <= 0.995, name


def test_a_model_that_knows_narrows_the_error(many_logs):
    spread = {name: np.std([row[name][0] for row in many_logs]) for name in ESTIMATORS}
    assert spread["DR"] < 0.8 * spread["IPS"]


def test_of_a_wrong_model_dr_is_still_right_and_dm_is_not():
    """The model says 0.9 of every offer; the truth is about 0.33."""
    rng = np.random.default_rng(1)
    log, p, candidate = simulated(rng, n=60_000)
    truth = float((candidate * p).sum(axis=1).mean())
    parts = Parts.of(log, np.full(p.shape, 0.9))
    assert abs(ESTIMATORS["DR"](parts).terms.value - truth) < 0.02
    assert ESTIMATORS["DM"](parts).terms.value == pytest.approx(0.9)


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosted_trees])
def test_reward_models_learn_what_was_planted(fit):
    log, p, _ = simulated(np.random.default_rng(2), n=8_000)
    guessed = cross_fitted(log, fit)
    wrong = np.abs(guessed - p).mean()
    assert wrong < 0.5 * np.abs(cross_fitted(log, fit_offer_means) - p).mean()


def test_rows_of_one_customer_are_never_in_the_part_that_guesses_them():
    """Of three customers with one context each, who always answer alike, a model that saw the row would know it."""
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(30), 20)
    log = a_log(
        action=rng.integers(0, 2, 600), probability=np.full(600, 0.5), reward=(unit % 2).astype(float),
        chances=same_for_all([0.5, 0.5], 600), context=np.eye(30)[unit], unit=unit,
    )  # fmt: skip
    told = cross_fitted(log, fit_boosted_trees).mean(axis=1)
    assert abs(told[unit % 2 == 1].mean() - told[unit % 2 == 0].mean()) < 0.1


def test_rows_of_one_customer_widen_the_interval():
    """Every row ten times over says no more than once."""
    log, _, _ = simulated(np.random.default_rng(4), n=800)
    again = np.repeat(np.arange(800), 10)
    ten = replace(log.take(again), unit=again)
    once, apart, together = (evaluate(one, fit=fit_offer_means, n_samples=200) for one in (log, log.take(again), ten))
    width = [one.named("IPS").high - one.named("IPS").low for one in (once, apart, together)]
    assert width[2] == pytest.approx(width[0], rel=0.01)
    assert width[1] < 0.4 * width[0]
    boot = together.named("IPS")
    assert boot.bootstrap_high - boot.bootstrap_low == pytest.approx(width[0], rel=0.2)


def test_a_better_policy_is_found_better_and_a_worse_one_worse():
    log, p, candidate = simulated(np.random.default_rng(5), n=12_000)
    found = evaluate(log, n_samples=200)
    assert found.verdict == "higher"
    truth = float((candidate * p).sum(axis=1).mean())
    assert found.named("DR").low < truth < found.named("DR").high
    worst = np.zeros_like(p)
    worst[np.arange(len(p)), p.argmin(axis=1)] = 1.0
    beside = compare(log.of(worst), candidate, n_samples=200)
    assert beside.verdict == "lower"
    assert beside.difference.low < float((worst * p).sum(axis=1).mean()) - truth < beside.difference.high


def test_against_itself_a_policy_differs_by_nothing():
    log, _, candidate = simulated(np.random.default_rng(6), n=3_000)
    found = compare(log, candidate, n_samples=50)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "no difference seen"


def test_known_worth_leaves_only_the_acceptance_to_be_learned():
    log, p, candidate = simulated(np.random.default_rng(7), n=8_000)
    worth = same_for_all([1.0, 50.0, 3.0, 0.5], 8_000)
    valued = replace(log, worth=worth, reward=log.reward * worth[np.arange(8_000), log.action])
    found = evaluate(valued, n_samples=100)
    truth = float((candidate * p * worth).sum(axis=1).mean())
    assert found.named("DR").low < truth < found.named("DR").high
    assert np.abs(cross_fitted(valued) - p * worth).mean() < 0.1 * (p * worth).mean()


# Overlap


def test_the_rule_of_overlap_refuses_a_verdict():
    n = 20_000
    rng = np.random.default_rng(8)
    action = (rng.random(n) < 0.002).astype(int)
    log = a_log(
        action=action, probability=np.where(action == 1, 0.002, 0.998), reward=rng.random(n),
        chances=same_for_all([0.1, 0.9], n),
    )  # fmt: skip
    found = evaluate(log, fit=fit_offer_means, n_samples=20)
    assert found.verdict == "no verdict"
    assert any("rows for this policy" in reason for reason in found.reasons)


def test_what_could_never_be_logged_is_named():
    """Half of what the candidate shows, the log never could: the mean weight is 0.5, exactly."""
    log = a_log(
        action=np.zeros(500, int), probability=np.ones(500), reward=np.ones(500),
        chances=same_for_all([0.5, 0.5], 500), propensity=same_for_all([1.0, 0.0], 500),
    )  # fmt: skip
    found = overlap(log)
    assert found.unsupported == 0.5
    assert found.mean_weight == 0.5
    assert sum("never have been logged" in one or "mean weight" in one for one in found.refusals) == 2


def test_one_row_that_holds_the_weight_is_named():
    probability = np.r_[np.full(999, 0.9), 1e-6]
    log = a_log(
        action=np.r_[np.zeros(999, int), 1], probability=probability, reward=np.zeros(1000),
        chances=same_for_all([0.9, 0.1], 1000),
    )  # fmt: skip
    assert any("one row holds" in one for one in overlap(log).refusals)


# Outcomes


def a_long_log(reward, **changes):
    n = len(reward)
    action = np.arange(n) % 2
    return a_log(
        action=action, probability=np.full(n, 0.5), reward=reward, chances=same_for_all([0.4, 0.6], n),
        propensity=same_for_all([0.5, 0.5], n), **changes,
    )  # fmt: skip


def rewarded(n_rewarded, n=6_000):
    return np.r_[np.ones(n_rewarded), np.zeros(n - n_rewarded)]


def intervals(found):
    shown = [(one.low, one.high, one.bootstrap_low, one.bootstrap_high) for one in (found.logged, *found.estimates)]
    return {bound for one in shown for bound in one} | {found.difference.low, found.difference.high}


@pytest.mark.parametrize("reward", [np.zeros(6_000), np.ones(6_000)])
def test_outcomes_that_do_not_vary_give_no_verdict_and_no_interval(reward):
    found = evaluate(a_long_log(reward), fit=fit_offer_means, n_samples=20)
    assert (found.verdict, found.n_varied) == ("no verdict", 0)
    assert found.reasons == (f"all 6,000 rows have the reward {reward[0]:g}: outcomes do not vary",)
    assert intervals(found) == {None}
    beside = compare(a_long_log(reward), same_for_all([0.6, 0.4], 6_000), fit=fit_offer_means, n_samples=20)
    assert (beside.verdict, beside.reasons) == ("no verdict", found.reasons)


@pytest.mark.parametrize(
    ("n_rewarded", "verdict"), [(1, False), (19, False), (20, True), (5_980, True), (5_981, False)]
)
def test_fewer_than_20_rows_with_another_reward_than_most_give_no_verdict(n_rewarded, verdict):
    found = evaluate(a_long_log(rewarded(n_rewarded)), fit=fit_offer_means, n_samples=20)
    assert (found.verdict != "no verdict") == verdict
    if not verdict:
        usual = "no reward" if n_rewarded < 20 else "the reward 1"
        assert found.reasons[0].startswith(f"all but {found.n_varied} of 6,000 rows have {usual}: at least 20 must")


def test_rows_of_one_customer_give_no_interval_and_say_why():
    """Resampled, one customer is the same customer each time: that is no certainty."""
    found = evaluate(a_long_log(rewarded(600), unit=np.zeros(6_000, int)), fit=fit_offer_means, n_samples=20)
    assert found.verdict == "no verdict"
    assert intervals(found) == {None}
    assert found.reasons[0].startswith("all rows are of one customer")


def test_what_is_known_of_the_log_beforehand_is_said_first():
    for reward in (np.zeros(6_000), rewarded(600)):
        found = evaluate(a_long_log(reward), fit=fit_offer_means, n_samples=20, beforehand=("no impressions",))
        assert found.reasons[0] == "no impressions"
        assert len(found.reasons) == 2


# Laws

rewards = st.lists(st.sampled_from([0.0, 1.0, -3.0, 1e6]) | st.floats(-10, 10), min_size=2, max_size=40)


@st.composite
def logs(draw):
    """Any rewards, any chances that may be, odd ones on purpose: rewards that tie, chances near 0 and at 1."""
    reward = np.array(draw(rewards))
    n, k = len(reward), draw(st.integers(1, 5))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    peak = draw(st.sampled_from([0.1, 1.0, 20.0]))
    logging = _softmax(rng.normal(size=(n, k)) * peak)
    action = (rng.random((n, 1)) < logging.cumsum(axis=1)).argmax(axis=1)
    return Logged(
        offers=tuple(map(str, range(k))), action=action, probability=logging[np.arange(n), action], reward=reward,
        chances=_softmax(rng.normal(size=(n, k))), propensity=logging, context=rng.normal(size=(n, 2)),
    )  # fmt: skip


@settings(deadline=None)
@given(logs())
def test_of_the_policy_that_was_logged_every_estimator_says_the_mean_reward(log):
    """All weights are 1; the model guesses the mean, so that DM too has nothing else to say."""
    own = log.of(log.propensity)
    assert own.weights == pytest.approx(1.0)
    parts = Parts.of(own, np.full(log.propensity.shape, log.reward.mean()))
    for name, estimator in ESTIMATORS.items():
        assert estimator(parts).terms.value == pytest.approx(log.reward.mean(), rel=1e-6, abs=1e-6), name


@settings(deadline=None)
@given(logs())
def test_snips_stays_within_the_rewards(log):
    parts = Parts.of(log, np.zeros(log.chances.shape))
    slack = 1e-9 * max(1.0, float(np.abs(log.reward).max()))
    assert log.reward.min() - slack <= ESTIMATORS["SNIPS"](parts).terms.value <= log.reward.max() + slack


@settings(deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(log, random):
    order = np.array(random.sample(range(len(log)), len(log)))
    q = np.arange(log.chances.size, dtype=float).reshape(log.chances.shape)
    for name, estimator in ESTIMATORS.items():
        one, other = estimator(Parts.of(log, q)), estimator(Parts.of(log.take(order), q[order]))
        scale = 1.0 + float(np.abs(one.terms.num).max())
        assert other.terms.value == pytest.approx(one.terms.value, rel=1e-7, abs=1e-7 * scale), name
    assert overlap(log).effective_rows == pytest.approx(overlap(log.take(order)).effective_rows)


@settings(deadline=None, max_examples=40)
@given(logs())
def test_any_log_gets_figures_or_says_that_there_are_none(log):
    found = evaluate(log, fit=fit_offer_means, n_samples=10)
    for one in found.estimates:
        for value in (one.value, one.low, one.high, one.bootstrap_low, one.bootstrap_high):
            assert value is None or math.isfinite(value)
    assert found.verdict == "no verdict"  # 40 rows are never enough
    assert found.reasons


# What cannot be read


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"probability": np.array([0.5, 0.0, 0.5, 0.2])}, "probability", "row 1.*cannot state it"),
        ({"probability": np.array([0.5, np.nan, 0.5, 0.2])}, "probability", "nan in row 1"),
        ({"probability": np.array([0.5, 1.5, 0.5, 0.2])}, "probability", "at most 1"),
        ({"reward": np.array([1.0, 0.0, np.nan, np.nan])}, "reward", "nan in row 2 .2 such rows"),
        ({"reward": np.array([1.0, 0.0, np.inf, 0.0])}, "reward", "finite"),
        ({"action": np.array([0, 0, 2, 1])}, "action", "from 0 to 1"),
        ({"chances": same_for_all([0.5, 0.4], 4)}, "chances", "0.9 in row 0.*expected 1"),
        ({"chances": same_for_all([1.5, -0.5], 4)}, "chances", "from 0 up"),
        ({"chances": same_for_all([np.nan, 1.0], 4)}, "chances", "nan"),
        ({"chances": same_for_all([1.0], 4)}, "chances", "shape"),
        ({"propensity": same_for_all([0.5, 0.5], 4)}, "propensity", "row 1"),
        ({"context": np.zeros((3, 1))}, "context", "shape"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused_by_name(changes, field, said):
    with pytest.raises(BadInput, match=said) as refused:
        a_log(**changes)
    assert refused.value.field == field


def test_an_empty_log_is_refused():
    nothing = np.zeros(0)
    with pytest.raises(BadInput, match="no row"):
        a_log(action=nothing.astype(int), probability=nothing, reward=nothing, chances=np.zeros((0, 2)))


def test_missing_context_is_learned_from_as_missing():
    log, p, _ = simulated(np.random.default_rng(9), n=4_000)
    holes = np.where(np.random.default_rng(0).random(len(log)) < 0.2, np.nan, log.context[:, 0])
    for fit in (fit_logistic, fit_boosted_trees):
        guessed = cross_fitted(replace(log, context=holes[:, None]), fit)
        assert np.isfinite(guessed).all()
        assert np.abs(guessed - p).mean() < np.abs(cross_fitted(log, fit_offer_means) - p).mean()
