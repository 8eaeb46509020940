"""What a data set needs that its rows do not say: currency, attribution, churn, windows."""

from __future__ import annotations

from typing import Literal

import msgspec

from features.errors import BadRecipe
from features.events import BY_NAME


class Attribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which later event counts as the outcome of an impression, and how the two find each other."""

    outcomes: tuple[str, ...] = ("accept",)  # event types that count as accepted
    window_days: float = 7.0  # from the impression
    window_attribute: str | None = None  # an offer attribute, in days, that replaces window_days where it is present
    at_most_days: float | None = None  # cuts every window, so that all impressions are watched for the same time
    matching: Literal["decision", "fifo", "latest"] = "decision"
    # decision: same decision and offer, or, without a decision id, as "latest"; fifo: the oldest impression of the
    # same customer and offer whose window is open and that has no outcome yet; latest: the newest such one


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is expected of acceptance, and how its model deals with what the logging policy chose to show."""

    expected: dict[
        str, int
    ] = {}  # pattern of column or feature names -> 1: only rises with it, -1: only falls, 0: free
    weights: Literal["auto", "always", "never"] = "auto"
    # by the logged chance of having been shown: auto, where it does better on what was drawn at random

    def __post_init__(self) -> None:
        for name, direction in self.expected.items():
            if direction not in (-1, 0, 1):
                raise BadRecipe(f"acceptance.expected[{name!r}] == {direction}, expected -1, 0 or 1", "acceptance")


class Churn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Churned at t: no activity in (t + gap, t + gap + horizon]."""

    activity: tuple[str, ...] = ("visit", "view", "purchase")
    gap_days: int = 0
    horizon_days: int = 30  # the one that serves
    horizons: tuple[int, ...] = (7, 30, 90)  # that are learned beside it, as far as the log is long enough
    every_days: int = 7  # days between the snapshot dates that give training rows
    active_within_days: int = 90  # only customers active this recently before t are at risk


class Recommender(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are positive interactions with an offer, and how much each weighs."""

    weights: dict[str, float] = msgspec.field(default_factory=lambda: {"accept": 1.0, "purchase": 1.0, "click": 0.3})
    repeats: bool = False  # whether offers that a customer took before may be recommended, and count, again
    validation_days: int = 14  # the days before the test part
    test_days: int = 14  # the last days


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Written by an ingest from `recipe.toml`; the defaults suit a live shop."""

    currency: str = "EUR"
    time_zone: str = "UTC"
    epoch: str | None = None  # RFC 3339; what relative times in the raw data count from
    windows: tuple[int, ...] = (1, 7, 30, 90)  # days
    snapshot_days: int = 90  # daily snapshots are kept for this many days before the last
    attribution: Attribution = Attribution()
    acceptance: Acceptance = Acceptance()
    churn: Churn = Churn()
    recommender: Recommender = Recommender()

    def __post_init__(self) -> None:
        kinds = {*self.attribution.outcomes, *self.churn.activity, *self.recommender.weights}
        for name in sorted(kinds - set(BY_NAME)):
            raise BadRecipe(f"{name!r} is not an event type; expected one of {', '.join(BY_NAME)}", name)
        if not self.windows or any(days < 1 for days in self.windows):
            raise BadRecipe(f"windows == {list(self.windows)}, expected days of at least 1", "windows")
        if min(self.churn.horizon_days, *self.churn.horizons, 1) < 1 or self.churn.gap_days < 0:
            raise BadRecipe("churn needs horizon_days >= 1, horizons >= 1 and gap_days >= 0", "churn")
