"""BG/NBD and Gamma-Gamma against published figures, the lifetimes library, and customers whose truth is planted."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from training.value import (
    BgNbd,
    GammaGamma,
    Repeats,
    expected_loss,
    fit_bgnbd,
    fit_gamma_gamma,
    judge_value,
    repeats_of,
    worth_of,
)
from training.value.bgnbd import _loss as bgnbd_loss
from training.value.gamma_gamma import _loss as gamma_gamma_loss

DAY = US_PER_DAY


@pytest.fixture(scope="module")
def lifetimes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifetimes

        return lifetimes


@pytest.fixture(scope="module")
def cdnow(lifetimes):
    """2,357 customers of an online music shop, in weeks: the sample of the papers."""
    folder = Path(lifetimes.__file__).parent / "datasets"
    plain = pd.read_csv(folder / "cdnow_customers_summary.csv")
    money = pd.read_csv(folder / "cdnow_customers_summary_with_transactions.csv").set_axis(
        ["ID", "frequency", "recency", "T", "spend"], axis=1
    )
    return of_frame(plain.assign(spend=np.nan)), of_frame(money)


def of_frame(frame):
    f = frame.frequency.to_numpy(np.float64)
    return Repeats(
        tuple(map(str, range(len(frame)))),
        f,
        frame.recency.to_numpy(np.float64),
        frame["T"].to_numpy(np.float64),
        np.where(f > 0, frame.spend, np.nan),
    )


def repeats(frequency, recency, age, spend=None):
    n = len(frequency)
    made = [np.asarray(of, np.float64) for of in (frequency, recency, age)]
    return Repeats(
        tuple(map(str, range(n))), *made, np.full(n, np.nan) if spend is None else np.asarray(spend, np.float64)
    )


def simulated(n, days, rng, r=0.6, alpha=20.0, a=0.8, b=2.5, p=6.0, q=4.0, v=15.0):
    """Who buys when and for how much, by the very story that the models tell."""
    customers, us, values = [], [], []
    for one in range(n):
        rate, leaves = rng.gamma(r, 1 / alpha), rng.beta(a, b)
        mean_rate = rng.gamma(q, 1 / v)
        at = 0.0
        while at < days:
            customers.append(f"c{one}")
            us.append(at)
            values.append(rng.gamma(p, 1 / mean_rate))
            if at > 0 and rng.random() < leaves:
                break
            at += rng.exponential(1 / rate)
    return customers, (np.array(us) * DAY).astype(np.int64), np.array(values)


# Published figures


def test_bgnbd_on_cdnow_is_as_published(cdnow):
    """Fader, Hardie and Lee (2005), table 2: r .243, alpha 4.414, a .793, b 2.426, log-likelihood -9,582.4."""
    fit = fit_bgnbd(cdnow[0])
    assert [fit.r, fit.alpha, fit.a, fit.b] == pytest.approx([0.243, 4.414, 0.793, 2.426], abs=6e-4)
    assert fit.log_likelihood == pytest.approx(-9582.4, abs=0.05)


def test_a_customer_of_the_paper_is_expected_to_buy_as_published(cdnow):
    """The authors' spreadsheet: x = 2, last at week 30.43 of 38.86, is expected to buy 1.226 times in 39 weeks."""
    fit = fit_bgnbd(cdnow[0])
    assert fit.purchases(repeats([2], [30.43], [38.86]), 39.0) == pytest.approx([1.226], abs=1e-3)


def test_gamma_gamma_on_cdnow_is_as_published(cdnow):
    """Fader and Hardie (2013): p 6.25, q 3.74, v 15.44."""
    fit = fit_gamma_gamma(cdnow[1])
    assert [fit.p, fit.q, fit.v] == pytest.approx([6.25, 3.74, 15.44], abs=0.012)
    assert abs(fit.correlation) < 0.15


# Another library


def test_bgnbd_says_what_lifetimes_says(cdnow, lifetimes):
    of, fit = cdnow[0], fit_bgnbd(cdnow[0])
    oracle = lifetimes.BetaGeoFitter().fit(of.frequency, of.recency, of.age)
    assert [fit.r, fit.alpha, fit.a, fit.b] == pytest.approx(oracle.params_.to_list(), rel=1e-4)
    for days in (1.0, 39.0, 400.0):
        there = oracle.conditional_expected_number_of_purchases_up_to_time(days, of.frequency, of.recency, of.age)
        np.testing.assert_allclose(fit.purchases(of, days), there, rtol=1e-4)
    there = oracle.conditional_probability_alive(of.frequency, of.recency, of.age)
    np.testing.assert_allclose(fit.p_active(of), there, rtol=1e-4)


def test_gamma_gamma_and_the_value_of_a_customer_are_those_of_lifetimes(cdnow, lifetimes):
    of = cdnow[1]
    again = of.part(of.spend > 0)
    counts, money = fit_bgnbd(of), fit_gamma_gamma(of)
    oracle = lifetimes.GammaGammaFitter().fit(again.frequency, again.spend)
    assert [money.p, money.q, money.v] == pytest.approx(oracle.params_.to_list(), rel=1e-3)
    there = oracle.conditional_expected_average_profit(again.frequency, again.spend)
    np.testing.assert_allclose(money.spend(again), there, rtol=1e-3)
    bg = lifetimes.BetaGeoFitter().fit(of.frequency, of.recency, of.age)
    value = oracle.customer_lifetime_value(
        bg, pd.Series(again.frequency), pd.Series(again.recency), pd.Series(again.age), pd.Series(again.spend),
        time=12, discount_rate=0.01, freq="D",
    )  # fmt: skip
    mine = worth_of(counts, money, again, days=360.0, discount=1.01 ** (365 / 30) - 1).remaining
    np.testing.assert_allclose(mine, value, rtol=2e-3)


# Planted truth


def test_a_planted_truth_is_found_and_the_future_predicted():
    customers, us, values = simulated(4_000, 700.0, np.random.default_rng(0))
    found = judge_value(customers, us, values, 700 * DAY, n_draws=20)
    assert found.counts.r == pytest.approx(0.6, rel=0.25)
    assert found.counts.alpha == pytest.approx(20.0, rel=0.25)
    assert found.money is not None
    assert found.money.mean == pytest.approx(6.0 * 15.0 / 3.0, rel=0.1)  # p v / (q - 1)
    assert found.total.low < 1.0 < found.total.high or found.total.estimate == pytest.approx(1.0, abs=0.1)
    table = found.table
    inside = (table.predicted > table.actual_low * 0.8) & (table.predicted < table.actual_high * 1.2)
    assert inside.all()


def test_gradients_are_those_of_small_steps(cdnow):
    of, money = cdnow[0], cdnow[1]
    again = money.part(money.spend > 0)
    for loss, at, rows in (
        (bgnbd_loss, np.array([-0.7, 1.2, -0.1, 0.6]), (of.frequency, of.recency, of.age, np.ones(len(of)))),
        (gamma_gamma_loss, np.array([1.0, 0.9, 2.0]), (again.frequency, again.spend, np.ones(len(again)))),
    ):
        _, gradient = loss(at, *rows)
        for i in range(len(at)):
            step = np.eye(len(at))[i] * 1e-5
            slope = (loss(at + step, *rows)[0] - loss(at - step, *rows)[0]) / 2e-5
            assert gradient[i] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_weights_count_as_repeated_customers(cdnow):
    of = cdnow[0].part(np.arange(600))
    w = np.random.default_rng(0).integers(0, 3, 600).astype(np.float64)
    rows = np.repeat(np.arange(600), w.astype(int))
    twice = repeats(of.frequency[rows], of.recency[rows], of.age[rows])
    one, other = fit_bgnbd(of, w), fit_bgnbd(twice)
    assert [one.r, one.alpha, one.a, one.b] == pytest.approx([other.r, other.alpha, other.a, other.b], rel=1e-3)


# Laws


MODEL = BgNbd(0.243, 4.414, 0.793, 2.426)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 3000), st.floats(0, 1), st.floats(0.01, 4000)), min_size=1, max_size=20
    ),
    st.floats(0.1, 2000),
)  # fmt: skip
def test_expectations_are_finite_grow_with_time_and_no_chance_leaves_its_range(rows, days):
    of = repeats([x for x, _, _ in rows], [s * age if x else 0 for x, s, age in rows], [age for _, _, age in rows])
    for model in (
        MODEL,
        BgNbd(0.5, 10.0, 1.0, 3.0),
        BgNbd(2.0, 5.0, 3.0, 0.2),
        BgNbd(1e4, 1e7, 50.0, 1e4),
        BgNbd(1.0, 60.0, 1e-4, 1e4),
    ):
        p, near, far = model.p_active(of), model.purchases(of, days), model.purchases(of, 2 * days)
        assert ((p >= 0) & (p <= 1)).all()
        assert (p[of.frequency == 0] == 1).all()
        assert np.isfinite(far).all()
        assert (near >= -1e-6).all()
        assert (far >= near - 1e-6).all()


def test_the_expected_spend_lies_between_the_own_mean_and_everybodys():
    money = GammaGamma(6.25, 3.74, 15.44)
    found = money.spend(repeats([0, 1, 50, 50], [0, 1, 1, 1], [9, 9, 9, 9], [np.nan, 100.0, 100.0, 5.0]))
    assert found[0] == pytest.approx(money.mean)
    assert money.mean < found[1] < found[2] < 100.0
    assert 5.0 < found[3] < money.mean


def test_expected_loss_counts_leaving_once():
    """By hand: a customer of whom 40 % are gone already is worth remaining / 0.6 on staying."""
    of = repeats([3, 0], [20, 0], [60, 60], [50.0, np.nan])
    worth = worth_of(MODEL, GammaGamma(6.25, 3.74, 15.44), of, days=90)
    np.testing.assert_allclose(worth.remaining, worth.if_active * worth.p_active)
    np.testing.assert_allclose(expected_loss(np.array([0.5, 0.1]), worth), worth.if_active * [0.5, 0.1])
    assert np.isnan(expected_loss(np.array([np.nan, 0.1]), worth)[0])
    with pytest.raises(BadInput, match="one each"):
        expected_loss(np.array([0.5]), worth)


def test_a_discount_takes_from_what_comes_later_and_a_margin_from_all():
    of = repeats([5], [50], [60], [20.0])
    money = GammaGamma(6.25, 3.74, 15.44)
    plain = worth_of(MODEL, money, of).remaining
    assert worth_of(MODEL, money, of, margin=0.3).remaining == pytest.approx(0.3 * plain)
    assert worth_of(MODEL, money, of, discount=0.2).remaining < plain
    assert worth_of(MODEL, None, of).remaining == pytest.approx(worth_of(MODEL, None, of).purchases)


# From purchases


def test_purchases_of_one_day_are_one_and_the_first_is_no_repeat():
    """By hand: days 0 (two lines), 2 and 7 of customer a; b once; what lies at the end's instant is not seen."""
    us = np.array([0, 5, 2 * DAY, 7 * DAY + 3, 4 * DAY, 9 * DAY])
    of = repeats_of(["a", "a", "a", "a", "b", "b"], us, np.array([1.0, 2.0, 10.0, 20.0, 5.0, 99.0]), 9 * DAY)
    assert of.customers == ("a", "b")
    assert of.frequency.tolist() == [2.0, 0.0]
    assert of.recency.tolist() == [7.0, 0.0]
    assert of.age.tolist() == [9.0, 5.0]
    np.testing.assert_array_equal(of.spend, [15.0, np.nan])


def test_order_does_not_matter():
    customers, us, values = simulated(50, 200.0, np.random.default_rng(1))
    shuffled = np.random.default_rng(2).permutation(len(us))
    one = repeats_of(customers, us, values, 200 * DAY)
    other = repeats_of(np.array(customers)[shuffled].tolist(), us[shuffled], values[shuffled], 200 * DAY)
    assert one.customers == other.customers
    np.testing.assert_allclose(one.spend, other.spend)
    np.testing.assert_array_equal(one.frequency, other.frequency)


def test_without_money_purchases_are_counted_and_the_report_says_so():
    customers, us, _ = simulated(800, 300.0, np.random.default_rng(3))
    found = judge_value(customers, us, np.full(len(us), np.nan), 300 * DAY, n_draws=5)
    assert found.money is None
    assert "no repeated purchase has a value" in found.no_money
    assert found.predicted.sum() > 0


# Bad input


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"frequency": [np.nan, 1]}, "frequency"),
        ({"recency": [-1, 1]}, "recency"),
        ({"age": [np.inf, 5]}, "age"),
        ({"customers": ("a", "a")}, "customers"),
        ({"recency": [0, 6]}, "recency"),
    ],
)
def test_impossible_customers_are_refused_by_name(changed, field):
    good = {"customers": ("a", "b"), "frequency": [0, 1], "recency": [0, 2], "age": [5, 5], "spend": [np.nan, 3.0]}
    given_ = {k: v if k == "customers" else np.array(v, np.float64) for k, v in {**good, **changed}.items()}
    with pytest.raises(BadInput) as error:
        Repeats(**given_)
    assert error.value.field == field


def test_infinite_values_and_columns_of_other_lengths_are_refused():
    with pytest.raises(BadInput, match="infinite"):
        repeats_of(["a"], np.array([1]), np.array([np.inf]), DAY)
    with pytest.raises(BadInput, match="as many"):
        repeats_of(["a"], np.array([1, 2]), np.array([1.0]), DAY)


def test_too_few_customers_or_repeats_or_purchases_are_said_with_their_numbers():
    with pytest.raises(NotTrainable, match="1 customers bought, 1 of them again"):
        fit_bgnbd(repeats([1], [1], [2]))
    with pytest.raises(NotTrainable, match="0 of them again"):
        fit_bgnbd(repeats([0] * 200, [0] * 200, [5] * 200))
    with pytest.raises(NotTrainable, match="no purchases"):
        judge_value([], np.zeros(0, np.int64), np.zeros(0), DAY)


def test_where_nobody_ever_leaves_the_limit_is_named_and_the_rate_goes_on():
    """Everybody buys daily until the very end: 100 purchases in 100 days are about 50 in the next 50."""
    of = repeats([100] * 300, [100] * 300, [100] * 300)
    fit = fit_bgnbd(of)
    assert "a" in fit.at_limit
    assert fit.leaving < 1e-4
    assert not fit.knows_leaving
    assert fit.p_active(of) == pytest.approx(np.ones(300), abs=1e-3)
    assert fit.purchases(of, 50.0) == pytest.approx(np.full(300, 50.0), rel=0.02)


def test_no_parameter_of_a_planted_truth_is_at_its_limit(cdnow):
    fit = fit_bgnbd(cdnow[0])
    assert fit.at_limit == ()
    assert fit.knows_leaving


def test_one_chance_of_leaving_for_all_is_at_a_limit_and_is_knowledge_all_the_same():
    """a and b grow without end at a ratio where everybody leaves alike, here after one purchase in three."""
    assert BgNbd(1.0, 10.0, 50.0, 100.0).at_limit == ("a",)
    assert BgNbd(1.0, 10.0, 50.0, 100.0).knows_leaving
    assert not BgNbd(1.0, 10.0, 50.0, 1e4).knows_leaving  # the least chance that their limits allow


def test_a_range_that_makes_no_sense_is_named():
    of = repeats([5], [50], [60], [20.0])
    for name, value in (("days", 0.0), ("margin", -1.0), ("discount", np.nan)):
        with pytest.raises(BadInput) as error:
            worth_of(MODEL, None, of, **{name: value})
        assert error.value.field == name
