"""The features, declared once: FEATURES is the one list, in column order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from features.definitions.channels import channels
from features.definitions.dsl import AttributeKind, Family, Feature, FeatureSet, StoredColumn, View
from features.definitions.interests import interests
from features.definitions.offer_stats import EXPECTED_EFFECTS as OF_OFFERS
from features.definitions.offer_stats import offer_stats
from features.definitions.profile import kinds_of, profile
from features.definitions.responses import EXPECTED_EFFECTS as OF_RESPONSES
from features.definitions.responses import responses
from features.definitions.spending import spending
from features.definitions.visits import visits

WINDOWS = (1, 7, 30, 90)  # days
FAMILIES = (
    spending,
    visits,
    channels,
    responses,
    interests,
    offer_stats,
)  # each: windows -> Family; profile comes first


def feature_set(
    windows: Sequence[int] = WINDOWS, attributes: Mapping[str, AttributeKind] | None = None, currency: str = "EUR"
) -> FeatureSet:
    """All families over these windows (days), with the profile attributes found in the data."""
    ordered = tuple(sorted(set(windows)))
    families = tuple(make(ordered) for make in FAMILIES)
    taken = {feature.name for family in families for feature in family.features}
    return FeatureSet((profile(attributes or {}, taken), *families), currency)


FEATURES: tuple[Feature, ...] = feature_set().features
# Pattern of feature names -> 1 or -1: acceptance should only rise, or only fall, with it; data settings may differ.
EXPECTED_EFFECTS: Mapping[str, int] = {**OF_RESPONSES, **OF_OFFERS}

__all__ = [
    "EXPECTED_EFFECTS", "FAMILIES", "FEATURES", "WINDOWS", "AttributeKind", "Family", "Feature", "FeatureSet",
    "StoredColumn", "View", "feature_set", "kinds_of",
]  # fmt: skip
