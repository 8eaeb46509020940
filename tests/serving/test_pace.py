"""What a deadline must leave room for: the loop's lag and a decision's work, as they were measured a moment ago."""

from __future__ import annotations

import asyncio
import time

import pytest

from serving.answering import Times
from serving.pace import Pace


def test_before_anything_was_measured_a_part_of_the_deadline_is_held_back_all_the_same():
    pace = Pace()
    assert (pace.lag_s, pace.work_s, pace.each_s) == (0.0, 0.0, 0.0)
    # 60, 40, 70, 55 and 65 % of 50 ms; all of it but 12 ms, and of 10 ms all but a quarter
    assert tuple(Times.of(10.0, 0.05, pace)) == pytest.approx((10.03, 10.02, 10.035, 10.0275, 10.0325, 10.038))
    assert tuple(Times.of(10.0, 0.01, pace)) == pytest.approx((10.006, 10.004, 10.007, 10.0055, 10.0065, 10.0075))


def test_work_is_judged_as_tcp_judges_a_round_trip():
    pace = Pace()
    pace.worked(0.008)
    assert pace.work_s == pytest.approx(0.008 + 4 * 0.004)  # RFC 6298, 2.2: R + 4 · R/2
    pace.worked(0.016)
    # 2.3: the deviation goes to 3/4 · 4 + 1/4 · 8 = 5 ms, then the mean to 7/8 · 8 + 1/8 · 16 = 9 ms
    assert pace.work_s == pytest.approx(0.009 + 4 * 0.005)


def test_what_was_not_decided_for_lack_of_time_is_tried_again_soon():
    pace = Pace()
    pace.worked(1.0)
    n_spared = 0
    while pace.work_s > 0.05:
        pace.spared()
        n_spared += 1
    assert n_spared == 31  # 3 s · (7/8)^n falls below 50 ms


def test_how_long_each_turn_takes_is_a_moving_mean():
    pace = Pace()
    for _ in range(200):
        pace.turned(0.004)
    assert pace.each_s == pytest.approx(0.004)
    pace.turned(0.012)
    assert pace.each_s == pytest.approx(0.005)  # an eighth of the way


def test_a_loop_that_is_held_up_is_seen_and_soon_forgotten():
    async def held_up() -> tuple[float, float]:
        pace = Pace()
        pace.look(asyncio.get_running_loop())
        time.sleep(0.05)
        await asyncio.sleep(0)
        seen = pace.lag_s
        await asyncio.sleep(0.12)
        return seen, pace.lag_s

    seen, later = asyncio.run(held_up())
    assert seen >= 0.05
    assert later == 0.0


def test_a_lag_is_taken_off_for_each_time_that_somebody_must_be_woken():
    class Late(Pace):
        lag_s = 0.01  # type: ignore[assignment]
        work_s = 0.015  # type: ignore[assignment]
        each_s = 0.004  # type: ignore[assignment]

    times = Times.of(0.0, 0.05, Late())
    assert times.turn == pytest.approx(0.03)  # 60 % of 50; less than 50 - 4 for writing - 10 - 4 for the decision
    assert Times.of(0.0, 0.04, Late()).turn == pytest.approx(0.022)  # 40 - 4 - 10 - 4; less than 24
    assert times.waited == pytest.approx(0.035)  # 70 % of 50; less than 50 - 4 - 10
    assert times.begun == pytest.approx(0.025)  # 50 - 10 - 15 of work
    assert (times.together, times.read, times.claimed) == pytest.approx((0.015, 0.015, 0.015))  # and 10 before
