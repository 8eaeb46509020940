"""The declarations: what they need, what they refuse, and that they travel as JSON."""

from __future__ import annotations

import math

import pytest

from features.definitions import FAMILIES, FEATURES, FeatureSet, feature_set, kinds_of
from features.definitions.dsl import Age, Count, Family, Feature, Share, Where, attribute_column, ever, window
from features.definitions.profile import attribute_value

SEEN = Count(Where(event_types=("impression",)))


def family(*features: Feature, **changed: object) -> Family:
    return Family(**{"name": "f", "description": "", "daily": {"seen": SEEN}, "features": features, **changed})  # type: ignore[arg-type]


def feature(name: str, value: object, default: float | None = 0.0) -> Feature:
    return Feature(name=name, value=value, unit="", description="", default=default)  # type: ignore[arg-type]


def test_every_feature_says_what_it_is():
    for one in FEATURES:
        assert one.unit
        assert one.description
        assert one.kind in ("number", "category", "keyed")
        assert one.ttl_days >= 0


def test_a_feature_set_survives_json_and_keeps_its_digest():
    features = feature_set((1, 7), {"age": "number", "tier": "category"}, "USD")
    again = FeatureSet.from_json(features.to_json())
    assert again == features
    assert again.digest == features.digest
    assert again.currency == "USD"
    assert [f.name for f in again.features] == [f.name for f in features.features]


def test_another_declaration_has_another_digest():
    digests = {feature_set().digest, feature_set((1, 7)).digest, feature_set(currency="USD").digest}
    assert len(digests) == 3


def test_a_window_stores_the_whole_days_before_today_and_one_day_stores_nothing():
    features = FeatureSet(
        (family(feature("a", window("seen", 1)), feature("b", window("seen", 7)), feature("c", ever("seen"))),)
    )
    assert [(c.name, c.days) for c in features.stored("customer")] == [("seen_prev6d", 6), ("seen_ever", None)]


def test_an_offers_window_is_whole_days_only():
    features = FeatureSet((family(feature("b", window("seen", 7)), entity="offer", live=False),))
    assert [c.name for c in features.stored("offer")] == ["seen_prev7d"]


@pytest.mark.parametrize(
    "families",
    [
        (family(feature("a", ever("seen")), feature("a", window("seen", 2))),),
        (family(feature("a", ever("seen"))), family(feature("b", ever("seen")))),
        (family(feature("a", ever("nothing"))),),
        (family(feature("a", Age("seen"))),),
        (family(feature("a", window("seen", 0))),),
        (family(feature("a", ever("seen"), default=1.0)),),
        (family(feature("a", Share("seen", "nothing", 2))),),
        (family(feature("a", ever("seen")), entity="offer"),),
    ],
    ids=["name twice", "aggregate twice", "unknown", "wrong kind", "no days", "default", "share", "live offer"],
)
def test_a_contradictory_declaration_is_refused(families):
    with pytest.raises(ValueError):
        FeatureSet(families)


def test_windows_are_those_of_the_data():
    names = {f.name for f in feature_set((1, 7, 14)).customer}
    assert "spent_14d" in names
    assert "mean_purchase_14d" in names
    assert not any(name.endswith("_90d") for name in names)


def test_one_window_of_one_day_is_enough_for_every_family():
    assert len(feature_set((1,)).features) > len(FAMILIES)


def test_the_kinds_of_attributes_are_found_in_the_data():
    profiles = [
        {
            "age": 3,
            "vip": True,
            "joined": "2026-01-01T00:00:00Z",
            "tier": "gold",
            "mixed": 1,
            "list": [1],
            "note": None,
        },
        {"age": 2.5, "vip": False, "mixed": "x", "nested": {"a": 1}, "joined": "2025-01-01T00:00:00+02:00"},
    ]
    assert kinds_of(profiles) == {
        "age": "number", "joined": "time", "mixed": "number", "tier": "category", "vip": "boolean",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("number", 3, 3.0), ("number", "3", None), ("number", True, None), ("number", 10**400, None),
        ("number", [1], None), ("boolean", True, 1.0), ("boolean", 1, None), ("category", "x", "x"),
        ("category", 7, "7"), ("category", True, "true"), ("category", ["x"], None), ("category", None, None),
        ("category", "", ""),
        ("time", "1970-01-01T00:00:01Z", 1e6), ("time", "1970-01-01", None), ("time", 5, None),
    ],
)  # fmt: skip
def test_an_attribute_of_an_odd_type_is_missing_not_an_error(kind, value, expected):
    assert attribute_value(kind, value) == expected


def test_an_attribute_named_like_a_feature_is_told_apart():
    names = [f.name for f in feature_set(attributes={"spent_7d": "number", "age": "number"}).customer]
    assert names.count("spent_7d") == 1
    assert "profile_spent_7d" in names


def test_attribute_columns_are_plain_names_and_never_collide():
    names = ["a b", "a_b", "a-b", "ä", "a__b", "event_timestamp", "", "a:b"]
    columns = [attribute_column(name) for name in names]
    assert len(set(columns)) == len(names)
    assert all(column.isascii() and column.isidentifier() for column in columns)


def test_missing_is_nan_for_a_number_without_default():
    assert math.isnan(feature("a", Age("seen"), default=None).missing)
