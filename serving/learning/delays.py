"""How long outcomes take to come: what an impression was expected to bring counts as its time goes by, not at once.

Where acceptances take days, an impression of an hour ago has not failed yet. So its expected acceptance is counted in
parts: each when the share of outcomes that comes about then is due. The shares are learned from the outcomes that came;
before there are any, outcomes are taken to come at once. What comes slower than nearly all is counted at once, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.events import US_PER_DAY

BEGINS_US = (0, 600_000_000, 3_600_000_000, 21_600_000_000, US_PER_DAY, 3 * US_PER_DAY)  # of each stage of delay
AT_ONCE = 20  # outcomes that came at once are thought to have been seen before the first
REMEMBERED = 4_000  # when there are as many, each stage is halved
NEGLIGIBLE = 0.01  # share of a stage that is not worth waiting for

Arrived = list[int]  # outcomes by stage of their delay


def nothing_arrived() -> Arrived:
    return [AT_ONCE] + [0] * (len(BEGINS_US) - 1)


def one_more(arrived: Sequence[int], delay_us: int) -> Arrived:
    """The counts with an outcome that took `delay_us`."""
    stage = sum(delay_us >= begin for begin in BEGINS_US[1:])
    more = [n + (at == stage) for at, n in enumerate(arrived)]
    return more if sum(more) < REMEMBERED else [(n + 1) // 2 for n in more]


def parts_of(expected: float, arrived: Sequence[int], window_us: int) -> tuple[float, list[tuple[int, float]]]:
    """What counts at once, and (delay in microseconds, what counts then) for the rest; they add up to `expected`.

    Nothing is counted after the window: what would come then is no outcome.
    """
    total = sum(n for n, begin in zip(arrived, BEGINS_US, strict=True) if begin <= window_us)
    later = [
        (begin, expected * n / total)
        for begin, n in zip(BEGINS_US[1:], arrived[1:], strict=True)
        if begin <= window_us and n > NEGLIGIBLE * total
    ]
    return expected - sum(part for _, part in later), later
