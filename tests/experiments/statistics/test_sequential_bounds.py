"""What a look can bound where nobody, or everybody, did it: a standard error of 0 is not certainty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import norm

from experiments.cells import cells_of
from experiments.statistics.effect import compare
from experiments.statistics.proportions import exact
from experiments.statistics.sequential import Seen, path, z_of
from experiments.statistics.verdict import in_words

START = datetime(2026, 3, 2, tzinfo=UTC)


def shares(n, control, variant):
    """Of n units an arm so many said yes."""
    values = np.concatenate([np.arange(n) < control, np.arange(n) < variant]).astype(float)
    cells = cells_of("m", np.repeat(["control", "variant"], n), values)
    return compare(cells, "m", "control", "variant", kind="proportion")


def looked(*effects, planned):
    seen = [Seen(START + timedelta(days=i), one.n, one) for i, one in enumerate(effects)]
    return path(seen, better="lower", planned_units=planned)


def test_where_nobody_did_it_in_either_arm_the_change_is_unknown_within_bounds():
    """By hand (Wilson, 0 of n): z2 / (n + z2) each way; the last of two equal looks has z = 1.9686 (gsDesign)."""
    found = looked(shares(500, 0, 0), shares(1_000, 0, 0), planned=2_000)
    last = found.looks[-1]
    reach = 1.9686**2 / (1_000 + 1.9686**2)
    assert (last.low, last.high) == pytest.approx((-reach, reach), rel=1e-3)
    assert last.always_low < last.low < 0 < last.high < last.always_high
    assert in_words(last, share=True) == "+0.00 points (between -0.39 and +0.39)"
    assert (found.outcome, found.harm_at) == ("undecided", None)


def test_a_rare_shares_interval_at_a_look_is_that_of_its_boundary():
    last = looked(shares(10_000, 0, 5), planned=20_000).looks[-1]
    at_bound = exact(10_000, 0.0, 10_000, 5e-4, float(2 * norm.sf(last.bound)))
    assert (last.low, last.high) == pytest.approx((at_bound.low, at_bound.high))


def test_a_look_decides_about_rare_shares_just_when_its_interval_excludes_zero():
    outcomes = set()
    for n in range(16):
        found = looked(shares(2_000, 0, n), planned=4_000)
        assert (found.looks[-1].low > 0) == (found.outcome == "worse")
        outcomes.add(found.outcome)
    assert outcomes == {"undecided", "worse"}


def test_all_against_nobody_is_as_far_from_zero_as_a_float_can_tell():
    effect = shares(2_000, 0, 2_000)
    assert effect.standard_error == 0
    assert z_of(effect) > 30
    assert looked(effect, planned=4_000).outcome == "worse"
