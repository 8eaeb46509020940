"""Holm and Benjamini-Hochberg by hand, and segments corrected by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from experiments.cells import cells_of
from experiments.statistics.corrections import benjamini_hochberg, corrected, holm
from experiments.statistics.effect import compare
from experiments.statistics.segments import by_segment


def test_holm_by_hand():
    """Sorted .005 .01 .03 .04 times 4, 3, 2, 1 and never less than before: .02 .03 .06 .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_hochberg_by_hand():
    """Sorted .005 .01 .03 .04 times 4/1, 4/2, 4/3, 4/4 and never more than after: .02 .02 .04 .04."""
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])


def test_what_was_not_tested_does_not_count():
    assert holm([0.03, None]) == [pytest.approx(0.03), None]
    assert benjamini_hochberg([None, None]) == [None, None]
    assert holm([]) == []


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.05])), min_size=1, max_size=20))
def test_benjamini_hochberg_is_scipys_and_holm_is_stricter(p_values):
    found = benjamini_hochberg(p_values)
    assert found == pytest.approx(false_discovery_control(p_values))
    for strict, loose, p in zip(holm(p_values), found, p_values, strict=True):
        assert p - 1e-12 <= loose <= strict + 1e-12 <= 1 + 1e-12


@pytest.fixture
def planted():
    """20,000 units in four regions; the variant gains 1 in `south` alone; 15 more segment values mean nothing."""
    rng = np.random.default_rng(21)
    n = 20_000
    variant = rng.choice(["control", "variant"], n)
    region, shoe = rng.choice(["east", "north", "south", "west"], n), rng.integers(36, 51, n).astype(str)
    values = rng.normal(5, 3, n) + ((variant == "variant") & (region == "south"))
    return cells_of("m", variant, values, segments={"region": region, "shoe": shoe})


def test_the_segment_with_the_effect_is_found_and_the_others_are_not(planted):
    found = {one.segment: one for one in by_segment(planted, "m", "control", ["variant"])}
    significant = [e.segment for one in found.values() for e in one.effects if e.p_adjusted < 0.05]
    assert significant == [("region", "south")]
    assert found["region"].p_differ_adjusted < 0.001
    assert found["shoe"].p_differ_adjusted > 0.05
    assert len(found["shoe"].effects) == 15


def test_segments_are_one_family(planted):
    effects = [e for one in by_segment(planted, "m", "control", ["variant"]) for e in one.effects]
    assert [e.p_adjusted for e in effects] == pytest.approx(benjamini_hochberg([e.p_value for e in effects]))


def test_families_have_names():
    cells = cells_of("m", ["a", "a", "b", "b"], [1.0, 2.0, 3.0, 5.0])
    effect = compare(cells, "m", "a", "b")
    assert corrected([effect], "primary")[0].p_adjusted == pytest.approx(effect.p_value)
    with pytest.raises(KeyError):
        corrected([effect], "tertiary")


def test_a_p_value_that_is_not_a_number_was_not_tested():
    """By hand: .01 .02 .03 times 3/1, 3/2, 3/3 and never more than after, all .03; Holm of one alone is itself."""
    nan = float("nan")
    assert benjamini_hochberg([0.01, nan, 0.02, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.03), 0.03]
    assert holm([nan, 0.02]) == [None, pytest.approx(0.02)]
    assert holm([nan]) == [None]
