"""The recommender from the log: what is learned, and what its run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pandas as pd

from features.errors import NboError, NotFound, NotTrainable
from training.evaluation.kept import judged_bytes
from training.evaluation.pictures import by_candidate, by_cutoff, by_epoch, by_segment
from training.frame_scores import scored_by
from training.interactions import Interactions
from training.models.recipes import Offered, Recipe, Size, default_recipes
from training.models.recommender import RecommenderFit, cut, learn_from, learn_recommender
from training.registry import CHALLENGER, alias_of
from training.scorers import Scorer, json_bytes
from training.search import Found, Search, search_recipes
from training.steps.inputs import Inputs, Progress
from training.steps.kept import under
from training.tracking import Logged, files_of

SEARCH_WINDOWS = 3  # validation windows, where there is enough before the earliest


def learn_from_log(inputs: Inputs, interactions: Interactions, progress: Progress) -> RecommenderFit:
    end, say = _until(inputs, interactions), _told(progress)
    return learn_recommender(interactions, inputs.profiles_at, inputs.settings.recommender, end, inputs.seed, say)


def search_from_log(
    inputs: Inputs, interactions: Interactions, search: Search, client: Any, progress: Progress
) -> tuple[RecommenderFit, Found]:
    """Search first, then choose among the best of the models that were searched, as without a search."""
    end, say, rules = _until(inputs, interactions), _told(progress), inputs.settings.recommender
    say("reading the windows")
    parts = cut(interactions, inputs.profiles_at, rules, end, SEARCH_WINDOWS)
    plain = default_recipes(Size.of(parts.interactions), repeats=rules.repeats, seed=inputs.seed)
    found = search_recipes(
        inputs.home, client, parts.validation, search, plain=plain.recipes,
        as_of_us=inputs.as_of_us, repeats=rules.repeats, seed=inputs.seed, say=say,
    )  # fmt: skip
    return learn_from(parts, Offered(found.recipes, found.left_out), inputs.seed, say), found


def _until(inputs: Inputs, interactions: Interactions) -> int:
    if not len(interactions):
        kinds = ", ".join(sorted(inputs.settings.recommender.weights))
        raise NotTrainable("recommender", f"the log holds no {kinds} with an offer of the catalogue")
    return min(inputs.as_of_us, int(interactions.occurred_us[-1])) + 1


def _told(progress: Progress) -> Progress:
    return lambda what: progress(f"recommender: {what}")


def logged(fit: RecommenderFit, inputs: Inputs, found: Found | None = None) -> Logged:
    offers = [msgspec.to_builtins(offer) for offer in sorted(inputs.offers, key=lambda offer: offer.offer_id)]
    files = {
        "offers.json": json_bytes(offers),
        "recipe.json": msgspec.json.encode(fit.recipe),
        "judged.npz": judged_bytes(fit.ranking),
        **under("scorer", cast(Scorer, fit.scorer)),
        **under("popularity", fit.popularity),
        **under("prior", fit.prior),
    }
    candidates = [
        {
            "model": c.name, "part": part, **values, **(interval if part == "validation" else {}),
            "n_tried": c.n_tried, "recipe": msgspec.json.encode(c.recipe).decode(),
        }
        for c in fit.candidates
        for interval in ({"ndcg_at_10_low": c.interval.low, "ndcg_at_10_high": c.interval.high},)
        for part, values in (("validation", c.validation), ("test", c.test))
        if values
    ]  # fmt: skip
    left_out = [{"model": name, "why": why} for name, why in fit.left_out.items()]
    scored = scored_by(cast(Scorer, fit.scorer), sorted(inputs.offers, key=lambda offer: offer.offer_id))
    example = _example(fit, inputs, scored.optional)
    return Logged(
        params={
            "chosen": fit.chosen.name,
            "baseline": fit.baseline.name,
            **_flat(fit.recipe),
            "exclude_seen": fit.ranking.exclude_seen,
            "n_offers": len(inputs.offers),
            "n_windows": fit.n_windows,
            "validation_from_us": fit.validation_from_us,
            "test_from_us": fit.test_from_us,
            "until_us": fit.until_us,
        },
        metrics=fit.metrics,
        tags={
            **inputs.tags, "verdict": fit.verdict, "chosen": fit.chosen.name, "baseline": fit.baseline.name,
            "statement": fit.statement,
            **({} if found is None else {"search": found.study, "search_run": found.mlflow_run}),
        },
        files=files,
        tables={
            "candidates": pd.DataFrame(candidates),
            "slices": fit.slices,
            **({"left_out": pd.DataFrame(left_out)} if left_out else {}),
        },
        figures=_figures(fit),
        curves={"early_stopping_ndcg_at_10": fit.curve},
        example=example,
        output=scored.of(example),
        optional=scored.optional,
    )  # fmt: skip


def _example(fit: RecommenderFit, inputs: Inputs, attributes: tuple[str, ...]) -> pd.DataFrame:
    """Customers that the model knows, as they were at the end of its data; one that nobody is where it knows none."""
    known = list(getattr(fit.scorer, "customers", {}))[:2] or ["nobody"]
    profiles = inputs.profiles_at(known, fit.until_us)
    told = {name: [of.get(name) for of in profiles] for name in attributes}
    plain = {name: of for name, of in told.items() if all(isinstance(one, str | int | float | None) for one in of)}
    return pd.DataFrame({"customer_id": known, **{name: of for name, of in plain.items() if set(of) != {None}}})


def _figures(fit: RecommenderFit) -> dict[str, Any]:
    figures = {f"{metric}_by_k": by_cutoff(fit.on_test, metric) for metric in ("ndcg", "recall")}
    chosen_by = {c.name: c.interval for c in fit.candidates}
    figures["candidates"] = by_candidate(chosen_by, "Candidates on the validation windows", "NDCG@10")
    figures["segments"] = by_segment(fit.slices, "ndcg_at_10")
    if fit.curve:
        figures["early_stopping"] = by_epoch(fit.curve, fit.chosen.name)
    return figures


def _flat(recipe: Recipe) -> dict[str, Any]:
    found = msgspec.to_builtins(recipe)
    return {**found.pop("params"), **found}


def registered_recipe(client: Any) -> Recipe:
    """Of the challenger; `NotFound` if there is none, `NboError` if another version of this program wrote it."""
    number = alias_of(client, "recommender", CHALLENGER)
    if number is None:
        raise NotFound("recommender", CHALLENGER)
    return recipe_of_version(number, files_of(client, "recommender", number))


def recipe_of_version(number: str, files: Mapping[str, bytes]) -> Recipe:
    try:
        return msgspec.json.decode(files["recipe.json"], type=Recipe)
    except msgspec.ValidationError as error:
        raise NboError(
            f"recommender {number} was registered by an earlier version ({error}): run `nbo train recommender` first"
        ) from error
