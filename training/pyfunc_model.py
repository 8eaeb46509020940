"""A registered model as MLflow's pyfunc, for notebooks: the same scorer that serves, applied to a data frame.

MLflow runs this file when such a model is loaded (models from code); serving never does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import msgspec
import numpy as np
import pandas as pd

from features.catalogue import Offer
from training.encoder import numbers
from training.scorers import read_scorer


class ScorerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Classifiers take their columns by name and give a probability; recommenders take customer_id, and give offers."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["scorer"])
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.offers = msgspec.json.decode(files.get("offers.json", b"[]"), type=list[Offer])
        self.scorer: Any = read_scorer(files, "scorer", tuple(offer.offer_id for offer in self.offers))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        if hasattr(self.scorer, "classifier"):
            return probabilities(self.scorer.classifier, model_input)
        side = self.scorer.prepare(self.offers)
        affinity = [self.scorer.affinity(row["customer_id"], row, side) for row in model_input.to_dict("records")]
        return [[self.offers[at].offer_id for at in np.argsort(-one, kind="stable")[:10]] for one in affinity]


def probabilities(classifier: Any, frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    columns = classifier.encoder.columns
    rows = np.column_stack(
        [
            numbers(
                frame[column.name].to_numpy(object),
                None if column.values is None else {value: float(code) for code, value in enumerate(column.values)},
            )
            for column in columns
        ]
    )
    result: np.ndarray[Any, np.dtype[np.float64]] = classifier(rows)
    return result


mlflow.models.set_model(ScorerModel())
