"""Where and at what time of the day the customer is reached."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import ByKey, Count, CountBy, Family, Favourite, Feature, Share, Where, in_days
from features.events import ACTIVITY

ENGAGED = (*ACTIVITY, "click", "accept", "reject", "dismiss")  # what the customer did, as opposed to was shown
PARTS_OF_DAY = {"night": (0, 6), "morning": (6, 12), "afternoon": (12, 18), "evening": (18, 24)}  # UTC hours


def channels(windows: Sequence[int]) -> Family:
    longest = max(windows)
    return Family(
        name="channels",
        description="Channel and hour mix",
        daily={
            "engaged": Count(Where(event_types=ENGAGED)),
            **{
                f"engaged_{part}": Count(Where(event_types=ENGAGED, hours=hours))
                for part, hours in PARTS_OF_DAY.items()
            },
            "engaged_by_channel": CountBy("channel", Where(event_types=ENGAGED)),
        },
        features=(
            Feature(
                name=f"engaged_by_channel_{longest}d",
                value=ByKey("engaged_by_channel", longest),
                unit="events by channel",
                description=f"What the customer did, by channel, {in_days(longest)}",
            ),
            Feature(
                name=f"favourite_channel_{longest}d",
                value=Favourite("engaged_by_channel", longest),
                unit="channel",
                description=f"The channel used most {in_days(longest)}",
                default=None,
            ),
            *(
                Feature(
                    name=f"{part}_share_{longest}d",
                    value=Share(f"engaged_{part}", "engaged", longest),
                    unit="share",
                    description=f"Share of what was done from {first} to {last} h UTC {in_days(longest)}; NaN if none",
                    default=None,
                )
                for part, (first, last) in PARTS_OF_DAY.items()
            ),
        ),
    )
