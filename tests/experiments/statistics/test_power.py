"""Sizes against Cohen's table, days by hand, and the smallest detectable effect against the size it came from."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from experiments.cells import Cell
from experiments.statistics.effect import Effect
from experiments.statistics.group_sequential import inflation
from experiments.statistics.power import days_until, plan, smallest_detectable
from features.errors import BadInput


def sample(mean=1.0, var=1.0, n=10_000, **more):
    return Cell(metric="m", variant="all", n=n, mean_num=mean, var_num=var, **more)


LEVEL = 1e4  # so high that a change of some standard deviations does not change the spread


def test_half_a_standard_deviation_takes_63_each():
    """The normal formula 2 (1.96 + 0.8416)^2 / 0.5^2 = 62.8 each; Cohen 1988, table 2.4.1, has 64 with Student's t."""
    found = plan(sample(LEVEL), 0.5 / LEVEL, looks=1, cuped=False)
    assert found.n_per_comparison == pytest.approx(126, abs=1)


def test_a_fifth_of_a_standard_deviation_takes_393_each():
    """Cohen 1988, table 2.4.1: d = 0.2, two-sided 0.05, power 0.80 -> 393 per group."""
    assert plan(sample(LEVEL), 0.2 / LEVEL, looks=1, cuped=False).n_per_comparison / 2 == pytest.approx(393, abs=1)


def test_a_variant_that_gains_varies_more():
    """By hand for +30 % at a coefficient of variation of 1: (1 + 1.69) (2.8016 / 0.3)^2 = 234.6 each."""
    assert plan(sample(), 0.3, looks=1, cuped=False).n_per_comparison == pytest.approx(469, abs=1)


def test_a_share_has_its_own_variance():
    """Fleiss, Levin and Paik 2003, unpooled: 0.10 to 0.12 takes (0.09 + 0.1056) (2.8016 / 0.02)^2 = 3,838 each."""
    found = plan(sample(0.1, 0.09), 0.2, kind="proportion", looks=1, cuped=False)
    assert found.n_per_comparison / 2 == pytest.approx(3_838, abs=2)


def test_looks_cost_what_the_boundaries_say():
    fixed, looked = plan(sample(), 0.05, looks=1, cuped=False), plan(sample(), 0.05, looks=20, cuped=False)
    assert looked.inflation == pytest.approx(inflation(20))
    assert looked.n_units == pytest.approx(fixed.n_units * inflation(20), rel=1e-3)


def test_the_pre_period_saves_what_it_explains():
    """With a squared correlation of 0.64, 0.36 of the units are left (Deng et al. 2013, eq. 4)."""
    pre = {"mean_pre_num": 1.0, "var_pre_num": 1.0, "cov_num_pre_num": 0.8, "mean_pre_den": 1.0, "var_pre_den": 0.0}
    zeros = {"cov_num_pre_den": 0.0, "cov_den_pre_num": 0.0, "cov_den_pre_den": 0.0, "cov_pre_num_pre_den": 0.0}
    cell = sample(**pre, **zeros)
    with_pre, without = plan(cell, 0.05, looks=1), plan(cell, 0.05, looks=1, cuped=False)
    assert with_pre.cuped
    assert with_pre.n_units == pytest.approx(0.36 * without.n_units, rel=2e-3)


def test_the_smallest_variant_and_the_number_of_variants_decide():
    two, three = plan(sample(), 0.1, looks=1), plan(sample(), 0.1, looks=1, weights=(0.5, 0.25, 0.25))
    assert three.alpha == pytest.approx(0.025)
    z = (norm.isf(0.0125) + norm.ppf(0.8)) ** 2
    by_hand = z / 0.1**2 * (1 / 0.5 + 1.21 / 0.25)  # units: (1/w_c + 1.21/w_v) * z^2 / delta^2
    assert three.n_units == pytest.approx(by_hand, rel=2e-3)
    assert three.n_units > two.n_units


@pytest.mark.parametrize(
    ("units", "per_day", "days"),
    [(100, [50, 30, 20], 3), (100, [50, 30, 19], 4), (1_000, [100] * 7, 10), (150, [100, 0, 0, 0, 0, 0, 0, 0], None)],
)
def test_days_follow_the_arrivals_of_the_past(units, per_day, days):
    assert days_until(units, per_day) == days
    assert days_until(units, []) is None


def test_what_cannot_be_planned_says_why():
    assert plan(sample(mean=0.0), 0.1).flags == ("the metric's mean is not above 0: a relative change means nothing",)
    assert plan(sample(var=0.0), 0.1).flags == ("every unit has the same value",)
    assert plan(sample(n=0), 0.1).n_units is None
    assert plan(sample(mean_den=0.0), 0.1, kind="ratio").flags == ("nothing to divide by: the denominator is 0",)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"relative": 0.0}, "relative"),
        ({"power": 1.0}, "power"),
        ({"weights": (0.5, 0.6)}, "weights"),
        ({"weights": (1.0,)}, "weights"),
    ],
)
def test_a_plan_names_what_is_wrong(more, field):
    relative = more.pop("relative", 0.1)
    with pytest.raises(BadInput) as caught:
        plan(sample(), relative, **more)
    assert caught.value.field == field


def effect(error, n=1_000, relative=0.1):
    return Effect(
        metric="m", control="c", variant="v", n_control=n, n_variant=n,
        estimate_control=2.0, absolute=0.2, relative=relative, standard_error=error,
    )  # fmt: skip


def test_the_smallest_detectable_effect_is_the_one_the_size_was_for():
    """At the planned size for 10 % the standard error is sqrt((1 + 1.21) var / n); what it can find is 10 % again."""
    n = plan(sample(mean=2.0), 0.1, looks=1, cuped=False).n_per_comparison / 2
    found = smallest_detectable(effect(math.sqrt((1 + 1.21) / n)))
    assert found.relative == pytest.approx(0.1, rel=5e-3)


def test_at_the_plan_the_error_shrinks_with_the_root():
    found = smallest_detectable(effect(0.1), share_of_plan=0.25)
    assert found.absolute == pytest.approx(0.280159, abs=1e-5)  # (1.959964 + 0.841621) / 10
    assert found.absolute_at_plan == pytest.approx(found.absolute / 2)


def test_without_an_error_nothing_is_said():
    assert smallest_detectable(effect(None)).absolute is None
    assert smallest_detectable(effect(0.1, relative=None)).relative is None
