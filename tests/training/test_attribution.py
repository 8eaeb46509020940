"""Which impression an outcome belongs to; expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from features.attribution import NEVER, Touches, labels, match, watched_us, windows_us
from features.data_settings import Attribution
from features.events import US_PER_DAY
from tests.training.builders import offer

D = US_PER_DAY


def touches(*rows):
    """(customer, offer, day[, decision]) each."""
    full = [(*row, -1)[:4] for row in rows]
    c, o, day, decision = (np.array(column) for column in zip(*full, strict=True)) if full else (np.zeros(0),) * 4
    return Touches(c.astype(np.int64), o.astype(np.int64), decision.astype(np.int64), (day * D).astype(np.int64))


def days(found):
    return [None if us == NEVER else us / D for us in found]


def matched(matching, impressions, outcomes, window=7.0):
    rules = Attribution(matching=matching, window_days=window)
    return days(match(impressions, outcomes, windows_us([offer("a"), offer("b")], rules), rules))


def test_fifo_gives_the_outcome_to_the_oldest_open_impression_and_latest_to_the_newest():
    shown = touches((0, 0, 1), (0, 0, 3), (0, 1, 3), (1, 0, 3))
    assert matched("fifo", shown, touches((0, 0, 4))) == [4, None, None, None]
    assert matched("latest", shown, touches((0, 0, 4))) == [None, 4, None, None]


def test_fifo_skips_an_impression_whose_window_has_closed():
    assert matched("fifo", touches((0, 0, 0), (0, 0, 6)), touches((0, 0, 8))) == [None, 8]


@pytest.mark.parametrize("matching", ["fifo", "latest", "decision"])
def test_each_outcome_is_used_once_and_each_impression_has_at_most_one(matching):
    assert sorted(
        d for d in matched(matching, touches((0, 0, 1), (0, 0, 2)), touches((0, 0, 3), (0, 0, 4), (0, 0, 5))) if d
    ) == [3, 4]
    assert [d for d in matched(matching, touches((0, 0, 1), (0, 0, 2)), touches((0, 0, 3))) if d] == [3]


@pytest.mark.parametrize("matching", ["fifo", "latest", "decision"])
def test_an_outcome_before_the_impression_or_after_its_window_is_not_its(matching):
    assert matched(matching, touches((0, 0, 5)), touches((0, 0, 4), (0, 0, 12.5))) == [None]
    assert matched(matching, touches((0, 0, 5)), touches((0, 0, 5))) == [5]
    assert matched(matching, touches((0, 0, 5)), touches((0, 0, 12))) == [12]


def test_a_decision_binds_its_own_outcome_and_those_without_one_go_to_the_latest():
    shown = touches((0, 0, 1, 10), (0, 0, 2, 11), (0, 0, 3))
    assert matched("decision", shown, touches((0, 0, 4, 10))) == [4, None, None]
    assert matched("decision", shown, touches((0, 0, 4))) == [None, None, 4]
    assert matched("decision", shown, touches((0, 0, 4), (0, 0, 5, 11), (0, 0, 6))) == [6, 5, 4]


def test_an_outcome_of_an_unknown_decision_belongs_to_no_impression():
    assert matched("decision", touches((0, 0, 1, 10)), touches((0, 0, 2, 99))) == [None]


def test_an_offers_own_window_replaces_the_common_one():
    rules = Attribution(window_days=7, window_attribute="valid_days")
    assert list(windows_us([offer("a", valid_days=3), offer("b")], rules) / D) == [3, 7]


def test_a_late_outcome_still_belongs_to_its_impression_but_does_not_count():
    """The cut at 2 days must not push the outcome of day 5 to the second impression, which did not earn it."""
    rules = Attribution(matching="fifo", window_days=7, at_most_days=2)
    shown = touches((0, 0, 1), (0, 0, 4))
    windows = windows_us([offer("a")], rules)
    found = match(shown, touches((0, 0, 5)), windows, rules)
    accepted, _ = labels(shown, found, watched_us(windows, rules), as_of_us=100 * D)
    assert days(found) == [5, None]
    assert list(accepted) == [False, False]


def test_impressions_not_yet_watched_to_the_end_are_immature_even_if_accepted():
    rules = Attribution(matching="latest", window_days=7)
    shown = touches((0, 0, 1), (0, 0, 9))
    windows = windows_us([offer("a")], rules)
    accepted, mature = labels(shown, match(shown, touches((0, 0, 9.5)), windows, rules), windows, as_of_us=10 * D)
    assert list(accepted) == [False, True]
    assert list(mature) == [True, False]


def test_no_impressions_and_no_outcomes_are_fine():
    assert matched("fifo", touches(), touches((0, 0, 1))) == []
    assert matched("fifo", touches((0, 0, 1)), touches()) == [None]
