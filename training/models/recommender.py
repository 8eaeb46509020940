"""The recommender: LightFM beside popularity and own frequency, chosen by NDCG@10 on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from features.data_settings import Recommender
from features.errors import NotTrainable
from features.events import US_PER_DAY
from training.evaluate import Interval, mean_interval, verdict
from training.interactions import Interactions
from training.models.lightfm import LightfmFit, LightfmSettings, fit_lightfm, without_factors
from training.models.popularity import PopularitySettings, fit_popularity
from training.ranking import Ranking, n_judgeable, rank
from training.scorers import FactorScorer, PopularityScorer, UncalibratedAcceptance

FIGURE = "ndcg_at_10"
PRIOR = 0.02  # stated, not measured: P(accept) of an offer of average affinity where no impression was logged
MIN_INTERACTIONS, MIN_JUDGED = 100, 20
JUDGED_WHILE_FITTING = 1000  # validation customers behind each early-stopping and tuning figure
HALF_LIVES = (None, 30.0, 14.0, 7.0)
TRENDS = tuple(product((30.0, 7.0), (0.5, 1.0, 2.0, 4.0)))  # half-life in days, weight
OWN_WEIGHTS = (2.0, 4.0, 8.0, 16.0)
OWN_HALF_LIFE_DAYS = 180.0
FitsScorer = Callable[[Interactions, int], FactorScorer | PopularityScorer]
Say = Callable[[str], None]


class Recipe(msgspec.Struct, frozen=True):
    """All it takes to fit the chosen recommender again on other interactions."""

    model: str  # a key of FITS
    params: dict[str, Any] = {}
    epochs: int = 0
    trend_half_life_days: float = 30.0
    trend: float = 0.0  # weight of recent popularity beside the factors
    own: float = 0.0  # weight of the customer's own past, where offers may be repeated
    repeats: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """One recommender that was tried."""

    recipe: Recipe
    name: str
    validation: dict[str, float]
    test: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RecommenderFit:
    """The choice, how it was made, and the scorers that serve: fitted again on everything up to the end."""

    recipe: Recipe
    scorer: FactorScorer | PopularityScorer
    popularity: PopularityScorer
    prior: UncalibratedAcceptance
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    baseline: Candidate
    ranking: Ranking  # of the chosen one on the test part
    gain: Interval  # of NDCG@10 over the baseline
    metrics: dict[str, float]
    slices: pd.DataFrame
    curve: tuple[float, ...]
    validation_from_us: int
    test_from_us: int
    until_us: int

    @property
    def verdict(self) -> str:
        return "is the baseline" if self.chosen is self.baseline else verdict(self.gain)


def fit_recipe(past: Interactions, until_us: int, recipe: Recipe) -> FactorScorer | PopularityScorer:
    """The recommender of a recipe, fitted on `past`."""
    if recipe.model == "popularity":
        return fit_popularity(past, until_us, PopularitySettings(**recipe.params))
    return blend(fit_factors(past, until_us, recipe), past, until_us, recipe)


def fit_factors(past: Interactions, until_us: int, recipe: Recipe) -> FactorScorer:
    """What a recipe blends with trend and own past; nothing at all for `own_frequency`."""
    if recipe.model == "own_frequency":
        return without_factors(past, np.unique(past.customer).astype(np.int64), repeats=recipe.repeats)
    settings = LightfmSettings(**recipe.params)
    return fit_lightfm(past, until_us, settings, recipe.seed, repeats=recipe.repeats, epochs=recipe.epochs).scorer


def blend(base: FactorScorer, past: Interactions, until_us: int, recipe: Recipe) -> FactorScorer:
    """Affinity plus recent popularity plus the log of how often the customer took the offer before."""
    trend = fit_popularity(past, until_us, PopularitySettings(recipe.trend_half_life_days))
    _, counts = past.pairs(until_us, OWN_HALF_LIFE_DAYS)
    return replace(
        base,
        offer_biases=(base.offer_biases + recipe.trend * trend.scores).astype(np.float32),
        new_offer_bias=base.new_offer_bias + recipe.trend * trend.new_offer_score,
        taken_boost=(recipe.own * np.log1p(counts)).astype(np.float32),
    )


def learn_recommender(
    interactions: Interactions,
    profiles_at: Callable[[Sequence[str], int], list[dict[str, Any]]],
    rules: Recommender,
    until_us: int,
    seed: int,
    say: Say = lambda what: None,
) -> RecommenderFit:
    """Split by time, tune and choose on validation, judge on test, fit the choice again on everything.

    `NotTrainable` with the numbers when a part holds too little.
    """
    interactions = interactions.before(until_us)
    test_us = until_us - rules.test_days * US_PER_DAY
    validation_us = test_us - rules.validation_days * US_PER_DAY
    _check(interactions, rules, validation_us, test_us)

    def known(us: int) -> Interactions:
        return replace(interactions.before(us), profiles=profiles_at(interactions.customers, us))

    train, before_test = known(validation_us), known(test_us)
    validation, test = interactions.between(validation_us, test_us), interactions.between(test_us, until_us)

    def judge(scorer: FactorScorer | PopularityScorer) -> dict[str, float]:
        return rank(scorer, train, validation, repeats=rules.repeats, at_most=JUDGED_WHILE_FITTING).metrics()

    tried = _baselines(train, validation_us, rules, judge, seed)
    baseline = _best(tried)
    say("LightFM: validation")
    lightfm, fit = _lightfm(train, validation_us, rules, judge, seed)
    tried += lightfm
    chosen = _best(lightfm)
    pair = blend(fit.scorer, train, validation_us, chosen.recipe), fit_recipe(train, validation_us, baseline.recipe)
    first, second = (rank(one, train, validation, repeats=rules.repeats) for one in pair)
    if _gain(first, second, seed).estimate <= 0:
        chosen = baseline  # it was tuned on some of these customers only, and must be better on all of them
    say("LightFM: test")
    factors = fit_factors(before_test, test_us, lightfm[0].recipe)  # the same below every blend

    def ranked(candidate: Candidate, repeats: bool) -> Ranking:
        recipe = candidate.recipe
        of_lightfm = recipe.model == "lightfm"
        scorer = (
            blend(factors, before_test, test_us, recipe) if of_lightfm else fit_recipe(before_test, test_us, recipe)
        )
        return rank(scorer, before_test, test, repeats=repeats)

    reported = [c for c in tried if c in (chosen, baseline) or c.name in ("popularity", "lightfm")]
    rankings = {c.name: ranked(c, rules.repeats) for c in reported}
    unseen = {c.name: ranked(c, repeats=False) if rules.repeats else rankings[c.name] for c in reported}
    reported = [
        replace(c, test={**rankings[c.name].metrics(), **_prefixed("new_offers_", unseen[c.name].metrics())})
        for c in reported
    ]
    chosen = next(c for c in reported if c.name == chosen.name)
    baseline = next(c for c in reported if c.name == baseline.name)
    ranking = rankings[chosen.name]
    gain = _gain(ranking, rankings[baseline.name], seed)
    figure = mean_interval(ranking.ndcg[:, ranking.cutoffs.index(10)], np.random.default_rng(seed))
    say(f"{chosen.name}: everything")
    everything = known(until_us)
    scorer = fit_recipe(everything, until_us, chosen.recipe)
    popularity = fit_popularity(
        everything, until_us, PopularitySettings(_popular(tried).recipe.params["half_life_days"])
    )
    return RecommenderFit(
        recipe=chosen.recipe,
        scorer=scorer,
        popularity=popularity,
        prior=prior_of(scorer, everything),
        candidates=tuple(reported),
        chosen=chosen,
        baseline=baseline,
        ranking=ranking,
        gain=gain,
        metrics={
            **chosen.test,
            **_prefixed("baseline_", baseline.test),
            "ndcg_at_10_low": figure.low,
            "ndcg_at_10_high": figure.high,
            "ndcg_at_10_gain": gain.estimate,
            "ndcg_at_10_gain_low": gain.low,
            "ndcg_at_10_gain_high": gain.high,
            "n_judged": float(len(ranking.known)),
            "validation_ndcg_at_10": chosen.validation[FIGURE],
        },
        slices=_slices(ranking, rankings[baseline.name]),
        curve=fit.curve,
        validation_from_us=validation_us,
        test_from_us=test_us,
        until_us=until_us,
    )


def _check(interactions: Interactions, rules: Recommender, validation_us: int, test_us: int) -> None:
    """`NotTrainable` before anything is fitted."""
    if len(interactions.offers) < 2:
        raise NotTrainable("recommender", f"the catalogue has {len(interactions.offers)} offers, at least 2 are needed")
    train, before_test = interactions.before(validation_us), interactions.before(test_us)
    n_judged = (
        n_judgeable(train, interactions.between(validation_us, test_us), repeats=rules.repeats),
        n_judgeable(before_test, interactions.part(interactions.occurred_us >= test_us), repeats=rules.repeats),
    )
    if len(train) < MIN_INTERACTIONS or min(n_judged) < MIN_JUDGED:
        raise NotTrainable(
            "recommender",
            f"{len(train)} interactions before the validation part (at least {MIN_INTERACTIONS} are needed), and "
            f"{n_judged[0]} and {n_judged[1]} customers to judge by in the validation and test parts "
            f"(at least {MIN_JUDGED} are needed)",
        )


def _baselines(
    train: Interactions, until_us: int, rules: Recommender, judge: Callable[..., dict[str, float]], seed: int
) -> list[Candidate]:
    """Popularity at the best of its half-lives and, where offers may be repeated, the customer's own frequency."""

    def tried(name: str, recipe: Recipe) -> Candidate:
        return Candidate(recipe, name, judge(fit_recipe(train, until_us, recipe)))

    popular = [tried("popularity", Recipe("popularity", {"half_life_days": days})) for days in HALF_LIVES]
    found = [max(popular, key=lambda c: c.validation.get(FIGURE, 0.0))]
    if rules.repeats:
        half_life = found[0].recipe.params["half_life_days"] or 365.0
        own = Recipe("own_frequency", {}, 0, half_life, trend=0.5, own=100.0, repeats=True, seed=seed)
        found.append(tried("own_frequency", own))
    return found


def _lightfm(
    train: Interactions, until_us: int, rules: Recommender, judge: Callable[..., dict[str, float]], seed: int
) -> tuple[list[Candidate], LightfmFit]:
    """LightFM as it is, and with recent popularity and the own past weighed in."""
    settings = LightfmSettings()
    fit = fit_lightfm(
        train, until_us, settings, seed, repeats=rules.repeats, judge=lambda scorer: judge(scorer).get(FIGURE, 0.0)
    )
    plain = Recipe("lightfm", asdict(settings), fit.epochs, repeats=rules.repeats, seed=seed)

    def tried(recipe: Recipe) -> Candidate:
        return Candidate(recipe, "lightfm_blend", judge(blend(fit.scorer, train, until_us, recipe)))

    best = Candidate(plain, "lightfm", judge(fit.scorer))
    found = [best]
    steps: list[list[dict[str, float]]] = [
        [{"own": weight} for weight in OWN_WEIGHTS] if rules.repeats else [],
        [{"trend_half_life_days": days, "trend": weight} for days, weight in TRENDS],
    ]
    for step in steps:
        found += [tried(msgspec.structs.replace(best.recipe, **change)) for change in step]
        best = _best(found)
    return [found[0], *([best] if best is not found[0] else [])], fit


def _gain(one: Ranking, other: Ranking, seed: int) -> Interval:
    """NDCG@10 of one over the other, customer by customer."""
    at = one.cutoffs.index(10)
    return mean_interval(one.ndcg[:, at] - other.ndcg[:, at], np.random.default_rng(seed))


def _best(candidates: Sequence[Candidate]) -> Candidate:
    return max(candidates, key=lambda c: c.validation.get(FIGURE, 0.0))


def _popular(candidates: Sequence[Candidate]) -> Candidate:
    return next(c for c in candidates if c.name == "popularity")


def _prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _slices(ranking: Ranking, baseline: Ranking) -> pd.DataFrame:
    at = ranking.cutoffs.index(10)
    rows = []
    for value, inside in (("known", ranking.known), ("new", ~ranking.known)):
        if inside.any():
            rows.append(
                {
                    "slice": "customer",
                    "value": value,
                    "n_customers": int(inside.sum()),
                    "ndcg_at_10": float(ranking.ndcg[inside, at].mean()),
                    "recall_at_10": float(ranking.recall[inside, at].mean()),
                    "baseline_ndcg_at_10": float(baseline.ndcg[inside, at].mean()),
                }
            )
    return pd.DataFrame(rows)


def prior_of(scorer: FactorScorer | PopularityScorer, known: Interactions) -> UncalibratedAcceptance:
    """Centre and spread of affinity over up to 500 customers and all offers."""
    rows = np.unique(known.customer)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 500)).astype(int)]
    side = scorer.prepare(known.offers)
    affinity = np.concatenate(
        [scorer.affinity(known.customers[row], known.profiles[row], side) for row in rows.tolist()]  # type: ignore[arg-type]
    )
    return UncalibratedAcceptance("", PRIOR, float(affinity.mean()), max(float(affinity.std()), 1e-6))
