"""One function from a release and the log to a report of how it does, the same for every model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import msgspec

from features.catalogue import Offer
from features.errors import NotFound
from features.events import US_PER_DAY, from_us
from features.facts import Facts
from features.home import Home
from training.dataset import read_interactions
from training.evaluate import Interval
from training.evaluation import RankingReport, difference, evaluate, judged_by
from training.evaluation.compared import comparison
from training.evaluation.document import Report, png, shown, table
from training.evaluation.judged import Judged
from training.evaluation.pictures import by_cutoff, by_segment
from training.evaluation.segments import segment_table
from training.evaluation.validation import known_at
from training.interactions import Interactions
from training.models.recipes import Recipe, fit_recipe
from training.models.recommender import MIN_JUDGED
from training.read_back import read_back
from training.registry import CHALLENGER, CHAMPION, alias_of, read_pins
from training.scorers import FittedRecommender, read_scorer
from training.steps.inputs import Inputs, read_inputs
from training.steps.recommender import recipe_of_version
from training.tracking import RELEASE, TRAINING, files_of, tracking

CLASSIFIERS = ("acceptance", "churn")
CLASSIFIER_FIGURES = (
    ("auc", "AUC"), ("log_loss", "log loss"), ("brier", "Brier"), ("ece", "ECE"), ("top_lift", "lift at 10 %"),
)  # fmt: skip


@dataclass(frozen=True)
class Served:
    """The recommender of a release, as its run keeps it."""

    release: str
    version: str
    recipe: Recipe
    scorer: FittedRecommender
    popularity: FittedRecommender
    offers: tuple[str, ...]  # of the catalogue it was trained with
    test_from_us: int
    until_us: int
    tags: Mapping[str, str]


def report_release(
    home: Home,
    facts: Facts,
    release: str = CHALLENGER,
    *,
    against: str | None = CHAMPION,
    as_of: datetime,
    seed: int = 0,
) -> Report:
    """How a release ranks for the customers of the log: beside popularity, and beside another release if there is one.

    Judged is the scorer that serves, on what happened after it was trained; where the log holds too little of that,
    its recipe, fitted again on what was before its test part, and judged there. The report says which. Acceptance and
    churn are reported by what their runs found. `NotFound` if there is no such release or nothing to judge by.
    """
    with tracking(home) as client:
        number = _number(client, release)
        pins, _ = read_pins(client, number)
        served = _served(client, number)
        other = _other(client, against, number)
        same_test = _n_same_test(client, served)
        runs = {
            name: client.get_run(client.get_model_version(name, pinned).run_id).data
            for name in CLASSIFIERS
            if (pinned := pins.versions[name]) is not None
        }
    inputs = read_inputs(home, facts, as_of, seed)
    interactions = read_interactions(inputs.log, inputs.offers, inputs.settings)
    judged, how, again = _judged(inputs, interactions, served, other)
    reports = {name: evaluate(scorer, judged) for name, scorer in _scorers(judged, served, other, again).items()}
    ours = f"release {number}"
    text, data = comparison(reports, ours, seed)
    sentences = _sentences(reports, ours, _same_recipe(served, other) if again else (), seed)
    read = (
        f"{same_test} registered candidates have been judged on this test part, this one among them: the more there "
        "are, the more the best of them is flattered."
        if again
        else "Nothing was chosen by these customers."
    )
    parts = [
        f"# Release {number}\n",
        f"Recommender version {served.version}: {served.recipe.model}. As of {as_of.isoformat()}.\n",
        *(f"- {sentence}" for sentence in (*sentences, how, read, *_catalogue(served, inputs.offers))),
        "\n## Recommender\n",
        text,
        "![NDCG by cut-off](ndcg_by_k.png) ![by segment](segments.png)\n",
        *(_classifier(name, pins.versions[name], runs.get(name), pins.not_trainable.get(name)) for name in CLASSIFIERS),
    ]
    segments = segment_table(reports[ours], reports["popularity"], seed)
    return Report(
        "\n".join(parts),
        {
            "release": number,
            "recommender": {"version": served.version, "recipe": msgspec.to_builtins(served.recipe), **data},
            "judged": "again" if again else "as served",
            "cut_us": judged.cut_us,
            "as_of": as_of.isoformat(),
            "sentences": sentences,
            "n_candidates_on_this_test": same_test if again else None,
            "classifiers": {name: dict(run.metrics) for name, run in runs.items()},
            "not_trainable": dict(pins.not_trainable),
        },
        {
            "ndcg_by_k.png": png(by_cutoff(reports, "ndcg")),
            "segments.png": png(by_segment(segments, other="popularity")),
        },
    )


def _number(client: Any, release: str) -> str:
    number = alias_of(client, RELEASE, release) if release in (CHALLENGER, CHAMPION) else release
    if number is None:
        raise NotFound("release", release)
    return number


def _other(client: Any, against: str | None, number: str) -> Served | None:
    """The release to compare with; None if it is the same one, or there is none yet."""
    if against is None or (against == CHAMPION and alias_of(client, RELEASE, CHAMPION) is None):
        return None
    named = _number(client, against)
    return None if named == number else _served(client, named)


def _served(client: Any, number: str) -> Served:
    pins, _ = read_pins(client, number)
    version = pins.versions["recommender"]
    assert version is not None  # a release always has one
    files = files_of(client, "recommender", version)
    of = f"recommender {version}"
    with read_back(of, "offers.json"):
        offers = tuple(offer["offer_id"] for offer in msgspec.json.decode(files["offers.json"]))
    with read_back(of, "recipe.json"):
        recipe = recipe_of_version(version, files)
    with read_back(of, "scorer"):
        scorer = cast(FittedRecommender, read_scorer(files, "scorer", offers))
    with read_back(of, "popularity"):
        popularity = cast(FittedRecommender, read_scorer(files, "popularity", offers))
    run = client.get_run(client.get_model_version("recommender", version).run_id).data
    return Served(
        release=number,
        version=version,
        recipe=recipe,
        scorer=scorer,
        popularity=popularity,
        offers=offers,
        test_from_us=int(run.params["test_from_us"]),
        until_us=int(run.params["until_us"]),
        tags=run.tags,
    )


def _n_same_test(client: Any, served: Served) -> int:
    """Registered recommenders that were judged on the same test part."""
    experiments = [client.get_experiment_by_name(one).experiment_id for one in ("recommender", TRAINING)]
    where = f"params.test_from_us = '{served.test_from_us}' and params.until_us = '{served.until_us}'"
    return len(client.search_runs(experiments, where, max_results=1000))


def _judged(
    inputs: Inputs, interactions: Interactions, served: Served, other: Served | None
) -> tuple[Judged, str, bool]:
    """Who is judged, how in a sentence, and whether recipes are fitted again; `NotFound` where nobody can be."""
    exclude_seen = not served.recipe.repeats
    since_us = max(served.until_us, other.until_us if other is not None else 0)
    later = _cut(inputs, interactions, since_us, int(interactions.occurred_us[-1]) + 1, exclude_seen)
    if len(later) >= MIN_JUDGED:
        days = (int(interactions.occurred_us[-1]) - since_us) / US_PER_DAY
        return later, f"The scorers that serve are judged on the {days:.1f} days after they were trained.", False
    judged = _cut(inputs, interactions, served.test_from_us, served.until_us, exclude_seen)
    if not len(judged):
        raise NotFound("customer to judge by after", from_us(served.test_from_us).isoformat())
    return (
        judged,
        f"The log holds {len(later)} customers to judge by after the training (at least {MIN_JUDGED} are needed): the "
        f"recipes are fitted again on what was before {from_us(served.test_from_us):%Y-%m-%d %H:%M} and judged on what "
        "came after it, the test part.",
        True,
    )


def _cut(inputs: Inputs, interactions: Interactions, cut_us: int, end_us: int, exclude_seen: bool) -> Judged:
    past = known_at(interactions, inputs.profiles_at, cut_us)
    return judged_by(past, interactions.between(cut_us, end_us), exclude_seen=exclude_seen, cut_us=cut_us)


def _scorers(judged: Judged, served: Served, other: Served | None, again: bool) -> dict[str, FittedRecommender]:
    if not again:
        found = {f"release {served.release}": served.scorer, "popularity": served.popularity}
        return found | ({f"release {other.release}": other.scorer} if other is not None else {})

    def fitted(recipe: Recipe) -> FittedRecommender:
        return fit_recipe(judged.past, judged.cut_us, recipe)

    found = {
        f"release {served.release}": fitted(served.recipe),
        "popularity": fitted(_popularity(served.recipe.repeats)),
    }
    return found | ({f"release {other.release}": fitted(other.recipe)} if other is not None else {})


def _popularity(repeats: bool) -> Recipe:
    return Recipe("popularity", {"repeats": repeats})


def _same_recipe(served: Served, other: Served | None) -> tuple[str, ...]:
    """Who is fitted again by the very recipe of this release."""
    others = {"popularity": _popularity(served.recipe.repeats)}
    if other is not None:
        others[f"release {other.release}"] = other.recipe
    return tuple(name for name, recipe in others.items() if recipe == served.recipe)


def _sentences(reports: Mapping[str, RankingReport], ours: str, same: Collection[str], seed: int) -> list[str]:
    said = []
    for name, report in reports.items():
        if name in same:
            said.append(
                f"{ours.capitalize()} has the same recipe as {name}: fitted again, there is nothing to compare."
            )
        elif name != ours:
            gain = difference(reports[ours], report, "ndcg", 10, seed)
            word = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not better"
            said.append(f"{ours.capitalize()} is {word} than {name}: NDCG@10 {shown(gain, signed=True)}.")
    return said


def _catalogue(served: Served, offers: tuple[Offer, ...]) -> list[str]:
    now = {offer.offer_id for offer in offers}
    came, left = len(now - set(served.offers)), len(set(served.offers) - now)
    if not came and not left:
        return []
    return [f"The catalogue has changed since the training: {came:,} offers are new, {left:,} are gone."]


def _classifier(name: str, version: str | None, run: Any, why: str | None) -> str:
    """What the run of a classifier found on its own test part."""
    if run is None:
        return f"## {name.capitalize()}\n\nThere is none: {why or 'it was not trained'}.\n"
    m = run.metrics

    def interval(metric: str) -> Interval:
        nan = float("nan")
        return Interval(m.get(metric, nan), m.get(f"{metric}_low", nan), m.get(f"{metric}_high", nan))

    rows = [
        [
            title, shown(interval(key)), f"{m[f'baseline_{key}']:.4f}" if f"baseline_{key}" in m else "–",
            shown(interval(f"{key}_gain"), signed=True),
        ]
        for key, title in CLASSIFIER_FIGURES
        if key in m
    ]  # fmt: skip
    head = ["", f"{run.tags.get('chosen', 'model')}", f"{run.tags.get('baseline', 'baseline')}", "gain"]
    return (
        f"## {name.capitalize()}\n\nVersion {version}, judged on its own test part, {m.get('n_test', 0):,.0f} rows of "
        f"a later time; verdict: {run.tags.get('verdict', 'none')}.\n\n{table(head, rows)}"
    )
