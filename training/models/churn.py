"""P(churn) of a customer at snapshot instants: base rate, recency alone, a logistic regression and boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.definitions import FeatureSet
from features.errors import BadInput, NotTrainable
from training.canaries import Canaries, Watched, check_canaries, row_ids
from training.columns import churn_encoder
from training.encoder import Encoder
from training.evaluation.judged_rows import judged_rows
from training.models.classifier_fit import ClassifierFit, Sample, Tried, check_parts, codes, judge_and_choose
from training.models.classifiers import Part, TreeSettings, fit_constant, fit_logistic, fit_trees
from training.scorers import Classifier
from training.split import held_out

RECENCY = ("days_since_purchase", "days_since_activity")  # the first that differs between customers
TREES = (TreeSettings(), TreeSettings(max_leaf_nodes=7))
NEW_DAYS = 30  # since the first activity
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ChurnTable:
    """Customers at risk at snapshot instants, as point-in-time rows by time; every column has one value per row.

    `BadInput` naming the column where lengths differ, an instant has a customer twice, or a number is infinite.
    """

    customers: Sequence[str]
    us: NDArray[np.int64]
    features: pd.DataFrame
    silent_days: NDArray[np.int64]  # whole days without activity after the gap, counted up to the longest horizon

    def __post_init__(self) -> None:
        for name, n in (("customers", len(self.customers)), ("features", len(self.features)),
                        ("silent_days", len(self.silent_days))):  # fmt: skip
            if n != len(self.us):
                raise BadInput(f"{n} rows of {name} for {len(self.us)} instants, expected one each", name)
        for name in self.features.columns:
            values = self.features[name]
            if values.dtype.kind == "f" and np.isinf(values.to_numpy()).any():
                raise BadInput(f"feature {name} is infinite in {int(np.isinf(values).sum())} rows", str(name))
        ids = row_ids(list(self.customers), self.us)
        if len(ids) and int(ids.max()) + 1 < len(ids):
            raise BadInput(f"{len(ids) - int(ids.max()) - 1} rows have a customer and instant of another", "customers")

    def churned(self, horizon_days: int) -> Mask:
        """No activity for so many days, (n,)."""
        return self.silent_days >= horizon_days

    def at(self, instants: Sequence[int]) -> Mask:
        return np.isin(self.us, list(instants))


@dataclass(frozen=True, slots=True)
class Times:
    """Instants to learn at, and later ones to judge at: no label of the first reaches into the second."""

    earlier: Sequence[int]
    test: Sequence[int]


@dataclass(frozen=True)
class Learned:
    """A classifier with its figures, the rows of the table that judged it, and what the canaries said."""

    fit: ClassifierFit
    rows: NDArray[np.intp]
    canaries: Canaries

    def chances(self, table: ChurnTable, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        return chances(self.fit.classifier, table.features.iloc[rows])


def learn_churn(
    features: FeatureSet, table: ChurnTable, y: Mask, among: Mask, times: Times, seed: int, what: str = "churn"
) -> Learned:
    """P(y) of the rows of `among`; (n,) both. Test is later than all labels of the earlier instants.

    Of the earlier instants' customers a fixed quarter is the validation part: a part in between would cost another
    label's length of data, and leave training on the oldest only. `NotTrainable` with the numbers where a part is too
    small, of one class, or nothing differs; `Leakage` where a canary finds one.
    """
    before, aside = table.at(times.earlier) & among, held_out(table.customers)
    masks = {"train": before & ~aside, "validation": before & aside, "test": table.at(times.test) & among}
    named = {"train": "training", "validation": "validation", "test": "test"}
    check_parts(what, {named[name]: y[mask] for name, mask in masks.items()})
    encoder = churn_encoder(features, table.features[masks["train"]])
    if not encoder.columns:
        raise NotTrainable(
            what, f"no feature differs between the {int(masks['train'].sum())} rows of the training part"
        )
    rows = {name: encoded(encoder, table.features[mask]) for name, mask in masks.items()}
    ids = row_ids(list(table.customers), table.us)
    watched = {name: Watched(rows[name], y[m], table.us[m], ids[m]) for name, m in masks.items()}
    canaries = check_canaries(what, encoder, watched["train"], watched["validation"], seed)
    customers = codes(table.customers)
    parts = {
        name: Sample(Part(rows[name], y[mask]), codes(customers[mask].tolist()), table.us[mask])
        for name, mask in masks.items()
    }
    judged = np.flatnonzero(masks["test"])
    fit = judge_and_choose(
        encoder,
        baselines_of(encoder, parts["train"].part),
        candidates_of(encoder, parts["train"].part, parts["validation"].part, seed),
        parts,
        lambda: slices_of(table, judged),
        seed,
    )
    kept = judged_rows([table.customers[row] for row in judged.tolist()], table.us[judged], None, fit.y, fit.p)
    return Learned(replace(fit, judged=kept), judged, canaries)


def baselines_of(encoder: Encoder, train: Part) -> list[Tried]:
    """The base rate, and recency alone where there is one."""
    names = {column.name for column in encoder.columns}
    found = [Tried("base_rate", "linear", fit_constant(train), {})]
    for recency in [f"customer.{name}" for name in RECENCY if f"customer.{name}" in names][:1]:
        fitted = fit_logistic(encoder, train, 100.0, only=recency)
        found.append(Tried("recency", "linear", fitted, {"column": recency}))
    return found


def candidates_of(encoder: Encoder, train: Part, validation: Part, seed: int) -> list[Tried]:
    found = [Tried("logistic", "linear", fit_logistic(encoder, train, 0.1), {"c": 0.1})]
    for settings in TREES:
        fit = fit_trees(encoder, train, validation, settings, seed)
        params = {**asdict(settings), "n_trees": fit.n_trees}
        found.append(Tried("boosted_trees", "trees", fit.forest, params, fit.curve))
    return found


def chances(classifier: Classifier, features: pd.DataFrame) -> NDArray[np.float64]:
    """The classifier's probability of each row of customer features, (n,)."""
    return classifier(encoded(classifier.encoder, features))


def encoded(encoder: Encoder, features: pd.DataFrame) -> NDArray[np.float64]:
    """Rows of customer features alone, (n, n_columns)."""
    return encoder.rows(len(features), features, (), {}, {}, None)


def slices_of(table: ChurnTable, rows: NDArray[np.intp]) -> dict[str, list[object]]:
    """The segments that tell customers apart: one that holds everybody says nothing beside the whole."""
    by = segments_of(table, rows)
    alike = same_for_all(by)
    return {name: values for name, values in by.items() if name not in alike}


def same_for_all(by: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """The columns with one value, and that value."""
    return {name: values[0] for name, values in by.items() if len(set(values)) == 1}


def segments_of(table: ChurnTable, rows: NDArray[np.intp]) -> dict[str, list[object]]:
    """By tenure, purchases, and new, light or heavy: active on more days than the median of who is not new."""
    tenure = table.features["days_since_first_activity"].to_numpy(np.float64)[rows]
    bought = table.features["purchases_ever"].to_numpy(np.float64)[rows]
    longest = max(
        (name for name in table.features.columns if name.startswith("active_days_")),
        key=lambda name: int(name.removeprefix("active_days_").removesuffix("d")),
    )
    active = table.features[longest].to_numpy(np.float64)[rows]
    known = active[tenure >= NEW_DAYS]
    usual = float(np.median(known)) if len(known) else 0.0
    return {
        "tenure": [f"under {NEW_DAYS} days" if days < NEW_DAYS else f"{NEW_DAYS} days or more" for days in tenure],
        "purchases": ["none" if n < 1 else "one" if n < 2 else "several" for n in bought],
        "customer": [
            "new" if days < NEW_DAYS else "heavy" if n > usual else "light"
            for days, n in zip(tenure, active, strict=True)
        ],
    }
