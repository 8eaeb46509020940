"""Which columns an encoded row has: learnt from the features declared and the rows of training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.definitions import Feature, FeatureSet
from features.definitions.dsl import ActiveDays, ByKey, CountBy, Share, Size, Smoothed, Total
from features.errors import BadInput
from training.encoder import Column, Encoder, Source, offer_fields

MOST_GROWTH = 1.5  # of a count between training and use, by the log's age alone
YOUNG_DAYS = 28.0  # a log younger than this has too few days to tell what is of a weekday and what of its dates
MAX_VALUES = 200  # categories per column; scikit-learn allows 255
BY_KEY: dict[str, Source] = {
    "category": "by_category",
    "offer_id": "by_offer",
    "channel": "by_channel",
    "placement_id": "by_placement_id",
}


def customer_columns(
    features: FeatureSet,
    table: pd.DataFrame,
    *,
    pairs: bool,
    min_count: int,
    without: Collection[str] = (),
    since_us: int | None = None,
) -> list[Column]:
    """One column per customer feature that differs between rows; with `pairs` also keyed ones, by the row's key.

    Of totals ever among those to do `without`, the rate per day since the log began, at `since_us`, is taken instead.
    """
    columns: list[Column] = []
    for feature in features.customer:
        values = table[feature.name]
        if feature.name in without:
            if isinstance(feature.value, Total) and feature.value.days is None and since_us is not None:
                differs = _number("customer", feature.name, values.to_numpy(np.float64))
                columns += [Column("rate", c.key, since_us=since_us) for c in differs]
        elif feature.kind == "number":
            columns += _number("customer", feature.name, values.to_numpy(np.float64))
        elif feature.kind == "category":
            columns += _category("customer", feature.name, values.tolist(), min_count)
        elif pairs and any(values):
            columns.append(Column(BY_KEY[_key_of(features, feature)], feature.name))
    return columns


def offer_columns(offers: Sequence[Offer], shown: Sequence[Offer], min_count: int) -> list[Column]:
    """The fields and attributes that tell the offers shown apart; `shown` has one offer per row."""
    fields = [offer_fields(offer) for offer in offers]
    count: dict[str, int] = {}
    for offer in shown:
        count[offer.offer_id] = count.get(offer.offer_id, 0) + 1
    columns: list[Column] = []
    for name in sorted({name for of in fields for name in of}):
        values = [of.get(name) for of in fields]
        known = [value for value in values if value is not None]
        if all(isinstance(value, bool | int | float) for value in known):
            columns += _number("offer", name, np.array([np.nan if v is None else float(v) for v in values]))
        elif all(isinstance(value, str) for value in known):
            weighted = [
                (str(v), count.get(o.offer_id, 0)) for o, v in zip(offers, values, strict=True) if v is not None
            ]
            columns += _weighted_category("offer", name, weighted, min_count)
    return columns


def offer_feature_columns(features: FeatureSet, table: pd.DataFrame) -> list[Column]:
    """Rates alone: plain counts grow with the age of the log, so that later rows would look like none of training."""
    return [
        column
        for feature in features.offer
        if isinstance(feature.value, Smoothed | Share)
        for column in _number("offer_feature", feature.name, table[feature.name].to_numpy(np.float64))
    ]


def context_columns(context: Mapping[str, Any], min_count: int, *, young: bool = False) -> list[Column]:
    columns: list[Column] = []
    for name in ("channel", "placement_id"):
        columns += _category("context", name, list(context[name]), min_count)
    for name in ("hour",) if young else ("hour", "weekday"):
        columns += _number("context", name, np.asarray(context[name], dtype=np.float64))
    position = np.asarray(context.get("position", ()), dtype=np.float64)
    if len(np.unique(position[np.isfinite(position)])) > 1:
        columns.append(Column("context", "position"))
    return columns


def acceptance_encoder(
    features: FeatureSet,
    customers: pd.DataFrame,
    offers: Sequence[Offer],
    shown: Sequence[Offer],
    offer_features: pd.DataFrame,
    context: Mapping[str, Any],
    *,
    affinity: bool,
    without: Collection[str] = (),
    since_us: int | None = None,
    young: bool = False,
) -> Encoder:
    """`without` these customer features; `since_us`: when the log began. Fitted on training rows alone.

    In a `young` log, statistics of offers and weekdays tell the date of a row, which never comes again: they are left
    out.
    """
    min_count = max(20, len(shown) // 1000)
    return Encoder(
        (
            *customer_columns(features, customers, pairs=True, min_count=min_count, without=without, since_us=since_us),
            *offer_columns(offers, shown, min_count),
            *([] if young else offer_feature_columns(features, offer_features)),
            *context_columns(context, min_count, young=young),
            *((Column("affinity", ""),) if affinity else ()),
        )
    )


def growing(features: FeatureSet, age_days: NDArray[np.float64], age_then_days: float) -> tuple[str, ...]:
    """Customer features that are counted over longer than the log reaches back, so that they grow with its age.

    `age_days`, (n,), is how old the log was at each training row, `age_then_days` how old it is where the model is
    used. Rates, ages and attributes do not grow.
    """
    found = []
    for feature in features.customer:
        if isinstance(feature.value, Total | ActiveDays | ByKey | Size):
            days = np.inf if feature.value.days is None else float(feature.value.days)
            then, before = min(days, age_then_days), float(np.minimum(days, age_days).mean())
            if then > MOST_GROWTH * before:
                found.append(feature.name)
    return tuple(found)


def churn_encoder(features: FeatureSet, customers: pd.DataFrame) -> Encoder:
    return Encoder(tuple(customer_columns(features, customers, pairs=False, min_count=max(20, len(customers) // 1000))))


def frame_encoder(table: pd.DataFrame, min_count: int = 20) -> Encoder:
    """Of any frame, one row per customer: numbers and truth values are numbers, text is a category of what comes
    `min_count` times. `BadInput` naming a column of another kind."""
    columns: list[Column] = []
    for name in table.columns:
        kind = table[name].dtype.kind
        if kind in "fiub":
            columns += _number("customer", str(name), table[name].to_numpy(np.float64))
        elif kind in "OTU":
            columns += _category("customer", str(name), table[name].tolist(), min_count)
        else:
            raise BadInput(f"column {name} is of kind {table[name].dtype}, expected numbers or text", str(name))
    return Encoder(tuple(columns))


def _key_of(features: FeatureSet, feature: Feature) -> str:
    value = feature.value
    assert isinstance(value, ByKey)
    aggregate = features.aggregates(feature.entity)[value.of]
    assert isinstance(aggregate, CountBy)
    return aggregate.key


def _number(source: Source, name: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> list[Column]:
    known = values[~np.isnan(values)]
    differs = len(known) > 0 and (known.min() < known.max() or len(known) < len(values))
    return [Column(source, name)] if differs else []


def _category(source: Source, name: str, values: Sequence[Any], min_count: int) -> list[Column]:
    return _weighted_category(source, name, [(str(v), 1) for v in values if isinstance(v, str)], min_count)


def _weighted_category(source: Source, name: str, values: Sequence[tuple[str, int]], min_count: int) -> list[Column]:
    count: dict[str, int] = {}
    for value, n in values:
        count[value] = count.get(value, 0) + n
    frequent = sorted((value for value, n in count.items() if n >= min_count), key=lambda v: (-count[v], v))
    kept = tuple(sorted(frequent[:MAX_VALUES]))
    return [Column(source, name, kept)] if len(count) > 1 and kept else []
