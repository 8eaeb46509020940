"""How an offer fares with everybody: whole days before the snapshot's day, nothing of today."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import Age, Count, Family, Feature, First, Smoothed, Where, window

COUNTED = {
    "impressions": Where(event_types=("impression",), has_offer=True),
    "clicks": Where(event_types=("click",), has_offer=True),
    "accepts": Where(event_types=("accept",), has_offer=True),
    "dismissals": Where(event_types=("dismiss", "reject"), has_offer=True),
    "purchases": Where(event_types=("purchase",), has_offer=True),
}
PRIOR, WEIGHT = 0.1, 20.0  # a rate before anything is known, and how many impressions that is worth
EXPECTED_EFFECTS = {"offer_acceptance_rate_*d": 1}  # what more of it should do to acceptance, all else equal


def offer_stats(windows: Sequence[int]) -> Family:
    return Family(
        name="offer_stats",
        description="Offer statistics by window; whole days before the snapshot, today is not in them",
        entity="offer",
        live=False,
        daily={
            **{f"offer_{name}": Count(where) for name, where in COUNTED.items()},
            "offer_first_seen": First(COUNTED["impressions"]),
        },
        features=(
            *(
                Feature(
                    name=f"offer_{name}_{days}d",
                    value=window(f"offer_{name}", days),
                    unit=name,
                    description=f"{name.capitalize()} of this offer in the {days} whole days before today",
                )
                for name in COUNTED
                for days in windows
            ),
            *(
                Feature(
                    name=f"offer_acceptance_rate_{days}d",
                    value=Smoothed("offer_accepts", "offer_impressions", days, PRIOR, WEIGHT),
                    unit="share",
                    description=f"Accepts per impression in {days} whole days before today, smoothed to {PRIOR}",
                    default=PRIOR,
                )
                for days in windows
            ),
            *(
                Feature(
                    name=f"offer_click_rate_{days}d",
                    value=Smoothed("offer_clicks", "offer_impressions", days, PRIOR, WEIGHT),
                    unit="share",
                    description=f"Clicks per impression in {days} whole days before today, smoothed to {PRIOR}",
                    default=PRIOR,
                )
                for days in windows
            ),
            Feature(
                name="days_since_offer_first_seen",
                value=Age("offer_first_seen"),
                unit="days",
                description="Since anybody first saw this offer, before today; NaN if nobody has",
                default=None,
            ),
        ),
    )
