"""Where to cut time: rolling windows, each judged by what came next, all before an instant that stays unread."""

from __future__ import annotations

from dataclasses import dataclass

from features.errors import BadInput
from features.events import US_PER_DAY, from_us
from training.interactions import Interactions


@dataclass(frozen=True, slots=True)
class Window:
    """Fitted on what happened before `cut_us`, judged on [cut_us, end_us)."""

    cut_us: int
    end_us: int

    def __str__(self) -> str:
        return f"{from_us(self.cut_us):%Y-%m-%d %H:%M} … {from_us(self.end_us):%Y-%m-%d %H:%M}"


def rolling_cutoffs(
    interactions: Interactions, end_us: int, days: int, n: int, *, share_before: float = 0.5
) -> tuple[Window, ...]:
    """Up to `n` windows of `days` that lie end to end and finish at `end_us`, the latest first.

    The latest is always there; an earlier one only while `share_before` of the interactions before `end_us` happened
    before it. `BadInput` where the cut-off lies outside the data.
    """
    if days < 1 or n < 1:
        raise BadInput(f"{n} windows of {days} days, expected at least 1 of each", "days" if days < 1 else "n")
    cuts = [end_us - (at + 1) * days * US_PER_DAY for at in range(n)]
    check_cutoff(interactions, cuts[0])
    n_before = len(interactions.before(end_us))
    windows = [Window(cut, cut + days * US_PER_DAY) for cut in cuts]
    return tuple(
        window
        for at, window in enumerate(windows)
        if at == 0 or len(interactions.before(window.cut_us)) >= max(share_before * n_before, 1)
    )


def check_cutoff(interactions: Interactions, cut_us: int) -> None:
    """`BadInput` unless something happened before the cut-off, and something at or after it."""
    if not len(interactions):
        raise BadInput("there are no interactions to cut by time", "cutoff")
    first, last = int(interactions.occurred_us[0]), int(interactions.occurred_us[-1])
    if not first < cut_us <= last:
        raise BadInput(
            f"the cut-off {from_us(cut_us).isoformat()} is outside the data, "
            f"which is from {from_us(first).isoformat()} to {from_us(last).isoformat()}",
            "cutoff",
        )
