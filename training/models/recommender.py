"""The recommender that serves: chosen among all by NDCG@10 on validation windows, judged once on the test part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from features.data_settings import Recommender
from features.errors import BadInput, NotTrainable
from features.events import US_PER_DAY
from training.evaluate import Interval, verdict
from training.evaluation import RankingReport, difference, evaluate, intervals, judged_by, segment_table
from training.evaluation.validation import ProfilesAt, Validation, known_at, validation_of
from training.interactions import Interactions
from training.models.base import check_interactions
from training.models.recipes import BASELINES, Offered, Recipe, Size, default_recipes, fit_recipe
from training.models.tried import AT, FIGURE, METRIC, Tried, tried
from training.scorers import FittedRecommender, PopularityScorer, UncalibratedAcceptance

PRIOR = 0.02  # stated, not measured: P(accept) of an offer of average affinity where no impression was logged
MIN_INTERACTIONS, MIN_JUDGED = 100, 20
N_WINDOWS = 2  # validation windows, where there is enough before the earlier one
ONE_WINDOW_ABOVE = 2_000_000  # interactions: every further window is a further fit of everything
JUDGED_PER_WINDOW = 5_000  # customers, evenly spread
Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """The best that was tried of one model."""

    name: str
    recipe: Recipe
    validation: dict[str, float]
    interval: Interval  # of NDCG@10 on validation
    n_tried: int
    test: dict[str, float] = field(default_factory=dict)  # empty: it was not read for this candidate


@dataclass(frozen=True)
class RecommenderFit:
    """The choice, how it was made, and the scorers that serve: fitted again on everything up to the end."""

    recipe: Recipe
    scorer: FittedRecommender
    popularity: PopularityScorer
    prior: UncalibratedAcceptance
    candidates: tuple[Candidate, ...]  # by validation, best first
    left_out: dict[str, str]  # model -> why it was not tried
    chosen: Candidate
    baseline: Candidate  # the best of BASELINES on validation
    on_test: Mapping[str, RankingReport]  # of chosen, baseline and popularity, by name: all who were judged there
    gain: Interval  # of NDCG@10 over the baseline, on the test part
    over_popularity: Interval  # and over popularity
    metrics: dict[str, float]
    slices: pd.DataFrame
    curve: tuple[float, ...]  # validation NDCG@10 by epoch, of a chosen model that has epochs
    n_windows: int
    validation_from_us: int
    test_from_us: int
    until_us: int

    @property
    def ranking(self) -> RankingReport:
        """Of the chosen one on the test part."""
        return self.on_test[self.chosen.name]

    @property
    def verdict(self) -> str:
        return "is the baseline" if self.chosen.name == self.baseline.name else verdict(self.gain)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the report must know, one sentence each."""
        return (self.statement, *(f"{name} was not tried: {why}." for name, why in self.left_out.items()))

    @property
    def statement(self) -> str:
        """Whether the choice is worth its trouble, in one sentence."""
        seen = "new offers only" if self.ranking.exclude_seen else "offers taken before count"
        over = self.over_popularity
        by = f"{over.estimate:+.4f} [{over.low:+.4f}, {over.high:+.4f}] NDCG@10 on {len(self.ranking):,} customers"
        if self.chosen.name == "popularity":
            return f"Nothing that was tried is better than popularity ({seen})."
        said = "better" if over.low > 0 else "worse" if over.high < 0 else "not better"
        return f"{self.chosen.name} is {said} than popularity: {by} of the test part, {seen}."


@dataclass(frozen=True)
class Parts:
    """The log, cut by time before anything is fitted."""

    interactions: Interactions
    validation: Validation
    test_us: int
    until_us: int
    rules: Recommender
    profiles_at: ProfilesAt


def cut(
    interactions: Interactions,
    profiles_at: ProfilesAt,
    rules: Recommender,
    until_us: int,
    n_windows: int = N_WINDOWS,
) -> Parts:
    """Up to `n_windows` validation windows, then the test part; `NotTrainable` with the numbers if one is too small.

    `BadInput` that names the field for what no log can hold: weights that are no numbers above 0, ids that are twice.
    """
    for name in ("validation_days", "test_days"):
        if getattr(rules, name) < 1:
            raise BadInput(f"{name} == {getattr(rules, name)}, must be at least 1", name)
    interactions = interactions.before(until_us)
    test_us = until_us - rules.test_days * US_PER_DAY
    validation_us = test_us - rules.validation_days * US_PER_DAY
    _check(interactions, rules, validation_us, test_us)
    check_interactions(interactions, until_us, "recommender")
    n = n_windows if len(interactions) <= ONE_WINDOW_ABOVE else 1
    validation = validation_of(
        interactions, profiles_at, test_us,
        days=rules.validation_days, n=n, exclude_seen=not rules.repeats, at_most=JUDGED_PER_WINDOW,
    )  # fmt: skip
    return Parts(interactions, validation, test_us, until_us, rules, profiles_at)


def learn_recommender(
    interactions: Interactions,
    profiles_at: ProfilesAt,
    rules: Recommender,
    until_us: int,
    seed: int,
    say: Say = lambda what: None,
) -> RecommenderFit:
    """Split by time, choose on validation, judge once on test, fit the choice again on everything.

    `NotTrainable` with the numbers when a part holds too little.
    """
    parts = cut(interactions, profiles_at, rules, until_us)
    offered = default_recipes(Size.of(parts.interactions), repeats=rules.repeats, seed=seed)
    return learn_from(parts, offered, seed, say)


def learn_from(parts: Parts, offered: Offered, seed: int, say: Say = lambda what: None) -> RecommenderFit:
    """The same, of the recipes that are offered; popularity is always among them."""
    found, left_out = _tried_all(parts.validation, offered, say)
    candidates = sorted(
        (_candidate(of_model, seed) for of_model in found.values()), key=lambda c: -c.validation[FIGURE]
    )
    names = {
        "chosen": candidates[0].name,
        "baseline": next(c.name for c in candidates if c.name in BASELINES),
        "popularity": "popularity",
    }
    say(f"{names['chosen']}: test")
    before_test = known_at(parts.interactions, parts.profiles_at, parts.test_us)
    test = {c.name: _on_test(parts, before_test, c.recipe) for c in candidates if c.name in names.values()}
    candidates = [replace(c, test=_test_figures(*test[c.name])) if c.name in test else c for c in candidates]
    chosen, baseline, popularity = (next(c for c in candidates if c.name == name) for name in names.values())
    ranking, of_baseline = test[chosen.name][0], test[baseline.name][0]
    gain = difference(ranking, of_baseline, METRIC, AT, seed)
    over_popularity = difference(ranking, test["popularity"][0], METRIC, AT, seed)
    say(f"{chosen.name}: everything")
    everything = known_at(parts.interactions, parts.profiles_at, parts.until_us)
    scorer = fit_recipe(everything, parts.until_us, chosen.recipe)
    return RecommenderFit(
        recipe=chosen.recipe,
        scorer=scorer,
        popularity=_popularity(everything, parts.until_us, candidates),
        prior=prior_of(scorer, everything),
        candidates=tuple(candidates),
        left_out=left_out,
        chosen=chosen,
        baseline=baseline,
        on_test={name: report for name, (report, _) in test.items()},
        gain=gain,
        over_popularity=over_popularity,
        metrics={
            **chosen.test,
            **_prefixed("baseline_", baseline.test),
            **_prefixed("popularity_", popularity.test),
            **_bounds(intervals(ranking, [(METRIC, AT), ("recall", AT)], seed)),
            **_bounds({f"{FIGURE}_gain": gain, f"{FIGURE}_gain_over_popularity": over_popularity}),
            **_bounds({f"validation_{FIGURE}": chosen.interval}),
            "n_judged": float(len(ranking)),
            "n_left_out": float(ranking.n_left_out),
            "n_windows": float(len(parts.validation.windows)),
            "n_tried": float(sum(c.n_tried for c in candidates)),
        },
        slices=segment_table(ranking, of_baseline, seed),
        curve=max(found[chosen.name], key=lambda one: one.figure).curve,
        n_windows=len(parts.validation.windows),
        validation_from_us=parts.validation.windows[-1].cut_us,
        test_from_us=parts.test_us,
        until_us=parts.until_us,
    )


def _check(interactions: Interactions, rules: Recommender, validation_us: int, test_us: int) -> None:
    """`NotTrainable` before anything is fitted."""
    if len(interactions.offers) < 2:
        raise NotTrainable("recommender", f"the catalogue has {len(interactions.offers)} offers, at least 2 are needed")
    train = interactions.before(validation_us)
    n_judged = (
        _n_judged(train, interactions.between(validation_us, test_us), rules),
        _n_judged(interactions.before(test_us), interactions.part(interactions.occurred_us >= test_us), rules),
    )
    if len(train) < MIN_INTERACTIONS or min(n_judged) < MIN_JUDGED:
        raise NotTrainable(
            "recommender",
            f"{len(train)} interactions before the validation part (at least {MIN_INTERACTIONS} are needed), and "
            f"{n_judged[0]} and {n_judged[1]} customers to judge by in the validation and test parts "
            f"(at least {MIN_JUDGED} are needed)",
        )


def _n_judged(past: Interactions, future: Interactions, rules: Recommender) -> int:
    return len(judged_by(past, future, exclude_seen=not rules.repeats))


def _tried_all(validation: Validation, offered: Offered, say: Say) -> tuple[dict[str, list[Tried]], dict[str, str]]:
    """By model, in the order in which they were offered; and why a model is missing, as one that has too few data."""
    found: dict[str, list[Tried]] = {}
    left_out = dict(offered.left_out)
    for at, recipe in enumerate(offered.recipes, 1):
        say(f"{recipe.model}: validation, {at} of {len(offered.recipes)}")
        try:
            found.setdefault(recipe.model, []).append(tried(validation, recipe))
        except NotTrainable as error:
            if recipe.model in BASELINES:
                raise
            left_out[recipe.model] = error.reason
    return {name: of_model for name, of_model in found.items() if of_model}, left_out


def _candidate(of_model: Sequence[Tried], seed: int) -> Candidate:
    best = max(of_model, key=lambda one: one.figure)  # the first of equals, which are the defaults
    interval = best.report.interval(METRIC, AT, seed)
    return Candidate(best.recipe.model, best.recipe, best.report.metrics(), interval, len(of_model))


def _on_test(parts: Parts, before_test: Interactions, recipe: Recipe) -> tuple[RankingReport, RankingReport]:
    """By the rules, and for new offers only; one fit."""
    scorer = fit_recipe(before_test, parts.test_us, recipe)
    future = parts.interactions.part(parts.interactions.occurred_us >= parts.test_us)

    def report(exclude_seen: bool) -> RankingReport:
        return evaluate(scorer, judged_by(before_test, future, exclude_seen=exclude_seen, cut_us=parts.test_us))

    ruled = report(not parts.rules.repeats)
    return ruled, report(True) if parts.rules.repeats else ruled


def _test_figures(ruled: RankingReport, new_offers: RankingReport) -> dict[str, float]:
    return {**ruled.metrics(), **_prefixed("new_offers_", new_offers.metrics())}


def _popularity(everything: Interactions, until_us: int, candidates: Sequence[Candidate]) -> PopularityScorer:
    """What stands in where the recommender cannot answer: the better kind of popularity."""
    best = next(c for c in candidates if c.name in ("popularity", "recent_popularity"))
    scorer = fit_recipe(everything, until_us, best.recipe)
    assert isinstance(scorer, PopularityScorer)
    return scorer


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _bounds(of: Mapping[str, Interval]) -> dict[str, float]:
    """An interval as three figures: name, name_low, name_high."""
    return {
        f"{name}{end}": value
        for name, interval in of.items()
        for end, value in (("", interval.estimate), ("_low", interval.low), ("_high", interval.high))
    }


def prior_of(scorer: FittedRecommender, known: Interactions) -> UncalibratedAcceptance:
    """Centre and spread of affinity over up to 500 customers and all offers."""
    rows = np.unique(known.customer)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 500)).astype(int)].tolist()
    side = scorer.prepare(known.offers)
    affinity = scorer.many([known.customers[row] for row in rows], [known.profiles[row] for row in rows], side)
    return UncalibratedAcceptance("", PRIOR, float(affinity.mean()), max(float(affinity.std()), 1e-6))
