"""How much a search may spend, checked before it begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from features.errors import BadInput

UNITS = {"s": 1, "m": 60, "h": 3600}
SHORTEST_S, LONGEST_S = 1, 7 * 24 * 3600
MOST_JOBS = 64


def seconds_of(text: str) -> float:
    """`90s`, `10m`, `1.5h` in seconds; `BadInput` for anything else, and for what is no sensible time."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", text)
    if found is None:
        raise BadInput(f"{text!r} is no time; expected a number and s, m or h, such as 10m", "budget")
    seconds = float(found[1]) * UNITS[found[2]]
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise BadInput(f"{text} is {seconds:g} s; expected from {SHORTEST_S} s to {LONGEST_S // 3600} h", "budget")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was asked for."""

    budget_s: float = 600.0  # of trials beyond those of a plain training; choice, test and last fit come after
    jobs: int = 2  # processes
    resume: bool = False  # go on with the newest study instead of a new one
    at_most: int | None = None  # trials that end, with those of before a resume; None: as many as there is time for

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.budget_s <= LONGEST_S:
            raise BadInput(f"a budget of {self.budget_s} s; expected from {SHORTEST_S} to {LONGEST_S}", "budget")
        if not 1 <= self.jobs <= MOST_JOBS:
            raise BadInput(f"{self.jobs} jobs; expected from 1 to {MOST_JOBS}", "jobs")
