"""How the recommender is chosen: by evidence on validation windows, judged once on test, said plainly."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from features.data_settings import Recommender
from features.errors import BadInput, NotTrainable
from tests.training.builders import interactions
from training.evaluate import Interval
from training.evaluation import judged_by
from training.evaluation.kept import judged_bytes, judged_from
from training.evaluation.validation import validation_of
from training.models import RECOMMENDERS
from training.models.base import RecommenderModel
from training.models.recipes import N_DRAWN, Offered, Recipe, Size, default_recipes, fit_recipe
from training.models.recommender import cut, learn_from, learn_recommender
from training.models.tried import EPOCHS, tried
from training.scorers import scorer_files

RULES = Recommender(repeats=True, validation_days=10, test_days=10, weights={"accept": 1.0})


@pytest.fixture(scope="module")
def past():
    return interactions()


def profiles_of(past):
    return lambda names, us: [past.profiles[int(name[1:])] for name in names]


@pytest.fixture(scope="module")
def end(past):
    return int(past.occurred_us[-1]) + 1


@pytest.fixture(scope="module")
def fit(past, end):
    few = [Recipe(name, {"repeats": True}) for name in ("popularity", "recent_popularity", "own_frequency", "lightfm")]
    return learn_from(cut(past, profiles_of(past), RULES, end), Offered(tuple(few), {"ease": "it is dear"}), 0)


def test_the_chosen_recommender_beats_popularity_on_planted_tastes(fit):
    assert fit.metrics["ndcg_at_10"] > fit.metrics["popularity_ndcg_at_10"]
    assert fit.over_popularity.low > 0
    assert 0 < fit.metrics["recall_at_3"] <= 1
    assert fit.statement.startswith(f"{fit.chosen.name} is better than popularity: +")
    assert "offers taken before count" in fit.statement
    assert fit.notes[1] == "ease was not tried: it is dear."


def test_the_choice_is_the_best_on_validation_and_the_test_part_is_read_for_what_is_reported(fit):
    figures = [c.validation["ndcg_at_10"] for c in fit.candidates]
    assert figures == sorted(figures, reverse=True)
    assert fit.chosen.name == fit.candidates[0].name
    read = {c.name for c in fit.candidates if c.test}
    assert read == {fit.chosen.name, fit.baseline.name, "popularity"}
    assert fit.n_windows == 2


def test_the_gain_is_paired_and_its_interval_is_in_the_metrics(fit):
    chosen, popular = fit.on_test[fit.chosen.name], fit.on_test["popularity"]
    assert chosen.customers == popular.customers
    gain = fit.metrics["ndcg_at_10"] - fit.metrics["popularity_ndcg_at_10"]
    assert fit.metrics["ndcg_at_10_gain_over_popularity"] == pytest.approx(gain)
    assert fit.metrics["ndcg_at_10_low"] < fit.metrics["ndcg_at_10"] < fit.metrics["ndcg_at_10_high"]


def upside_down(past, until_us, params, seed):
    scorer = RECOMMENDERS["popularity"].fit(past, until_us, {}, seed)
    return replace(scorer, scores=-scorer.scores)


def test_where_nothing_is_better_than_popularity_it_is_said_and_popularity_serves(past, end, monkeypatch):
    monkeypatch.setitem(RECOMMENDERS, "worst", RecommenderModel("worst", upside_down, lambda suggest: {}, {}))
    rng = np.random.default_rng(0)
    world = replace(past, offer=np.minimum(rng.geometric(0.3, len(past)) - 1, 11).astype(np.int32))  # one taste for all
    few = (Recipe("worst"), Recipe("popularity", {"repeats": True}))
    found = learn_from(cut(world, profiles_of(past), RULES, end), Offered(few, {}), 0)
    assert found.chosen.name == "popularity"
    assert found.verdict == "is the baseline"
    assert found.statement == "Nothing that was tried is better than popularity (offers taken before count)."


@pytest.mark.parametrize(
    ("gain", "said"),
    [((0.01, 0.002, 0.02), "better"), ((0.001, -0.01, 0.012), "not better"), ((-0.02, -0.03, -0.01), "worse")],
)
def test_better_is_said_only_where_the_whole_interval_is_above_zero(fit, gain, said):
    assert f" is {said} than popularity: " in replace(fit, over_popularity=Interval(*gain)).statement


def test_the_same_seed_and_data_give_the_same_recommender(past, end):
    recipes = (Recipe("popularity", {"repeats": True}), Recipe("own_frequency"))
    one, two = (learn_from(cut(past, profiles_of(past), RULES, end), Offered(recipes, {}), 3) for _ in range(2))
    assert scorer_files(one.scorer) == scorer_files(two.scorer)
    assert one.metrics == two.metrics


def test_a_plain_training_tries_every_model_that_the_catalogue_affords(past, end):
    said = []
    found = learn_recommender(past, profiles_of(past), RULES, end, 0, said.append)
    assert {c.name for c in found.candidates} == set(RECOMMENDERS)
    assert found.left_out == {}
    assert any("validation, 1 of" in step for step in said)
    assert found.chosen.validation["ndcg_at_10"] == max(c.validation["ndcg_at_10"] for c in found.candidates)


def test_what_a_catalogue_cannot_afford_is_left_out_with_the_reason():
    huge = Size(n_pairs=10_000_000, n_customers=500_000, n_offers=60_000, n_squared=4 * 10**10)
    offered = default_recipes(huge, repeats=False, seed=0)
    assert "ease" in offered.left_out
    assert "estimated" in offered.left_out["ease"]
    tried_models = [recipe.model for recipe in offered.recipes]
    assert tried_models[0] == "popularity"
    assert "own_frequency" not in tried_models  # makes no sense without repeats
    assert default_recipes(huge, repeats=False, seed=0) == offered


def test_a_catalogue_too_large_for_ease_has_a_second_stage_without_it():
    large = Size(n_pairs=300_000, n_customers=20_000, n_offers=30_000, n_squared=10**7)
    offered = default_recipes(large, repeats=True, seed=0)
    assert "ease" in offered.left_out
    second = next(recipe for recipe in offered.recipes if recipe.model == "second_stage")
    assert second.params["parts"] == ("rp3beta", "item_knn")


def test_a_lighter_second_stage_can_be_fitted(past, end):
    recipe = Recipe("second_stage", {"parts": ("rp3beta", "item_knn"), "repeats": True})
    scorer = fit_recipe(past, end, msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe))
    assert np.isfinite(scorer.many(past.customers[:3], [{}] * 3, scorer.prepare(past.offers))).all()


def test_cheap_models_are_tried_with_drawn_parameters_too():
    small = Size(n_pairs=1000, n_customers=100, n_offers=20, n_squared=10_000)
    recipes = [r for r in default_recipes(small, repeats=True, seed=0).recipes if r.model == "recent_popularity"]
    assert len(recipes) == 1 + N_DRAWN
    assert recipes[0].params == {**RECOMMENDERS["recent_popularity"].defaults, "repeats": True}
    assert len({msgspec.json.encode(recipe) for recipe in recipes}) == 1 + N_DRAWN


def test_epochs_stop_where_the_figure_stops_growing(past, end):
    validation = validation_of(past, profiles_of(past), end, days=10, n=1, exclude_seen=False)
    params = {"n_factors": 4, EPOCHS: 12, "repeats": True}
    found = tried(validation, Recipe("lightfm", params))
    epochs = found.recipe.params[EPOCHS]
    assert 1 <= epochs <= len(found.curve) <= 12
    assert found.curve[epochs - 1] >= 0.995 * max(found.curve)
    again = fit_recipe(validation.judged[0].past, validation.windows[0].cut_us, found.recipe)
    first = fit_recipe(
        validation.judged[0].past, validation.windows[0].cut_us, Recipe("lightfm", {**params, EPOCHS: epochs})
    )
    assert scorer_files(again) == scorer_files(first)


def test_validation_knows_nothing_of_the_test_part(past, end):
    parts = cut(past, profiles_of(past), RULES, end)
    assert parts.validation.end_us == parts.test_us
    for window, judged in zip(parts.validation.windows, parts.validation.judged, strict=True):
        assert int(judged.past.occurred_us.max()) < window.cut_us < window.end_us <= parts.test_us


def test_too_few_interactions_are_said_with_their_numbers(past):
    few = past.part(np.arange(len(past)) < 50)
    with pytest.raises(NotTrainable, match="interactions before the validation part"):
        learn_recommender(few, lambda names, us: [{}] * len(names), Recommender(), int(few.occurred_us[-1]) + 1, 0)


def test_one_offer_cannot_be_ranked(past, end):
    with pytest.raises(NotTrainable, match="at least 2"):
        learn_recommender(replace(past, offers=past.offers[:1]), profiles_of(past), RULES, end, 0)


def twice(past):
    return replace(past, customers=(*past.customers[:-1], past.customers[0]))


def same_offer_twice(past):
    return replace(past, offers=(*past.offers[:-1], past.offers[0]))


def weighing(value):
    return lambda past: replace(past, weight=np.where(np.arange(len(past)) == 3, value, past.weight).astype(np.float32))


@pytest.mark.parametrize(
    ("spoiled", "field"),
    [
        (weighing(np.nan), "weight"),
        (weighing(np.inf), "weight"),
        (weighing(0.0), "weight"),
        (twice, "customers"),
        (same_offer_twice, "offers"),
    ],
)
def test_what_no_log_can_hold_is_refused_by_name_before_anything_is_fitted(past, end, spoiled, field):
    said = []
    with pytest.raises(BadInput) as caught:
        learn_recommender(spoiled(past), lambda names, us: [{}] * len(names), RULES, end, 0, said.append)
    assert caught.value.field == field
    assert said == []


@pytest.mark.parametrize("days", ["validation_days", "test_days"])
def test_a_part_of_no_days_is_refused_by_name(past, end, days):
    with pytest.raises(BadInput, match="at least 1") as caught:
        cut(past, profiles_of(past), msgspec.structs.replace(RULES, **{days: 0}), end)
    assert caught.value.field == days


def test_parts_longer_than_the_log_are_not_trainable_with_the_numbers(past, end):
    rules = msgspec.structs.replace(RULES, validation_days=400)
    with pytest.raises(NotTrainable, match="0 interactions before the validation part"):
        cut(past, profiles_of(past), rules, end)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"age": float("nan"), "city": None}, {"age": 40.0, "city": "Bern"}, {"age": float("inf")}],
    ids=["none", "all missing", "all the same", "not finite"],
)
def test_attributes_that_say_nothing_do_no_harm(past, end, attributes):
    recipes = (Recipe("popularity", {"repeats": True}), Recipe("lightfm", {"repeats": True, "n_factors": 4, EPOCHS: 2}))
    parts = cut(past, lambda names, us: [dict(attributes) for _ in names], RULES, end)
    found = learn_from(parts, Offered(recipes, {}), 0)
    assert {c.name for c in found.candidates} == {"popularity", "lightfm"}
    assert all(np.isfinite(c.validation["ndcg_at_10"]) for c in found.candidates)


def test_a_model_with_too_few_data_is_left_out_with_its_reason(past, end, monkeypatch):
    def too_few(*_):
        raise NotTrainable("second_stage", "3 customers are too few")

    monkeypatch.setitem(RECOMMENDERS, "ease", replace(RECOMMENDERS["ease"], fit=too_few))
    recipes = (Recipe("popularity", {"repeats": True}), Recipe("ease"))
    found = learn_from(cut(past, profiles_of(past), RULES, end), Offered(recipes, {}), 0)
    assert found.left_out == {"ease": "3 customers are too few"}


def test_an_unknown_model_is_named_with_those_there_are(past, end):
    with pytest.raises(BadInput, match="'svd' is no recommender; expected one of popularity") as caught:
        fit_recipe(past, end, Recipe("svd"))
    assert caught.value.field == "model"


def test_without_repeats_what_was_taken_is_neither_ranked_nor_relevant(past):
    assert len(judged_by(past, past, exclude_seen=True)) == 0  # nobody wants anything that is new


def test_per_customer_figures_are_kept_as_bytes_that_repeat(fit):
    body = judged_bytes(fit.ranking)
    assert body == judged_bytes(fit.ranking)
    kept = judged_from(body, "recommender 1")
    assert kept.customers == fit.ranking.customers
    assert kept.exclude_seen is False
    np.testing.assert_allclose(kept.values["ndcg"], fit.ranking.values["ndcg"], atol=1e-6)
