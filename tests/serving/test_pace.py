"""What a deadline must leave room for: the loop's lag and a decision's work, as they were measured a moment ago."""

from __future__ import annotations

import asyncio
import time

import pytest

from serving.answering import Times
from serving.pace import Pace


def flat(times: Times) -> tuple[float, ...]:
    return (*times.read, times.claimed, times.begun)


def test_before_anything_was_measured_nothing_is_held_back():
    pace = Pace()
    assert (pace.lag_s, pace.work_s) == (0.0, 0.0)
    assert flat(Times.of(10.0, 0.05, pace)) == pytest.approx(
        (10.02, 10.03, 10.0425, 10.05)
    )  # 40, 60, 85 % and all of 50 ms


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


def test_a_lag_is_taken_off_before_the_question_was_read_and_when_its_waiting_ends():
    class Late(Pace):
        lag_s = 0.01  # type: ignore[assignment]
        work_s = 0.005  # type: ignore[assignment]

    # 50 ms - 10 before - 5 of work = 35 to begin at latest, 10 earlier where somebody must be woken; 60 % are 30
    assert flat(Times.of(0.0, 0.05, Late())) == pytest.approx((0.02, 0.025, 0.025, 0.035))
