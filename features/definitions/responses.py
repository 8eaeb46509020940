"""How the customer answers offers: seen, clicked, accepted, dismissed, overall and by category."""

from __future__ import annotations

from collections.abc import Sequence

from features.definitions.dsl import (
    Age,
    ByKey,
    Count,
    CountBy,
    Family,
    Feature,
    Last,
    Smoothed,
    Where,
    allowed_windows,
    ever,
    in_days,
    window,
)  # fmt: skip

ANSWERS = {
    "seen": Where(event_types=("impression",)),
    "clicked": Where(event_types=("click",)),
    "accepted": Where(event_types=("accept",)),
    "dismissed": Where(event_types=("dismiss", "reject")),
}
PRIOR, WEIGHT = 0.1, 10.0  # a rate before anything is known, and how many impressions that is worth
BY_OFFER_DAYS = 30
# What more of a feature should do to acceptance, all else equal, by pattern: who closed an offer lately takes less.
EXPECTED_EFFECTS = {
    "dismissed_*d": -1,
    "dismissal_rate_*d": -1,
    "days_since_dismissed": 1,
    "dismissed_by_*d": -1,
    "acceptance_rate_*d": 1,
}


def responses(windows: Sequence[int]) -> Family:
    longest = max(windows)
    by_offer = max(allowed_windows(windows, BY_OFFER_DAYS))
    return Family(
        name="responses",
        description="Responses to offers, overall, by category, and by offer",
        daily={
            **{answer: Count(where) for answer, where in ANSWERS.items()},
            **{f"last_{answer}": Last(where) for answer, where in ANSWERS.items()},
            **{f"{answer}_by_category": CountBy("category", where) for answer, where in ANSWERS.items()},
            "seen_by_offer": CountBy("offer_id", ANSWERS["seen"]),
            "dismissed_by_offer": CountBy("offer_id", ANSWERS["dismissed"]),
        },
        features=(
            *(
                Feature(
                    name=f"{answer}_{days}d",
                    value=window(answer, days),
                    unit="offers",
                    description=f"Offers {answer} {in_days(days)}",
                )
                for answer in ANSWERS
                for days in windows
            ),
            *(
                Feature(
                    name=f"{answer}_ever",
                    value=ever(answer),
                    unit="offers",
                    description=f"Offers {answer} since the start",
                )
                for answer in ("seen", "accepted")
            ),
            *(
                Feature(
                    name=f"days_since_{answer}",
                    value=Age(f"last_{answer}"),
                    unit="days",
                    description=f"Since an offer was last {answer}; NaN if never",
                    default=None,
                )
                for answer in ANSWERS
            ),
            *(
                Feature(
                    name=f"acceptance_rate_{days}d",
                    value=Smoothed("accepted", "seen", days, PRIOR, WEIGHT),
                    unit="share",
                    description=f"Accepted per seen {in_days(days)}, smoothed towards {PRIOR}",
                    default=PRIOR,
                )
                for days in windows
                if days > 1 or days == longest
            ),
            *(
                Feature(
                    name=f"{name}_rate_{longest}d",
                    value=Smoothed(answer, "seen", longest, PRIOR, WEIGHT),
                    unit="share",
                    description=f"{answer.capitalize()} per seen {in_days(longest)}, smoothed towards {PRIOR}",
                    default=PRIOR,
                )
                for name, answer in (("click", "clicked"), ("dismissal", "dismissed"))
            ),
            *(
                Feature(
                    name=f"{answer}_by_category_{longest}d",
                    value=ByKey(f"{answer}_by_category", longest),
                    unit="offers by category",
                    description=f"Offers {answer}, by category, {in_days(longest)}",
                )
                for answer in ANSWERS
            ),
            *(
                Feature(
                    name=f"{answer}_by_offer_{by_offer}d",
                    value=ByKey(f"{answer}_by_offer", by_offer),
                    unit="times by offer",
                    description=f"How often each offer was {answer} {in_days(by_offer)}",
                )
                for answer in ("seen", "dismissed")
            ),
        ),
    )
