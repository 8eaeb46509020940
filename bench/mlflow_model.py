"""The release's models behind MLflow's own server: features of one customer in, the best three offers out.

MLflow runs this file when the model is loaded (models from code).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import msgspec
import numpy as np
import pandas as pd

from features.catalogue import Offer
from features.events import parse_time, to_us
from training.scorers import load_release

CONTEXT = {"channel": "web", "placement_id": "home-hero", "hour": 12, "weekday": 0}


class Acceptance(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Taste, acceptance and value, as the decision has them; no feature read, no rules, no state, no log."""

    def load_context(self, context: Any) -> None:
        self.release = load_release(Path(context.artifacts["release"]))
        self.offers = msgspec.json.decode(Path(context.artifacts["offers"]).read_bytes(), type=list[Offer])
        self.values = np.array([offer.value for offer in self.offers])
        self.taste_side = self.release.recommender.prepare(self.offers)
        as_of = self.release.manifest.get("as_of")  # else totals per day of the log read as missing
        self.context = CONTEXT if as_of is None else {**CONTEXT, "us": to_us(parse_time(as_of, "as_of"))}
        self.acceptance_side = self.release.acceptance.prepare(self.offers, {}, 0)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[Any]:
        return [self._best(row["customer_id"], json.loads(row["features"])) for row in model_input.to_dict("records")]

    def _best(self, customer_id: str, features: dict[str, Any]) -> list[dict[str, Any]]:
        affinity = self.release.recommender.taste(customer_id, features, self.taste_side)
        p_accept = self.release.acceptance.p_accept(features, self.context, affinity, self.acceptance_side)
        scores = p_accept * self.values
        best = np.argsort(-scores)[:3]
        return [
            {"offer_id": self.offers[at].offer_id, "score": float(scores[at]), "p_accept": float(p_accept[at])}
            for at in best
        ]


mlflow.models.set_model(Acceptance())
