"""How often the customer comes, and on how many days."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import ActiveDays, Age, Count, Days, Family, Feature, First, Last, Where, in_days, window
from features.events import ACTIVITY

IS_VISIT = Where(event_types=("visit",))
IS_ACTIVITY = Where(event_types=ACTIVITY)


def visits(windows: Sequence[int]) -> Family:
    longest = max(windows)
    return Family(
        name="visits",
        description="Visit frequency and active days",
        daily={
            "visits": Count(IS_VISIT),
            "activities": Count(IS_ACTIVITY),
            "active_on": Days(IS_ACTIVITY),
            "last_activity": Last(IS_ACTIVITY),
            "first_activity": First(IS_ACTIVITY),
        },
        features=(
            *(
                Feature(
                    name=f"visits_{days}d",
                    value=window("visits", days),
                    unit="visits",
                    description=f"Visits {in_days(days)}",
                )
                for days in windows
            ),
            *(
                Feature(
                    name=f"active_days_{days}d",
                    value=ActiveDays("active_on", days),
                    unit="days",
                    description=f"Days with activity (visit, view or purchase) {in_days(days)}",
                )
                for days in windows
            ),
            Feature(
                name=f"activities_{longest}d",
                value=window("activities", longest),
                unit="events",
                description=f"Visits, views and purchases {in_days(longest)}",
            ),
            Feature(
                name="days_since_activity",
                value=Age("last_activity"),
                unit="days",
                description="Since the last activity; NaN if none",
                default=None,
            ),
            Feature(
                name="days_since_first_activity",
                value=Age("first_activity"),
                unit="days",
                description="Since the first activity; NaN if none",
                default=None,
            ),
        ),
    )
