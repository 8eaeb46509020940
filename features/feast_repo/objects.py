"""Entities, views and services as Feast knows them, each made from the feature set."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Array, Float64, Int64, String

from features.compute.files import Files
from features.definitions.dsl import FeatureSet, StoredColumn, View
from features.online import VIEWS

CUSTOMER = Entity(
    name="customer", join_keys=["customer_id"], value_type=ValueType.STRING, description="A customer or visitor"
)
OFFER = Entity(name="offer", join_keys=["offer_id"], value_type=ValueType.STRING, description="Something to be offered")
ENTITY = {"customer": CUSTOMER, "profile": CUSTOMER, "offer": OFFER}
TYPES = {
    "sum": Int64, "first": Int64, "last": Int64, "days": Array(Int64), "keys": Array(String), "counts": Array(Int64),
    "number": Float64, "boolean": Float64, "time": Float64, "category": String,
}  # fmt: skip
SERVICES = {"customer_features": ("customer", "profile"), "offer_features": ("offer",)}


def feast_objects(features: FeatureSet, files: Files) -> list[Any]:
    """Everything to apply, in Feast's order of need."""
    views = {view: _view(features, files, view) for view in VIEWS if features.stored(view)}
    services = [
        FeatureService(
            name=name,
            features=[views[view] for view in members if view in views],
            description="Stored parts; features.live derives the features from them",
            tags={"feature_set": features.digest},
        )
        for name, members in SERVICES.items()
    ]
    return [CUSTOMER, OFFER, *views.values(), *services]


def _view(features: FeatureSet, files: Files, view: View) -> FeatureView:
    folder = files.profiles if view == "profile" else files.snapshots(view)
    source = FileSource(
        name=f"{VIEWS[view]}_source",
        path=str(folder.resolve() / "*.parquet"),
        timestamp_field="event_timestamp",
        file_format=ParquetFormat(),
    )
    entity = ENTITY[view]
    return FeatureView(
        name=VIEWS[view],
        entities=[entity],
        ttl=_ttl(features, view),
        schema=[Field(name=entity.join_key, dtype=String), *(_field(column) for column in features.stored(view))],
        source=source,
        online=True,
        description=_DESCRIPTIONS[view],
        tags={"feature_set": features.digest},
    )


_DESCRIPTIONS = {
    "customer": "What a customer did on whole UTC days before the snapshot's day",
    "profile": "Versions of profile attributes",
    "offer": "How an offer fared on whole UTC days before the snapshot's day",
}


def _field(column: StoredColumn) -> Field:
    return Field(name=column.name, dtype=TYPES[column.kind], description=column.description)


def _ttl(features: FeatureSet, view: View) -> timedelta:
    """The longest of the view's features; zero, Feast's word for none, if one of them never expires."""
    if view == "profile":
        return timedelta(0)
    days = [feature.ttl_days for feature in features.of(view) if feature.family != "profile"]
    return timedelta(0) if 0 in days or not days else timedelta(days=max(days))
