"""What evidence comes to; expected values by hand unless said otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import US_PER_DAY
from serving.learning.cells import Cells, packed, unpacked
from serving.learning.evidence import HALF_LIFE_US, MOST_SEGMENTS, Change

S = 20.0
ROWS = {"o-1": 0, "o-2": 1}


def change(n=1, expected=0.1, accepted=0.0, *, offer="o-1", segment="web", release="7", position=1, at=0):
    return Change(position, at, release, segment, offer, n, expected, accepted)


def cells_of(*changes):
    cells = Cells(S)
    for seq, one in enumerate(changes, 1):
        cells.take(seq, one)
    return cells


def crowd(n, p_model, p_true, rng, *, after_days=0.0, per_day=None, **where):
    """`n` impressions with their outcomes, as changes; all at once, or so many per day."""
    found = []
    for i, taken in enumerate(rng.random(n) < p_true):
        at = int((after_days + (0 if per_day is None else i / per_day)) * US_PER_DAY)
        found.append(change(1, p_model, at=at, **where))
        if taken:
            found.append(change(0, 0.0, 1.0, at=at, **where))
    return found


def factor(cells, offer="o-1", segment="web"):
    shape, rate = cells.belief("7", offer, segment)
    return shape / rate


def test_without_evidence_the_factor_is_one_as_sure_as_the_prior():
    beliefs = cells_of().beliefs(ROWS, "7", "web", 0)
    assert list(beliefs.factor) == [1.0, 1.0]
    assert list(beliefs.shape) == list(beliefs.rate) == [S, S]
    assert list(beliefs.n_seen) == [0, 0]


def test_a_factor_is_the_gamma_posterior_of_what_was_accepted_and_expected():
    """(20 + 3) / (20 + 2)."""
    beliefs = cells_of(change(20, 2.0, 3.0)).beliefs(ROWS, "7", "web", 9)
    assert (beliefs.shape[0], beliefs.rate[0]) == (pytest.approx(23.0), pytest.approx(22.0))
    assert list(beliefs.n_seen) == [20, 0]
    assert beliefs.factor[1] == 1.0
    assert beliefs.position == 9


def test_a_segment_adds_its_own_evidence_to_what_the_others_say():
    """Others: (20 + 10) / (20 + 30) = 0.6; own: 3 of 2. All: (20 + 13) / (20 + 32)."""
    cells = cells_of(change(100, 30.0, 10.0, segment="app"), change(20, 2.0, 3.0))
    assert cells.belief("7", "o-1", "web") == (pytest.approx(S * 0.6 + 3), pytest.approx(S + 2))
    assert cells.belief("7", "o-1", "never seen") == (pytest.approx(S * 33 / 52), S)


def test_evidence_halves_in_two_weeks():
    cells = cells_of(change(100, 30.0, 10.0), change(0, 0.0, 0.0, at=HALF_LIFE_US))
    assert cells.belief("7", "o-1", "web") == (pytest.approx(20 + 10 / 2), pytest.approx(20 + 30 / 2))


def test_no_evidence_counts_twice_where_there_is_one_segment():
    cells = cells_of(change(100, 30.0, 10.0))
    assert factor(cells) == pytest.approx(30 / 50)
    assert factor(cells, segment="another") == pytest.approx(30 / 50)


def test_releases_learn_apart_and_an_offer_that_was_seen_is_not_new_to_any():
    cells = cells_of(change(100, 30.0, 10.0, release="6"))
    beliefs = cells.beliefs(ROWS, "7", "web", 0)
    assert beliefs.factor[0] == 1.0
    assert beliefs.n_seen[0] == 100


def test_old_releases_are_dropped_when_there_are_many():
    cells = cells_of(*[change(release=str(n)) for n in (*range(8), 0, 8)])
    assert set(cells.releases) == {"0", "2", "3", "4", "5", "6", "7", "8"}
    assert set(cells.segments) == set(cells.releases)


def test_a_new_offer_finds_its_level():
    """The model says 2 %, the truth is 8 %: within a thousand impressions the belief is nearer to the truth, and it
    stays there: 4, less what the prior holds back, within three standard errors of some 1,500 remembered."""
    rng = np.random.default_rng(1)
    cells = cells_of(*crowd(1_000, 0.02, 0.08, rng))
    assert factor(cells) > 2
    for one in crowd(20_000, 0.02, 0.08, rng, per_day=2_000):
        cells.take(1, one)
    expected = cells.releases["7"]["o-1"].all()[0]
    assert factor(cells) == pytest.approx((S + 4 * expected) / (S + expected), rel=3 / 1_500**0.5)


def test_a_broken_offer_fades_within_some_fifty_acceptances_that_do_not_come():
    rng = np.random.default_rng(2)
    cells = cells_of(*crowd(20_000, 0.05, 0.05, rng))
    assert 0.9 < factor(cells) < 1.1
    for one in crowd(600, 0.05, 0.0, rng):  # 30 that do not come
        cells.take(1, one)
    assert factor(cells) < 0.75
    for one in crowd(1_400, 0.05, 0.0, rng):
        cells.take(1, one)
    assert factor(cells) < 0.35


def test_a_broken_offer_fades_to_nothing_and_not_to_a_part():
    """1,000 acceptances that do not come leave the prior's 20 of 1,020 and less."""
    cells = cells_of(*crowd(5_000, 0.05, 0.05, np.random.default_rng(2)), *[change(1, 0.05)] * 20_000)
    assert factor(cells) < 0.03


def test_a_sudden_rise_does_not_drop_older_evidence():
    cells = cells_of(*crowd(20_000, 0.05, 0.05, np.random.default_rng(2)), *[change(1, 0.05, 1.0)] * 100)
    assert factor(cells) < 1.15


def test_an_offer_that_recovers_is_believed_again():
    rng = np.random.default_rng(3)
    cells = cells_of(*crowd(5_000, 0.05, 0.05, rng), *crowd(1_200, 0.05, 0.0, rng))
    assert factor(cells) < 0.5
    for one in crowd(6_000, 0.05, 0.05, rng, after_days=1, per_day=600):
        cells.take(1, one)
    assert factor(cells) > 0.75


def test_many_impressions_at_once_that_are_answered_a_minute_later_change_little():
    """A message to all: what was expected of 100 looks like a fall until they answer, as the model said."""
    cells = cells_of(*[change(100, 5.0, 5.0, at=int(n * US_PER_DAY / 10)) for n in range(100)])
    for accepted in (0.0, 1.0):
        for _ in range(100):
            cells.take(0, change(1, 1.0 - accepted, accepted, at=10 * US_PER_DAY))
    assert factor(cells) == pytest.approx(1.0, abs=0.05)


def test_of_a_known_offer_a_sudden_rise_is_let_in_over_days():
    """500 were expected and accepted, evenly over ten days. Then 100 are accepted within a moment, of which one was
    expected. Chance explains some sqrt(36) / 2 + 2 = 5 beyond the usual 36 (50 a day, with today's fading); the rest is
    let in by and by."""
    days = [change(100, 5.0, 5.0, at=int(n * US_PER_DAY / 10)) for n in range(100)]
    cells = cells_of(*days)
    before = factor(cells)
    for _ in range(100):
        cells.take(0, change(1, 0.01, 1.0, at=10 * US_PER_DAY))
    at_once = factor(cells)
    assert before < at_once < before * 1.05
    for n in range(100, 200):
        cells.take(0, change(100, 5.0, 5.0, at=int(n * US_PER_DAY / 10)))
    held = cells.releases["7"]["o-1"].held
    assert at_once < factor(cells)
    assert sum(held.values()) < 1


def test_a_new_offer_may_rise_as_quickly_as_its_evidence_says():
    assert factor(cells_of(change(100, 5.0, 25.0))) == pytest.approx(45 / 25)


def test_chance_alone_seldom_makes_evidence_be_dropped():
    """15 calibrated offers with 400 expected acceptances each, over eight days: the spread of factors is that of what
    is remembered, about sqrt(330) / 350 = 0.05; had evidence been dropped, it would be that of some forty."""
    rng = np.random.default_rng(4)
    factors = [factor(cells_of(*crowd(4_000, 0.1, 0.1, rng, per_day=500))) for _ in range(15)]
    assert abs(np.mean(factors) - 1) < 0.05
    assert np.std(factors) < 0.08


def test_renewed_beliefs_leave_the_old_arrays_alone():
    cells = cells_of(change(10, 1.0, 3.0))
    old = cells.beliefs(ROWS, "7", "web", 1)
    cells.take(2, change(10, 1.0, 0.0, offer="o-2"))
    new = cells.renewed(old, ["o-2", "not in this catalogue"], ROWS, "7", "web", 2)
    assert old.factor[1] == 1.0
    assert new.factor[1] < 1.0
    assert new.factor[0] == old.factor[0]
    with pytest.raises(ValueError, match="read-only"):
        new.shape[0] = 5.0


def test_a_segment_that_was_never_heard_of_has_a_stand_in_once_there_are_too_many():
    few = cells_of(change(segment="web"))
    assert (few.heard_as("7", "web"), few.heard_as("7", "app"), few.heard_as("6", "web")) == ("web", None, None)
    many = cells_of(*[change(segment=str(n)) for n in range(MOST_SEGMENTS)])
    assert (many.heard_as("7", "3"), many.heard_as("7", "app")) == ("3", "")


SIZES = st.tuples(st.integers(0, 50), st.floats(0, 50), st.floats(0, 50))
CHANGES = st.builds(
    lambda size, **where: change(*size, **where),
    SIZES,
    at=st.integers(0, 3 * HALF_LIFE_US),
    offer=st.sampled_from(list(ROWS)),
    segment=st.sampled_from(["web", "app", ""]),
    release=st.sampled_from(["6", "7"]),
)


@given(st.lists(CHANGES, max_size=30), st.integers(0, 30))
def test_a_checkpoint_and_the_rest_are_the_same_bits_as_all_changes(changes, at):
    whole = cells_of(*changes)
    resumed = unpacked(packed(cells_of(*changes[:at])))
    for seq, one in enumerate(changes[at:], at + 1):
        resumed.take(seq, one)
    assert resumed == whole
    assert packed(resumed) == packed(whole)


@settings(max_examples=30)
@given(st.lists(CHANGES, max_size=30), st.sampled_from(["web", "app", "another", None]))
def test_beliefs_are_always_proper_gammas(changes, segment):
    beliefs = cells_of(*changes).beliefs(ROWS, "7", segment, 0)
    for array in (beliefs.shape, beliefs.rate):
        assert np.isfinite(array).all()
        assert (array > 0).all()
    assert (beliefs.n_seen >= 0).all()


@settings(max_examples=50)
@given(st.lists(CHANGES, max_size=20), st.lists(CHANGES, max_size=10))
def test_renewing_what_changed_is_the_same_as_making_all_anew(before, after):
    cells = cells_of(*before)
    old = cells.beliefs(ROWS, "7", "web", 1)
    for seq, one in enumerate(after, len(before) + 1):
        cells.take(seq, one)
    renewed = cells.renewed(old, {one.offer_id for one in after}, ROWS, "7", "web", 2)
    anew = cells.beliefs(ROWS, "7", "web", 2)
    assert (renewed.shape == anew.shape).all()
    assert (renewed.rate == anew.rate).all()
    assert (renewed.n_seen == anew.n_seen).all()
