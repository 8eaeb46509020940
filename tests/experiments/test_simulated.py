"""Comparisons of simulated policies and of planted experiments, against numbers worked out by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.stats import t as student

from experiments.simulate.compared import COLUMNS, MEASURES, Lived, compared, difference, estimate
from experiments.simulate.compared_table import differences, levels
from experiments.simulate.picture import check_ending, draw
from experiments.simulate.planted import Assigned, Recovered, claims
from features.errors import BadInput

VALUE, RATE = (next(one for one in MEASURES if one.name == name) for name in ("value_per_visitor", "acceptance_rate"))


def a_life(arm, who=None, **columns):
    n = len(next(iter(columns.values())))
    totals = {name: np.asarray(columns.get(name, np.ones(n)), float) for name in COLUMNS}
    return Lived(arm, totals, np.ones(n, bool) if who is None else np.asarray(who), 2.0, 10)


def test_pairs_cancel_what_is_common():
    """By hand: differences 1, 1, 2 have mean 4/3 and standard error 1/3; the levels alone vary by tens."""
    base = a_life("a", value=[10, 40, 90])
    found = difference(a_life("b", value=[11, 41, 92]), base, VALUE)
    half = student.ppf(0.975, 2) / 3
    assert (found.absolute, found.low, found.high) == pytest.approx((4 / 3, 4 / 3 - half, 4 / 3 + half))
    assert found.relative == pytest.approx(4 / 3 / (140 / 3))
    assert found.independent_high - found.independent_low > 50 * (found.high - found.low)


def test_a_ratios_interval_is_the_delta_methods():
    """By hand: 3 of 10; the residuals 1 - 0.6, 0 - 0.9, 2 - 1.5 over a mean of 10/3 impressions."""
    found = estimate(a_life("a", accepts=[1, 0, 2], impressions=[2, 3, 5]), RATE)
    away = np.array([0.4, -0.9, 0.5]) / (10 / 3)
    half = student.ppf(0.975, 2) * away.std(ddof=1) / 3**0.5
    assert (found.estimate, found.low, found.high) == pytest.approx((0.3, 0.3 - half, 0.3 + half))


def test_what_nobody_saw_has_no_rate_instead_of_a_rate_of_zero():
    empty = a_life("a", accepts=[0, 0], impressions=[0, 0])
    assert estimate(empty, RATE).estimate is None
    assert difference(empty, empty, RATE).absolute is None
    found = compared([empty, a_life("b", accepts=[0, 0], impressions=[0, 0])])
    assert "none" in levels(found)[1][0]
    assert "none" in differences(found, ("acceptance_rate",))[1][0]
    assert msgspec.json.decode(msgspec.json.encode(found))["n_visitors"] == 2


def test_policies_that_met_other_customers_are_not_compared():
    with pytest.raises(BadInput, match="did not meet the same customers"):
        compared([a_life("a", [True, True], value=[1, 2]), a_life("b", [True, False], value=[1, 2])])


def test_a_picture_is_drawn_in_both_formats_and_no_other(tmp_path):
    found = compared([a_life("a", value=[1, 2, 4]), a_life("b", value=[2, 2, 5])])
    titles, units = {one.name: one.title for one in MEASURES}, {one.name: one.unit for one in MEASURES}
    assert draw(found, titles, units, "png").startswith(b"\x89PNG")
    svg = draw(found, titles, units, "svg").decode()
    assert "<svg" in svg
    with pytest.raises(BadInput, match=r"expected a file that ends in \.png or \.svg"):
        check_ending(tmp_path / "picture.gif")


def an_effect(planted=0.0, found=0.0, half=0.1, p=0.5, **rest):
    return Recovered(experiment_id="x", metric="m", planted=planted, found=found, low=found - half, high=found + half,
                     p_value=p, is_null=planted == 0.0, primary=True, **rest)  # fmt: skip


def an_assignment(**changed):
    ordinary = {"n_units": 9, "n_wrong": 0, "n_missing": 0, "n_crossed": 0, "sample_ratio_p": 0.4, "verdict": "ship"}
    return Assigned(experiment_id="x", **ordinary | changed)


def test_a_chain_in_order_is_believed():
    assert all(one.holds for one in claims([an_effect(), an_effect(0.5, 0.45)], [an_assignment()]))


@pytest.mark.parametrize(
    ("recovered", "assigned", "broken"),
    [
        ([an_effect()], an_assignment(n_wrong=1), "1 units were exposed otherwise"),
        ([an_effect()], an_assignment(n_missing=2), "2 units were exposed otherwise"),
        ([an_effect()], an_assignment(sample_ratio_p=1e-9), "lowest p-value of 1 sample ratios is 1e-09"),
        ([an_effect(p=0.01)] * 40, an_assignment(), "40 of 40 A/A tests are significant"),
        ([an_effect(0.5, 0.3)] * 10, an_assignment(), "0 of 10 intervals hold the planted effect"),
        ([an_effect(0.5, 1.0)], an_assignment(), "9.8 standard errors from its truth"),
        ([msgspec.structs.replace(an_effect(), found=None)], an_assignment(), "1 of 1 effects could not be computed"),
    ],
)
def test_whatever_breaks_in_the_chain_is_said(recovered, assigned, broken):
    said = [one.sentence for one in claims(recovered, [assigned]) if not one.holds]
    assert any(broken in one for one in said), said
