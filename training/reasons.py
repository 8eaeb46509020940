"""Why a model gives a customer the chance it does: what each feature adds to the log-odds, and it adds up.

Linear models split exactly into their columns. Boosted trees are split by TreeSHAP, of the shap library. Both start
from a base, the mean of a background; base and contributions sum to the log-odds before calibration, which is
monotone, so that it changes no sign and no order.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.errors import BadInput
from training.encoder import Encoder
from training.linear import Linear
from training.scorers import Classifier
from training.shap_trees import as_shap_reads
from training.steps.inputs import thinned
from training.trees import Forest

MOST_BACKGROUND = 2_000  # rows


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each column adds to the log-odds of each row."""

    columns: tuple[str, ...]
    values: NDArray[np.float64]  # (n, n_columns)
    base: float  # log-odds where nothing is known of the customer
    raw: NDArray[np.float64]  # (n,) log-odds: base and the row's values

    def top(self, k: int = 3) -> pd.DataFrame:
        """row, rank, feature, contribution: the `k` that weigh most in each row, the sign says in which direction.

        Features that add nothing are left out.
        """
        order = np.argsort(-np.abs(self.values), axis=1, kind="stable")[:, :k]
        n, shown = order.shape
        found = pd.DataFrame(
            {
                "row": np.repeat(np.arange(n), shown),
                "rank": np.tile(np.arange(1, shown + 1), n),
                "feature": np.array([_plain(name) for name in self.columns], object)[order.ravel()],
                "contribution": np.take_along_axis(self.values, order, axis=1).ravel(),
            }
        )
        return found[found["contribution"] != 0.0].reset_index(drop=True)

    def overall(self) -> pd.DataFrame:
        """feature, mean_absolute, mean: over all rows, the weightiest first."""
        found = pd.DataFrame(
            {
                "feature": [_plain(name) for name in self.columns],
                "mean_absolute": np.abs(self.values).mean(axis=0),
                "mean": self.values.mean(axis=0),
            }
        )
        return found.sort_values("mean_absolute", ascending=False, kind="stable").reset_index(drop=True)


def contributions(
    classifier: Classifier, rows: NDArray[np.float64], background: NDArray[np.float64] | None = None
) -> Contributions:
    """Of encoded rows, (n, n_columns); `background` is whom they are compared with, the rows themselves if None.

    `BadInput` without rows, or where they have other columns than the model.
    """
    behind = rows if background is None else background
    columns = tuple(column.name for column in classifier.encoder.columns)
    for name, given in (("rows", rows), ("background", behind)):
        if given.ndim != 2 or given.shape[1] != len(columns) or not len(given):
            raise BadInput(f"{name} have shape {given.shape}, expected (n, {len(columns)}) with n of at least 1", name)
    behind = behind[thinned(len(behind), MOST_BACKGROUND)]
    model = classifier.model
    if isinstance(model, Linear):
        terms = linear_terms(model, rows)
        mean = linear_terms(model, behind).mean(axis=0)
        return Contributions(columns, terms - mean, float(model.intercept[0] + mean.sum()), model.raw(rows))
    assert isinstance(model, Forest)
    values, base = _of_trees(model, classifier.encoder, rows, behind)
    return Contributions(columns, values, base, model.raw(rows))


def churn_reasons(
    classifier: Classifier, features: pd.DataFrame, k: int = 3, background: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The reasons of each row of customer features, as `Contributions.top`, with the feature's value beside them.

    `background` is whom they are compared with: the customers at risk, if `features` are but a few of them.
    """
    encoder = classifier.encoder
    behind = None if background is None else encoder.rows(len(background), background, (), {}, {}, None)
    found = contributions(classifier, encoder.rows(len(features), features, (), {}, {}, None), behind).top(k)
    values = [features[name].iloc[row] for row, name in zip(found["row"], found["feature"], strict=True)]
    return found.assign(value=pd.Series(values, dtype=object, index=found.index))


def linear_terms(model: Linear, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each column of the encoded row adds, (n, n_columns); with the intercept they sum to `raw`."""
    out = np.zeros(rows.shape)
    z = model.standardised(rows)
    missing = np.isnan(z)
    out[:, model.numbers] = np.where(missing, model.missing_weights, np.where(missing, 0.0, z) * model.weights)
    for at, column in enumerate(model.categories.tolist()):
        last = model.starts[at + 1] - 1
        codes = np.where(np.isnan(rows[:, column]), last, rows[:, column] + model.starts[at]).astype(np.int64)
        out[:, column] += model.category_weights[np.minimum(codes, last)]
    return out


def _of_trees(
    forest: Forest, encoder: Encoder, rows: NDArray[np.float64], background: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    sizes = {at: len(encoder.columns[at].values or ()) for at in encoder.categorical}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shap's import, which meets newer libraries than it knows
        from shap import TreeExplainer

        explainer = TreeExplainer(as_shap_reads(forest, sizes, background), feature_perturbation="tree_path_dependent")
        values = explainer.shap_values(rows, check_additivity=False)
    return np.asarray(values, np.float64), float(np.ravel(explainer.expected_value)[0])


def _plain(column: str) -> str:
    return column.removeprefix("customer.")
