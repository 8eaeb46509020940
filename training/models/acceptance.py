"""P(accept | customer, offer, context): base rates, a logistic regression and boosted trees on impressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.definitions import FeatureSet
from training.columns import acceptance_encoder
from training.models.classifier_fit import ClassifierFit, Sample, Tried, check_parts, codes, judge_and_choose
from training.models.classifiers import (
    Part,
    TreeSettings,
    fit_base_rates,
    fit_constant,
    fit_logistic,
    fit_trees,
)
from training.split import Split

PENALTIES = (0.03, 0.3)  # inverse; smaller is stronger
TREES = (TreeSettings(), TreeSettings(max_leaf_nodes=31))


@dataclass(frozen=True)
class AcceptanceTable:
    """Impressions as point-in-time rows, in time order; every column has one value per row."""

    customers: Sequence[str]
    offers: Sequence[Offer]
    us: NDArray[np.int64]
    customer_features: pd.DataFrame
    offer_features: pd.DataFrame
    context: Mapping[str, Any]
    affinity: NDArray[np.float64] | None  # relative, from a recommender that saw only what came before the row's block
    is_new: NDArray[np.bool_]  # the customer's first event
    y: NDArray[np.bool_]


def learn_acceptance(
    features: FeatureSet, catalogue: Sequence[Offer], table: AcceptanceTable, split: Split, seed: int
) -> ClassifierFit:
    """Fit on the training part, choose and calibrate on validation, judge on test."""
    masks = {"training": split.train, "validation": split.validation, "test": split.test}
    check_parts("acceptance", {name: table.y[mask] for name, mask in masks.items()})
    at = np.flatnonzero(split.train)
    encoder = acceptance_encoder(
        features,
        table.customer_features.iloc[at],
        catalogue,
        [table.offers[i] for i in at.tolist()],
        table.offer_features.iloc[at],
        {name: np.asarray(values, dtype=object)[at] for name, values in table.context.items()},
        affinity=table.affinity is not None and bool(np.isfinite(table.affinity[at]).any()),
    )
    rows = encoder.rows(
        len(table.y), table.customer_features, table.offers, table.offer_features, table.context, table.affinity
    )
    customers = codes(table.customers)
    parts = {
        name: Sample(Part(rows[mask], table.y[mask]), codes(customers[mask].tolist()), table.us[mask])
        for name, mask in (("train", split.train), ("validation", split.validation), ("test", split.test))
    }
    train, validation = parts["train"].part, parts["validation"].part
    names = {column.name for column in encoder.columns}
    baselines = [Tried("base_rate", "linear", fit_constant(train), {})]
    if "offer.offer_id" in names:
        rates = fit_base_rates(encoder, train, "offer.offer_id")
        baselines = [Tried("offer_base_rate", "linear", rates, {})]
    candidates = [Tried("logistic", "linear", fit_logistic(encoder, train, c), {"c": c}) for c in PENALTIES]
    for settings in TREES:
        fit = fit_trees(encoder, train, validation, settings, seed)
        params = {**asdict(settings), "n_trees": fit.n_trees}
        candidates.append(Tried("boosted_trees", "trees", fit.forest, params, fit.curve))
    test = np.flatnonzero(split.test)
    return judge_and_choose(encoder, baselines, candidates, parts, lambda: _slices(table, test), seed)


def _slices(table: AcceptanceTable, rows: NDArray[np.int64]) -> dict[str, list[object]]:
    return {
        "offer": [table.offers[i].offer_id for i in rows.tolist()],
        "category": [table.offers[i].category for i in rows.tolist()],
        "customer": ["new" if table.is_new[i] else "known" for i in rows.tolist()],
        "channel": [table.context["channel"][i] for i in rows.tolist()],
    }
