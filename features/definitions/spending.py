"""Recency, frequency and monetary value of purchases."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import Age, Count, Family, Feature, Last, Share, Sum, Where, ever, in_days, window

IS_PURCHASE = Where(event_types=("purchase",))


def spending(windows: Sequence[int]) -> Family:
    longest = max(windows)
    return Family(
        name="spending",
        description="Recency, frequency and monetary value of purchases",
        daily={"purchases": Count(IS_PURCHASE), "spent": Sum(IS_PURCHASE), "last_purchase": Last(IS_PURCHASE)},
        features=(
            *(
                Feature(
                    name=f"purchases_{days}d",
                    value=window("purchases", days),
                    unit="purchases",
                    description=f"Purchases {in_days(days)}",
                )
                for days in windows
            ),
            Feature(
                name="purchases_ever",
                value=ever("purchases"),
                unit="purchases",
                description="Purchases since the start",
            ),
            *(
                Feature(
                    name=f"spent_{days}d",
                    value=window("spent", days),
                    unit="currency",
                    description=f"Amount spent {in_days(days)}",
                )
                for days in windows
            ),
            Feature(
                name="spent_ever", value=ever("spent"), unit="currency", description="Amount spent since the start"
            ),
            Feature(
                name=f"mean_purchase_{longest}d",
                value=Share("spent", "purchases", longest),
                unit="currency",
                description=f"Mean amount of a purchase {in_days(longest)}; NaN if none",
                default=None,
            ),
            Feature(
                name="days_since_purchase",
                value=Age("last_purchase"),
                unit="days",
                description="Since the last purchase; NaN if none",
                default=None,
            ),
        ),
    )
