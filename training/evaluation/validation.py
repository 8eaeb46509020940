"""What candidates are chosen by: rolling windows before the test part, each past with what was known at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from training.evaluation.judged import Judged, judged_by
from training.evaluation.windows import Window, rolling_cutoffs
from training.interactions import Interactions

ProfilesAt = Callable[[Sequence[str], int], list[dict[str, Any]]]

CUTOFFS = (5, 10, 20)


@dataclass(frozen=True)
class Validation:
    """The windows, the latest first, and who is judged in each; nothing of it happened at or after `end_us`."""

    windows: tuple[Window, ...]
    judged: tuple[Judged, ...]

    @property
    def end_us(self) -> int:
        return self.windows[0].end_us

    @property
    def n_judged(self) -> int:
        return sum(len(one) for one in self.judged)


def validation_of(
    interactions: Interactions,
    profiles_at: ProfilesAt,
    end_us: int,
    *,
    days: int,
    n: int,
    exclude_seen: bool,
    at_most: int | None = None,
) -> Validation:
    """Up to `n` windows of `days` before `end_us`; those that judge nobody are left out, but the latest.

    `at_most` customers are judged per window, evenly spread. `BadInput` where the latest cut-off is outside the data.
    """
    windows: list[Window] = []
    judged: list[Judged] = []
    for window in rolling_cutoffs(interactions, end_us, days, n):
        future = interactions.between(window.cut_us, window.end_us)
        found = judged_by(
            known_at(interactions, profiles_at, window.cut_us), future, exclude_seen=exclude_seen, cut_us=window.cut_us
        ).at_most(at_most)
        if len(found) or not windows:
            windows.append(window)
            judged.append(found)
    return Validation(tuple(windows), tuple(judged))


def known_at(interactions: Interactions, profiles_at: ProfilesAt, us: int) -> Interactions:
    """What had happened before an instant, with the profiles of then."""
    return replace(interactions.before(us), profiles=profiles_at(interactions.customers, us))
