"""A registered model as MLflow's pyfunc, for notebooks: the same scorer that serves, applied to a data frame.

MLflow runs this file when such a model is loaded (models from code); serving never does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import msgspec
import pandas as pd

from features.catalogue import Offer
from training.frame_scores import Scored, scored_by
from training.scorers import read_scorer


class ScorerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A data frame to a data frame with the same index; `training.frame_scores` says what each model reads and gives.

    `params` may hold k, how many offers a recommender names.
    """

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["scorer"])
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        offers = msgspec.json.decode(files.get("offers.json", b"[]"), type=list[Offer])
        offer_map = tuple(offer.offer_id for offer in offers)
        beside = read_scorer(files, "uplift", offer_map) if "uplift/scorer.json" in files else None
        self.scored: Scored = scored_by(read_scorer(files, "scorer", offer_map), offers, beside)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return self.scored.of(model_input, **(params or {}))


mlflow.models.set_model(ScorerModel())
