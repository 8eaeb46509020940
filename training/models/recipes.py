"""Which recommenders are tried unasked, with which parameters, and what of it a catalogue of a size can afford."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from features.errors import BadInput
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.models.base import RecommenderModel
from training.scorers import FittedRecommender

BASELINES = ("popularity", "recent_popularity", "own_frequency")
AFFORDED_S = 60.0  # of one fit on one core, as estimated: what is dearer is left out unless it is asked for
TUNED_WITHIN_S = 0.3  # of one fit: what is cheaper is tried with a few drawn parameters beside its defaults
N_DRAWN = 4


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All it takes to fit a recommender again on other interactions."""

    model: str  # a key of RECOMMENDERS
    params: dict[str, Any] = {}  # what is left out has the model's default
    seed: int = 0

    @property
    def repeats(self) -> bool:
        """Whether what a customer took before may be recommended again."""
        return bool({**RECOMMENDERS[self.model].defaults, **self.params}.get("repeats", False))


def fit_recipe(past: Interactions, until_us: int, recipe: Recipe) -> FittedRecommender:
    """The recommender of a recipe, fitted on `past`, all of which is before `until_us`."""
    return model_of(recipe.model).fit(past, until_us, recipe.params, recipe.seed)


def model_of(name: str) -> RecommenderModel:
    """`BadInput` if there is no such model."""
    try:
        return RECOMMENDERS[name]
    except KeyError:
        raise BadInput(f"{name!r} is no recommender; expected one of {', '.join(RECOMMENDERS)}", "model") from None


@dataclass(frozen=True, slots=True)
class Size:
    """What a fit's time depends on."""

    n_pairs: int  # different (customer, offer)
    n_customers: int
    n_offers: int
    n_squared: int  # sum over customers of the square of how many different offers they took

    @classmethod
    def of(cls, past: Interactions) -> Size:
        lengths = np.diff(past.taken()[0])
        return cls(int(lengths.sum()), int((lengths > 0).sum()), len(past.offers), int((lengths**2).sum()))


def _item_item_s(size: Size) -> float:
    return 8e-8 * size.n_squared


def _ease_s(size: Size) -> float:
    return 7e-11 * size.n_offers**3 + 3e-8 * size.n_squared


# Seconds of one fit at its defaults on one core, measured on up to 0.4 million pairs and 3,000 offers.
SECONDS: Mapping[str, Callable[[Size], float]] = {
    "popularity": lambda size: 1.5e-7 * size.n_pairs,
    "recent_popularity": lambda size: 1.5e-7 * size.n_pairs,
    "own_frequency": lambda size: 1.6e-6 * size.n_pairs,
    "lightfm": lambda size: 8e-5 * size.n_pairs,
    "als": lambda size: 1.6e-5 * size.n_pairs,
    "ease": _ease_s,
    "item_knn": _item_item_s,
    "rp3beta": _item_item_s,
    "second_stage": lambda size: 0.4 + 3 * (_ease_s(size) + 2 * _item_item_s(size)) + 3e-5 * size.n_pairs,
}


# What is tried in place of a model that is too dear, and the seconds of that.
LIGHTER: Mapping[str, tuple[Mapping[str, Any], Callable[[Size], float]]] = {
    "second_stage": (
        {"parts": ("rp3beta", "item_knn")},  # without EASE, whose time grows with the cube of the catalogue
        lambda size: 0.4 + 6 * _item_item_s(size) + 3e-5 * size.n_pairs,
    )
}


def estimated_s(name: str, size: Size) -> float:
    return SECONDS[name](size) if name in SECONDS else 0.0


@dataclass(frozen=True, slots=True)
class Offered:
    """What a training tries: recipes in the order of RECOMMENDERS, and the models that it cannot afford."""

    recipes: tuple[Recipe, ...]
    left_out: Mapping[str, str]  # model -> why


def default_recipes(size: Size, *, repeats: bool, seed: int, afforded_s: float = AFFORDED_S) -> Offered:
    """Every model at its defaults that a catalogue of this size affords; cheap ones with drawn parameters too.

    The same size and seed give the same recipes, on every machine: what is afforded is estimated, not timed.
    """
    recipes: list[Recipe] = []
    left_out: dict[str, str] = {}
    for name, model in RECOMMENDERS.items():
        if model.needs == "repeats" and not repeats:
            continue
        seconds = estimated_s(name, size)
        if seconds > afforded_s and name in LIGHTER and LIGHTER[name][1](size) <= afforded_s:
            recipes.append(recipe_of(model, LIGHTER[name][0], repeats=repeats, seed=seed))
            continue
        if seconds > afforded_s and name not in BASELINES:
            left_out[name] = f"a fit would take an estimated {seconds:,.0f} s, {afforded_s:,.0f} are afforded"
            continue
        recipes.append(recipe_of(model, {}, repeats=repeats, seed=seed))
        if seconds <= TUNED_WITHIN_S:
            recipes.extend(_drawn(model, repeats=repeats, seed=seed))
    return Offered(tuple(recipes), left_out)


def recipe_of(model: RecommenderModel, params: Mapping[str, Any], *, repeats: bool, seed: int) -> Recipe:
    """With every parameter, so that a later change of a default does not change what was registered."""
    return Recipe(model.name, {**model.defaults, **params, "repeats": repeats}, seed)


def _drawn(model: RecommenderModel, *, repeats: bool, seed: int) -> Iterator[Recipe]:
    """`N_DRAWN` recipes from the model's own search space; none if it has nothing to search."""
    for draw in range(N_DRAWN):
        suggest = Drawn(np.random.default_rng([seed, draw]))
        params = model.space(suggest)
        if suggest.asked:
            yield recipe_of(model, params, repeats=repeats, seed=seed)


@dataclass(slots=True)
class Drawn:
    """Answers what a search space asks at random, for a few tries without a search."""

    rng: np.random.Generator
    asked: list[str] = field(default_factory=list)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(name)
        if log:
            return float(math.exp(self.rng.uniform(math.log(low), math.log(high))))
        return float(self.rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return int(min(self.suggest_float(name, low, high + 1, log=log), high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked.append(name)
        return choices[int(self.rng.integers(len(choices)))]
