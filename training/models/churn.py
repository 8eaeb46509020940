"""P(churn) of a customer: base rate, recency alone, a logistic regression and boosted trees at snapshot instants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.definitions import FeatureSet
from features.errors import NotTrainable
from training.columns import churn_encoder
from training.models.classifier_fit import ClassifierFit, Sample, Tried, check_parts, codes, judge_and_choose
from training.models.classifiers import Part, TreeSettings, fit_constant, fit_logistic, fit_trees
from training.split import held_out

RECENCY = ("days_since_purchase", "days_since_activity")  # the first that differs between customers
TREES = (TreeSettings(), TreeSettings(max_leaf_nodes=7))


@dataclass(frozen=True)
class ChurnTable:
    """Customers at risk at snapshot instants, as point-in-time rows by time."""

    customers: Sequence[str]
    us: NDArray[np.int64]
    features: pd.DataFrame
    y: NDArray[np.bool_]


def learn_churn(
    features: FeatureSet, table: ChurnTable, earlier: Sequence[int], test: Sequence[int], seed: int
) -> ClassifierFit:
    """Test is later than all labels of the earlier instants, whose customers are parted into training and validation.

    A validation part in between would cost another label's length of data, and leave training on the oldest only.
    """
    before, aside = np.isin(table.us, list(earlier)), held_out(table.customers)
    masks = [before & ~aside, before & aside, np.isin(table.us, list(test))]
    check_parts("churn", {n: table.y[m] for n, m in zip(("training", "validation", "test"), masks, strict=True)})
    encoder = churn_encoder(features, table.features[masks[0]])
    rows = encoder.rows(len(table.y), table.features, (), {}, {}, None) if encoder.columns else None
    if rows is None:
        raise NotTrainable("churn", f"no feature differs between the {int(masks[0].sum())} rows of the training part")
    customers = codes(table.customers)
    parts = {
        name: Sample(Part(rows[mask], table.y[mask]), codes(customers[mask].tolist()), table.us[mask])
        for name, mask in zip(("train", "validation", "test"), masks, strict=True)
    }
    train, validation = parts["train"].part, parts["validation"].part
    names = {column.name for column in encoder.columns}
    baselines = [Tried("base_rate", "linear", fit_constant(train), {})]
    for recency in [f"customer.{name}" for name in RECENCY if f"customer.{name}" in names][:1]:
        fitted = fit_logistic(encoder, train, 100.0, only=recency)
        baselines.append(Tried("recency", "linear", fitted, {"column": recency}))
    candidates = [Tried("logistic", "linear", fit_logistic(encoder, train, 0.1), {"c": 0.1})]
    for settings in TREES:
        fit = fit_trees(encoder, train, validation, settings, seed)
        params = {**asdict(settings), "n_trees": fit.n_trees}
        candidates.append(Tried("boosted_trees", "trees", fit.forest, params, fit.curve))
    rows_of_test = np.flatnonzero(masks[2])
    return judge_and_choose(encoder, baselines, candidates, parts, lambda: _slices(table, rows_of_test), seed)


def _slices(table: ChurnTable, rows: NDArray[np.int64]) -> dict[str, list[object]]:
    tenure = table.features["days_since_first_activity"].to_numpy(np.float64)[rows]
    spent = table.features["purchases_ever"].to_numpy(np.float64)[rows]
    return {
        "tenure": ["under 30 days" if days < 30 else "30 days or more" for days in tenure],
        "purchases": ["none" if n < 1 else "one" if n < 2 else "several" for n in spent],
    }
