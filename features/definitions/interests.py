"""What the customer is interested in, and how widely."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import ByKey, CountBy, Diversity, Family, Favourite, Feature, Size, Where, in_days

SHOWS_INTEREST = Where(event_types=("view", "click", "accept", "purchase"))


def interests(windows: Sequence[int]) -> Family:
    longest = max(windows)
    return Family(
        name="interests",
        description="Interests by category, and their diversity",
        daily={"interest_by_category": CountBy("category", SHOWS_INTEREST)},
        features=(
            Feature(
                name=f"interest_by_category_{longest}d",
                value=ByKey("interest_by_category", longest),
                unit="events by category",
                description=f"Views, clicks, accepts and purchases by category {in_days(longest)}",
            ),
            Feature(
                name=f"favourite_category_{longest}d",
                value=Favourite("interest_by_category", longest),
                unit="category",
                description=f"The category of most interest {in_days(longest)}",
                default=None,
            ),
            Feature(
                name=f"n_categories_{longest}d",
                value=Size("interest_by_category", longest),
                unit="categories",
                description=f"Categories of interest {in_days(longest)}",
            ),
            Feature(
                name=f"interest_diversity_{longest}d",
                value=Diversity("interest_by_category", longest),
                unit="nats",
                description=f"Entropy of interest over categories {in_days(longest)}; 0 with fewer than two",
            ),
        ),
    )
