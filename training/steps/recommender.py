"""The recommender from the log: what is learned, and what its run keeps."""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd

from features.errors import NotFound, NotTrainable
from training.interactions import Interactions
from training.models.recommender import Recipe, RecommenderFit, learn_recommender
from training.plots import recommender_figures
from training.registry import CHALLENGER, alias_of
from training.scorers import json_bytes
from training.steps.inputs import Inputs, Progress
from training.steps.kept import under
from training.tracking import Logged, files_of


def learn_from_log(inputs: Inputs, interactions: Interactions, progress: Progress) -> RecommenderFit:
    if not len(interactions):
        kinds = ", ".join(sorted(inputs.settings.recommender.weights))
        raise NotTrainable("recommender", f"the log holds no {kinds} with an offer of the catalogue")
    end = min(inputs.as_of_us, int(interactions.occurred_us[-1])) + 1
    say: Progress = lambda what: progress(f"recommender: {what}")  # noqa: E731
    return learn_recommender(interactions, inputs.profiles_at, inputs.settings.recommender, end, inputs.seed, say)


def logged(fit: RecommenderFit, inputs: Inputs) -> Logged:
    offers = [msgspec.to_builtins(offer) for offer in sorted(inputs.offers, key=lambda offer: offer.offer_id)]
    files = {
        "offers.json": json_bytes(offers),
        "recipe.json": msgspec.json.encode(fit.recipe),
        **under("scorer", fit.scorer),
        **under("popularity", fit.popularity),
        **under("prior", fit.prior),
    }
    candidates = [
        {"model": c.name, "part": part, **values, "recipe": msgspec.json.encode(c.recipe).decode()}
        for c in fit.candidates
        for part, values in (("validation", c.validation), ("test", c.test))
    ]
    known = list(getattr(fit.scorer, "customers", {}))[:3] or [""]
    return Logged(
        params={
            "chosen": fit.chosen.name,
            "baseline": fit.baseline.name,
            **_flat(fit.recipe),
            "n_offers": len(inputs.offers),
            "validation_from_us": fit.validation_from_us,
            "test_from_us": fit.test_from_us,
            "until_us": fit.until_us,
        },
        metrics=fit.metrics,
        tags={**inputs.tags, "verdict": fit.verdict, "chosen": fit.chosen.name, "baseline": fit.baseline.name},
        files=files,
        tables={"candidates": pd.DataFrame(candidates), "slices": fit.slices},
        figures=recommender_figures(fit),
        curves={"early_stopping_ndcg_at_10": fit.curve},
        example=pd.DataFrame({"customer_id": known}),
        output=[["offer"] * 10] * len(known),
    )


def _flat(recipe: Recipe) -> dict[str, Any]:
    found = msgspec.to_builtins(recipe)
    return {**found.pop("params"), **found}


def registered_recipe(client: Any) -> Recipe:
    number = alias_of(client, "recommender", CHALLENGER)
    if number is None:
        raise NotFound("recommender", CHALLENGER)
    return msgspec.json.decode(files_of(client, "recommender", number)["recipe.json"], type=Recipe)
