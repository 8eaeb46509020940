"""Effects against SciPy, tea-tasting's documentation and published examples; phases; and what cannot be computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, norm, ttest_ind
from scipy.stats import t as student

from experiments.cells import Cell, cells_of
from experiments.statistics.arms import arms, degrees_of_freedom
from experiments.statistics.effect import compare
from experiments.statistics.proportions import exact, holds_zero_from, newcombe, wilson


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def two_arms(rng, n=400, lift=0.0):
    variant = np.repeat(["control", "variant"], n)
    values = rng.gamma(2.0, 3.0, 2 * n) + lift * (variant == "variant")
    return variant, values


def compared(variant, *numbers, kind="mean", **more):
    phase = more.pop("phase", None)
    return compare(cells_of("m", variant, *numbers, phase=phase), "m", "control", "variant", kind=kind, **more)


def test_a_mean_is_scipys_welch(rng):
    variant, values = two_arms(rng, lift=0.6)
    left, right = values[variant == "control"], values[variant == "variant"]
    expected = ttest_ind(right, left, equal_var=False)
    found = compared(variant, values, cuped=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.absolute_low, found.absolute_high) == pytest.approx((interval.low, interval.high))
    assert found.standard_error == pytest.approx(math.sqrt(left.var(ddof=1) / 400 + right.var(ddof=1) / 400))
    assert degrees_of_freedom(*arms("mean", *cells_of("m", variant, values), False)) == pytest.approx(expected.df)


PUBLISHED = [  # tea-tasting's documentation of `RatioOfMeans` and `Mean`, make_users_data(rng=42)
    ("orders_per_session", False, 0.266, 0.289, 0.088, -0.0089, 0.19, 0.0762),
    ("orders_per_session", True, 0.262, 0.293, 0.12, 0.042, 0.21, 0.00229),
    ("revenue_per_user", False, 5.24, 5.73, 0.093, -0.024, 0.22, 0.123),
    ("revenue_per_user", True, 5.12, 5.85, 0.14, 0.038, 0.26, 0.00674),
]


@pytest.mark.parametrize(("metric", "cuped", "control", "variant", "relative", "low", "high", "p"), PUBLISHED)
def test_ratios_and_cuped_are_those_that_tea_tasting_documents(metric, cuped, control, variant, relative, low, high, p):
    data = tt.make_users_data(rng=42, covariates=cuped, return_type="pandas")
    column = "orders" if metric == "orders_per_session" else "revenue"
    ratio = metric == "orders_per_session"
    numbers = [data[column], data["sessions"] if ratio else None]
    if cuped:
        numbers += [data[f"{column}_covariate"], data["sessions_covariate"] if ratio else None]
    names = np.where(data["variant"] == 1, "variant", "control")
    found = compared(names, *numbers, kind="ratio" if ratio else "mean", cuped=cuped)
    assert found.estimate_control == pytest.approx(control, rel=0.002)
    assert found.estimate_variant == pytest.approx(variant, rel=0.002)
    assert found.relative == pytest.approx(relative, abs=0.005)
    assert (found.relative_low, found.relative_high) == pytest.approx((low, high), abs=0.005)
    assert found.p_value == pytest.approx(p, rel=0.01)


def test_our_standard_errors_are_those_inside_tea_tastings_intervals(rng):
    variant, values = two_arms(rng)
    pre = values + rng.normal(0, 2, len(values))
    visits, pre_visits = rng.poisson(4, len(values)) + 1, rng.poisson(4, len(values)) + 1
    for kind, numbers in (("mean", (values, None, pre)), ("ratio", (values, visits, pre, pre_visits))):
        cells = cells_of("m", variant, *numbers)
        found = compared(variant, *numbers, kind=kind)
        assert found.method.endswith("CUPED")
        statistic = found.absolute / found.standard_error
        df = degrees_of_freedom(*arms(kind, cells[0], cells[1], True))
        assert 2 * student.sf(abs(statistic), df) == pytest.approx(found.p_value)


def test_cuped_takes_away_the_square_of_the_correlation(rng):
    """Deng et al. 2013, eq. 4: variance shrinks by the squared correlation; here 0.8 by construction."""
    n = 20_000
    pre = rng.normal(10, 1, 2 * n)
    values = 0.8 * pre + 0.6 * rng.normal(0, 1, 2 * n)
    found = compared(np.repeat(["control", "variant"], n), values, None, pre)
    assert found.cuped_reduction == pytest.approx(0.64, abs=0.02)
    assert compared(np.repeat(["control", "variant"], n), values).cuped_reduction is None


def test_a_share_is_the_two_sample_z_test(rng):
    """By hand: 120 and 150 of 1,000; z = 0.03 / sqrt(0.12 * 0.88 / 1000 + 0.15 * 0.85 / 1000) = 1.965."""
    variant = np.repeat(["control", "variant"], 1_000)
    values = np.concatenate([np.arange(1_000) < 120, np.arange(1_000) < 150]).astype(float)
    found = compared(variant, values, kind="proportion")
    assert found.absolute == pytest.approx(0.03)
    assert found.p_value == pytest.approx(2 * norm.sf(0.03 / math.sqrt((0.12 * 0.88 + 0.15 * 0.85) / 1_000)))


NEWCOMBE = [  # Newcombe 1998, table II, method 10: successes, trials, successes, trials, interval
    (56, 70, 48, 80, 0.0524, 0.3339),
    (9, 10, 3, 10, 0.1705, 0.8090),
    (5, 56, 0, 29, -0.0381, 0.1926),
    (0, 10, 0, 10, -0.2775, 0.2775),
    (10, 10, 0, 20, 0.6791, 1.0000),
]


@pytest.mark.parametrize(("x1", "n1", "x2", "n2", "low", "high"), NEWCOMBE)
def test_the_interval_of_rare_shares_is_newcombes(x1, n1, x2, n2, low, high):
    assert newcombe(n2, x2 / n2, n1, x1 / n1, 0.05) == pytest.approx((low, high), abs=6e-5)


def test_wilsons_interval_is_the_published_one():
    """Newcombe 1998 (single proportion), 81 of 263: 0.2553 to 0.3662."""
    assert wilson(263, 81 / 263, 0.05) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_rare_shares_are_tested_exactly_and_get_no_relative_change():
    values = np.zeros(400)
    values[[1, 2, 3, 201, 202, 203, 204, 205, 206]] = 1.0
    found = compared(np.repeat(["control", "variant"], 200), values, kind="proportion")
    assert found.p_value == pytest.approx(fisher_exact([[6, 194], [3, 197]]).pvalue)
    assert found.relative is None
    assert "exact test" in found.flags[-1]


def test_a_share_with_other_values_is_a_mean_and_says_so():
    found = compared(["control", "control", "variant", "variant"], [0, 2, 1, 3], kind="proportion")
    assert "a share with values other than 0 and 1 was treated as a mean" in found.flags
    assert found.method == "Welch"


def test_phases_are_compared_within_themselves():
    """Simpson's paradox, planted: the variant gains 1 in each phase, but most of it ran in the poor phase."""
    rng = np.random.default_rng(9)
    sizes = {("control", 1): 9_000, ("variant", 1): 1_000, ("control", 2): 1_000, ("variant", 2): 9_000}
    variant = np.concatenate([[name] * n for (name, _), n in sizes.items()])
    phase = np.concatenate([[number] * n for (_, number), n in sizes.items()])
    values = rng.normal(0, 1, len(phase)) + np.where(phase == 1, 10, 0) + (variant == "variant")
    pooled = compared(variant, values)
    within = compared(variant, values, phase=phase)
    assert pooled.absolute < -5
    assert within.absolute == pytest.approx(1.0, abs=0.08)
    assert within.absolute_low < 1.0 < within.absolute_high
    assert within.phases == 2
    assert within.method.startswith("2 phases, each within itself")


def test_phases_weigh_by_their_counts_alone():
    """By hand: weights 100*100/200 = 50 and 300*100/400 = 75; effects 1 and 2 make (50 + 150) / 125 = 1.6."""

    def cell(variant, phase, n, mean):
        return Cell(metric="m", variant=variant, phase=phase, n=n, mean_num=mean, var_num=4.0)

    cells = [cell("control", 1, 100, 5.0), cell("variant", 1, 100, 6.0)]
    cells += [cell("control", 2, 300, 1.0), cell("variant", 2, 100, 3.0)]
    found = compare(cells, "m", "control", "variant", cuped=False)
    assert found.absolute == pytest.approx(1.6)
    by_hand = math.sqrt(0.4**2 * (4 / 100 + 4 / 100) + 0.6**2 * (4 / 300 + 4 / 100))
    assert found.standard_error == pytest.approx(by_hand)
    assert any("not the same in all phases" in flag for flag in found.flags)


def test_one_phase_and_no_phase_are_the_same(rng):
    variant, values = two_arms(rng)
    alone, numbered = compared(variant, values), compared(variant, values, phase=[1] * len(values))
    assert (alone.p_value, alone.absolute_low) == (numbered.p_value, numbered.absolute_low)


def test_a_phase_without_a_second_arm_is_left_out_and_named(rng):
    variant, values = two_arms(rng)
    found = compared(np.append(variant, "control"), np.append(values, 1e6), phase=[1] * len(values) + [2])
    assert found.absolute == pytest.approx(compared(variant, values).absolute)
    assert found.flags[0] == "phase 2: too few units to compare: 1 control, 0 variant"


NOTHING = [
    ([], [], "no data"),
    (["control", "variant"], [1.0, 2.0], "too few units to compare: 1 control, 1 variant"),
    (["control"] * 3, [1.0, 2.0, 3.0], "too few units to compare: 3 control, 0 variant"),
    (["control"] * 3 + ["variant"] * 3, [2.0] * 6, "every unit has the same value"),
    (["control"] * 3 + ["variant"] * 3, [math.nan] + [2.0] * 5, "not a finite number"),
]


@pytest.mark.parametrize(("variant", "values", "why"), NOTHING)
def test_what_cannot_be_computed_is_none_and_says_why_never_zero(variant, values, why):
    found = compared(np.array(variant, dtype=str), np.array(values))
    assert not found.known
    assert (found.absolute, found.relative, found.p_value, found.absolute_low) == (None, None, None, None)
    assert any(why in flag for flag in found.flags)


def test_a_ratio_without_denominator_is_none():
    found = compared(["control"] * 2 + ["variant"] * 2, [0.0] * 4, [0.0] * 4, kind="ratio")
    assert found.absolute is None
    assert found.flags == ("nothing to divide by: the denominator is 0",)


def test_around_zero_there_is_no_relative_change(rng):
    found = compared(np.repeat(["control", "variant"], 100), rng.normal(0, 1, 200), cuped=False)
    assert found.known
    assert found.relative is None
    assert found.flags == ("no relative change: a level is too close to zero, or below",)


def test_a_pre_period_in_which_nothing_happened_is_not_used(rng):
    variant, values = two_arms(rng)
    found = compared(variant, values, None, np.zeros(len(values)))
    assert found.p_value == compared(variant, values).p_value
    assert found.flags == ("not adjusted for the pre-period: nothing varies in the pre-period",)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-9, 1e9, 3.5]), min_size=4, max_size=30),
    st.sampled_from(["mean", "ratio", "proportion"]),
)
def test_every_number_is_finite_or_none(values, kind):
    """Law: whatever the values, no NaN and no infinity leaves, and an interval holds its estimate."""
    values = np.tile(values, 60 if kind == "ratio" else 1)  # enough units for a ratio to be compared
    variant = ["control", "variant"] * (len(values) // 2) + ["control"] * (len(values) % 2)
    found = compared(variant, values, np.abs(values), np.roll(values, 1), np.abs(np.roll(values, 1)), kind=kind)
    for name in ("absolute", "absolute_low", "absolute_high", "relative", "relative_low", "p_value"):
        value = getattr(found, name)
        assert value is None or math.isfinite(value), name
    if found.known:
        assert found.absolute_low <= found.absolute <= found.absolute_high
        assert 0 <= found.p_value <= 1
    else:
        assert found.flags


@pytest.mark.parametrize("score", [1.0, 6.0, 100.0])
def test_the_same_answer_from_everybody_leaves_nothing_to_compare(score):
    """A variance of rounding, ±1e-17, is none: neither a crash, nor a change of 0 that is sure."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        variant, answered = rng.choice(["control", "variant"], 2_400), np.zeros(2_400)
        answered[rng.choice(2_400, rng.integers(8, 40), replace=False)] = 1.0
        pre = rng.normal(5, 1, 2_400)
        for numbers in ((answered,), (answered, pre, np.ones(2_400))):
            found = compared(variant, answered * score, *numbers, kind="ratio")
            assert (found.absolute, found.p_value, found.relative) == (None, None, None)
            assert found.flags


def test_a_relative_interval_that_overflows_is_not_known_and_the_absolute_one_is():
    """Two units an arm have one to two degrees of freedom, where a t of alpha 1e-9 is beyond 10,000."""
    found = compared(["control"] * 2 + ["variant"] * 2, [10.0, 14.0, 12.0, 16.0], alpha=1e-9, cuped=False)
    assert found.known
    assert (found.relative, found.relative_low, found.relative_high) == (None, None, None)
    assert "no relative change: its interval is beyond what can be computed" in found.flags


def answers(per_arm, control=0.85, variant=0.85, n=1_000, seed=0):
    """Of n units an arm so many answered, and these shares of them with yes."""
    rng = np.random.default_rng(seed)
    answered = np.tile(np.arange(n) < per_arm, 2).astype(float)
    share = np.repeat([control, variant], n)
    return np.repeat(["control", "variant"], n), answered * (rng.random(2 * n) < share), answered


def test_the_units_of_a_ratio_are_those_with_a_denominator():
    found = compared(*answers(150), kind="ratio")
    assert (found.n_control, found.n_variant) == (150, 150)
    assert found.known


def test_a_few_answers_of_many_units_are_too_few_to_compare():
    """Three answers an arm of 1,000 units, 1 against 0: no claim, though both levels are shown."""
    found = compared(*answers(3, control=1.0, variant=0.0), kind="ratio")
    assert (found.estimate_control, found.estimate_variant) == (1.0, 0.0)
    assert (found.absolute, found.p_value) == (None, None)
    assert found.flags[-1] == "too few units with a denominator, 3 and 3: 100 are the least to compare"


def test_without_an_effect_answers_are_significant_as_often_as_alpha_says():
    """400 A/A tests of 120 answers an arm at 5 %: 20 are to be expected, 5 to 35 in 99.9 of 100 draws (binomial)."""
    p_values = [compared(*answers(120, seed=seed), kind="ratio").p_value for seed in range(400)]
    assert 5 <= sum(p < 0.05 for p in p_values) <= 35


def test_the_interval_of_a_rare_share_agrees_with_its_test():
    """0 against 5 of 10,000: Fisher's p is 0.0625, two of 2^5 splits, so that 0 may not be excluded at 5 %."""
    found = exact(10_000, 0.0, 10_000, 5e-4, 0.05)
    assert found.p_value == pytest.approx(fisher_exact([[5, 9_995], [0, 10_000]]).pvalue)
    assert newcombe(10_000, 0.0, 10_000, 5e-4, 0.05)[0] > 0
    assert found.low == pytest.approx(0.0, abs=1e-9)
    assert found.low <= 0 < found.absolute < found.high
    assert exact(10_000, 0.0, 10_000, 5e-4, 0.07).low > 0


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([5, 20, 200, 1_000, 50_000]),
    st.sampled_from([5, 20, 200, 1_000, 50_000]),
    st.integers(0, 5),
    st.integers(0, 20),
    st.booleans(),
    st.sampled_from([1e-300, 1e-6, 0.001, 0.05, 0.2]),
)
def test_an_interval_of_rare_shares_excludes_zero_just_when_the_test_rejects(n_c, n_v, yes_c, yes_v, rarely_no, alpha):
    share_c, share_v = min(yes_c, n_c) / n_c, min(yes_v, n_v) / n_v
    if rarely_no:
        share_c, share_v = 1 - share_c, 1 - share_v
    found = exact(n_c, share_c, n_v, share_v, alpha)
    assert -1 <= found.low <= found.absolute <= found.high <= 1
    assert (found.low > 0 or found.high < 0) == (found.p_value < alpha)
    narrow = newcombe(n_c, share_c, n_v, share_v, alpha)
    assert found.low <= narrow[0] + 1e-12
    assert found.high >= narrow[1] - 1e-12


def test_newcombes_own_p_value_is_the_level_at_which_his_interval_begins_to_hold_zero():
    p = holds_zero_from(1_000, 0.001, 1_000, 0.01)
    assert newcombe(1_000, 0.001, 1_000, 0.01, p) == pytest.approx((0.0, newcombe(1_000, 0.001, 1_000, 0.01, p)[1]))
    assert holds_zero_from(1_000, 0.01, 1_000, 0.001) == p
    assert holds_zero_from(10, 0.3, 10, 0.3) == 1.0
