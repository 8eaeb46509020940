"""Training from lake and features to registered versions: read, split, fit, judge, log, pin as a release."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import Offer
from features.compute import built, current_features
from features.data_settings import DataSettings
from features.definitions import FeatureSet
from features.errors import BadInput, NotFound, NotTrainable
from features.events import US_PER_DAY, to_us
from features.facts import Facts
from features.history import customer_features_at, offer_features_at
from features.home import Home
from training.dataset import (
    Log,
    ProfilesAt,
    context_of,
    open_log,
    read_impressions,
    read_interactions,
    read_risks,
    snapshot_instants,
)
from training.encoder import relative
from training.interactions import Interactions
from training.models.acceptance import AcceptanceTable, learn_acceptance
from training.models.churn import ChurnTable, learn_churn
from training.models.classifier_fit import ClassifierFit
from training.models.recommender import MIN_INTERACTIONS, Recipe, RecommenderFit, fit_recipe, learn_recommender
from training.plots import classifier_figures, recommender_figures
from training.registry import CHALLENGER, Pins, alias_of, register_release
from training.scorers import AcceptanceScorer, ChurnScorer, Scorer, digest, json_bytes, scorer_files
from training.split import Split, blocks, split_instants, split_with_gap
from training.tracking import MODELS, Logged, files_of, log_model, tracking

Which = Literal["recommender", "acceptance", "churn", "all"]
Progress = Callable[[str], None]
MAX_ROWS = 300_000  # of a training table; more are thinned, evenly over time
N_BLOCKS = (
    6  # of what is before the acceptance test part, each with affinity from a recommender fitted on what came before it
)


@dataclass(frozen=True)
class ModelReport:
    """What became of one model. `version` is None where it was not trained."""

    name: str
    version: str | None
    chosen: str | None = None
    verdict: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    not_trainable: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainReport:
    """What one training did; `release` is None when a single model was trained before there was a recommender."""

    models: tuple[ModelReport, ...]
    release: str | None
    calibrated: bool
    data_digest: str
    as_of: str
    seconds: float


@dataclass(frozen=True)
class Inputs:
    """What every model is trained on."""

    home: Home
    facts: Facts
    log: Log
    settings: DataSettings
    offers: tuple[Offer, ...]  # the full catalogue
    features: FeatureSet
    profiles_at: ProfilesAt
    as_of_us: int
    seed: int

    @property
    def first_us(self) -> int:
        """The first instant for which features exist."""
        day = datetime.fromisoformat(f"{built(self.facts).days[0]}T00:00:00+00:00")
        return to_us(day)

    @property
    def tags(self) -> dict[str, str]:
        return {
            "data_digest": self.log.digest,
            "feature_set_digest": self.features.digest,
            "as_of_us": str(self.as_of_us),
            "seed": str(self.seed),
        }


def train(
    home: Home,
    facts: Facts,
    which: Which = "all",
    *,
    as_of: datetime,
    seed: int = 0,
    progress: Progress = lambda what: None,
) -> TrainReport:
    """Fit, judge on a later part, log and register as challenger; a release pins them.

    Trained alone, a model is released with the newest versions of the others. `NotTrainable` if the recommender, or
    the one model asked for, cannot be trained; with `all` the others are left out of the release and the report says
    why.
    """
    if which not in (*MODELS, "all"):
        raise BadInput(f"{which!r} is not a model; expected one of {', '.join(MODELS)} or all", "which")
    began = time.perf_counter()
    progress("reading the log")
    inputs = _inputs(home, facts, as_of, seed)
    with tracking(home) as client:
        recommender: RecommenderFit | None = None
        recipe, interactions = None, None
        reports: list[ModelReport] = []
        if which in ("recommender", "all"):
            interactions = read_interactions(inputs.log, inputs.offers, inputs.settings)
            started = time.perf_counter()
            recommender = _learn_recommender(inputs, interactions, progress)
            recipe = recommender.recipe
            number = log_model(client, "recommender", _logged_recommender(recommender, inputs))
            reports.append(_report("recommender", number, recommender.chosen.name, recommender, started))
        if which in ("acceptance", "all"):
            if recipe is None:
                recipe, interactions = (
                    _registered_recipe(client),
                    read_interactions(inputs.log, inputs.offers, inputs.settings),
                )
            assert interactions is not None
            reports.append(
                _classifier(
                    client,
                    inputs,
                    "acceptance",
                    which,
                    lambda: _learn_acceptance(inputs, interactions, recipe, progress),
                )
            )
        if which in ("churn", "all"):
            reports.append(_classifier(client, inputs, "churn", which, lambda: _learn_churn(inputs, progress)))
        progress("registering the release")
        release, calibrated = _release(client, inputs, reports, as_of)
    return TrainReport(
        tuple(reports), release, calibrated, inputs.log.digest, as_of.isoformat(), time.perf_counter() - began
    )


def _inputs(home: Home, facts: Facts, as_of: datetime, seed: int) -> Inputs:
    features = current_features(facts)
    as_of_us = to_us(as_of)
    return Inputs(
        home=home,
        facts=facts,
        log=open_log(home, facts, as_of_us),
        settings=facts.data_settings(),
        offers=facts.catalogue().offers,
        features=features,
        profiles_at=ProfilesAt(facts, features),
        as_of_us=as_of_us,
        seed=seed,
    )


# Recommender


def _learn_recommender(inputs: Inputs, interactions: Interactions, progress: Progress) -> RecommenderFit:
    if not len(interactions):
        kinds = ", ".join(sorted(inputs.settings.recommender.weights))
        raise NotTrainable("recommender", f"the log holds no {kinds} with an offer of the catalogue")
    end = min(inputs.as_of_us, int(interactions.occurred_us[-1])) + 1
    say: Progress = lambda what: progress(f"recommender: {what}")  # noqa: E731
    return learn_recommender(interactions, inputs.profiles_at, inputs.settings.recommender, end, inputs.seed, say)


def _logged_recommender(fit: RecommenderFit, inputs: Inputs) -> Logged:
    offers = [msgspec.to_builtins(offer) for offer in sorted(inputs.offers, key=lambda offer: offer.offer_id)]
    files = {
        "offers.json": json_bytes(offers),
        "recipe.json": msgspec.json.encode(fit.recipe),
        **_under("scorer", fit.scorer),
        **_under("popularity", fit.popularity),
        **_under("prior", fit.prior),
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


def _under(folder: str, scorer: Scorer) -> dict[str, bytes]:
    return {f"{folder}/{name}": body for name, body in scorer_files(scorer).items()}


def _flat(recipe: Recipe) -> dict[str, Any]:
    found = msgspec.to_builtins(recipe)
    return {**found.pop("params"), **found}


def _registered_recipe(client: Any) -> Recipe:
    number = alias_of(client, "recommender", CHALLENGER)
    if number is None:
        raise NotFound("recommender", CHALLENGER)
    return msgspec.json.decode(files_of(client, "recommender", number)["recipe.json"], type=Recipe)


# Acceptance


def _learn_acceptance(inputs: Inputs, interactions: Interactions, recipe: Recipe, progress: Progress) -> ClassifierFit:
    progress("acceptance: impressions and outcomes")
    found = read_impressions(inputs.log, inputs.offers, inputs.settings, inputs.first_us)
    n = len(found.rows)
    if not n:
        raise NotTrainable(
            "acceptance",
            f"the log holds 0 impressions that were watched to the end of their window by the instant of training "
            f"({found.n_immature} are too young, {found.n_unknown_offer} are of unknown offers)",
        )
    kept = thinned(n, MAX_ROWS)
    rows, accepted = found.rows.iloc[kept].reset_index(drop=True), found.accepted[kept]
    us = rows["us"].to_numpy(np.int64)
    split = split_with_gap(us, found.known_us[kept], rows["customer_id"].tolist())
    if split is None:
        raise NotTrainable("acceptance", f"{n} impressions lie on one day, too few for two parts in time")
    progress("acceptance: affinity, each block from a recommender of what came before")
    affinity = stacked_affinity(rows, interactions, inputs.profiles_at, recipe, split)
    progress("acceptance: features as of each impression")
    moments = pd.to_datetime(us, unit="us", utc=True)
    customers = customer_features_at(
        inputs.home, inputs.facts, pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": moments})
    )
    offers = offer_features_at(
        inputs.home, inputs.facts, pd.DataFrame({"offer_id": rows["offer_id"], "event_timestamp": moments})
    )
    by_id = {offer.offer_id: offer for offer in inputs.offers}
    table = AcceptanceTable(
        customers=rows["customer_id"].tolist(),
        offers=[by_id[offer_id] for offer_id in rows["offer_id"]],
        us=us,
        customer_features=customers,
        offer_features=offers,
        context=context_of(rows),
        affinity=affinity,
        is_new=rows["is_new"].to_numpy(np.bool_),
        y=accepted,
    )
    progress("acceptance: fitting")
    return learn_acceptance(inputs.features, inputs.offers, table, split, inputs.seed)


def stacked_affinity(
    rows: pd.DataFrame,
    interactions: Interactions,
    profiles_at: Callable[[Sequence[str], int], list[dict[str, Any]]],
    recipe: Recipe,
    split: Split,
) -> NDArray[np.float64]:
    """The affinity of each impression, from a recommender fitted only on what happened before the row's block.

    What is before the test part is cut into blocks by time; the test part is a block of its own. NaN where too little
    had happened before the block. Relative to the customer's mean over the catalogue, as serving reads it, and by taste
    alone: whether an offer may be recommended again says nothing of whether it would be accepted.
    """
    us = rows["us"].to_numpy(np.int64)
    starts = [*blocks(us, split.test_from_us, N_BLOCKS), split.test_from_us]
    ends = [*starts[1:], np.iinfo(np.int64).max]
    offer_row = {offer.offer_id: row for row, offer in enumerate(interactions.offers)}
    out = np.full(len(rows), np.nan)
    for start, end in zip(starts, ends, strict=True):
        at = np.flatnonzero((us >= start) & (us < end))
        past = interactions.before(start)
        if not len(at) or len(past) < MIN_INTERACTIONS:
            continue
        past = replace(past, profiles=profiles_at(past.customers, start))
        scorer = fit_recipe(past, start, recipe)
        side = scorer.prepare(interactions.offers)
        customers = rows["customer_id"].to_numpy(object)[at]
        names, of_row = np.unique(customers.astype(str), return_inverse=True)
        profiles = profiles_at(names.tolist(), start)
        offers = np.array([offer_row[offer_id] for offer_id in rows["offer_id"].to_numpy(object)[at]])
        order = np.argsort(of_row, kind="stable")
        bounds = np.searchsorted(of_row[order], np.arange(len(names) + 1))
        for customer, name in enumerate(names.tolist()):
            mine = order[bounds[customer] : bounds[customer + 1]]
            affinity = relative(scorer.taste(name, profiles[customer], side)[None, :])[0]  # type: ignore[arg-type]
            out[at[mine]] = affinity[offers[mine]]
    return out


# Churn


def _learn_churn(inputs: Inputs, progress: Progress) -> ClassifierFit:
    progress("churn: customers at risk")
    rules = inputs.settings.churn
    instants = snapshot_instants(inputs.first_us + US_PER_DAY, inputs.as_of_us, rules)
    ahead = rules.gap_days + rules.horizon_days
    earlier, test = split_instants(instants, ahead * US_PER_DAY)
    if not earlier:
        raise NotTrainable(
            "churn",
            f"{len(instants)} snapshot dates, {rules.every_days} days apart, whose label of {ahead} days is known; "
            f"too few for a test part that no earlier label reaches into",
        )
    risks = read_risks(inputs.log, [*earlier, *test], rules)
    kept = thinned(len(risks.rows), MAX_ROWS)
    rows = risks.rows.iloc[kept].reset_index(drop=True)
    us = rows["us"].to_numpy(np.int64)
    progress("churn: features as of each date")
    features = customer_features_at(
        inputs.home,
        inputs.facts,
        pd.DataFrame({"customer_id": rows["customer_id"], "event_timestamp": pd.to_datetime(us, unit="us", utc=True)}),
    )
    progress("churn: fitting")
    table = ChurnTable(rows["customer_id"].tolist(), us, features, risks.churned[kept])
    return learn_churn(inputs.features, table, earlier, test, inputs.seed)


def thinned(n: int, at_most: int) -> NDArray[np.int64]:
    """Positions of `at_most` of n rows, evenly spread; all if there are no more."""
    return np.arange(n) if n <= at_most else (np.arange(at_most) * n) // at_most


# Logging and release


def _classifier(
    client: Any, inputs: Inputs, name: str, which: Which, learn: Callable[[], ClassifierFit]
) -> ModelReport:
    started = time.perf_counter()
    try:
        fit = learn()
    except NotTrainable as error:
        if which == name:
            raise
        return ModelReport(name, None, not_trainable=error.reason, seconds=time.perf_counter() - started)
    number = log_model(client, name, _logged_classifier(name, fit, inputs))
    return _report(name, number, fit.chosen.name, fit, started)


def _report(name: str, number: str, chosen: str, fit: RecommenderFit | ClassifierFit, started: float) -> ModelReport:
    return ModelReport(name, number, chosen, fit.verdict, fit.metrics, seconds=time.perf_counter() - started)


def _logged_classifier(name: str, fit: ClassifierFit, inputs: Inputs) -> Logged:
    scorer: Scorer = AcceptanceScorer("", fit.classifier) if name == "acceptance" else ChurnScorer("", fit.classifier)
    tried = [
        {"model": t.name, "validation_log_loss": t.validation_log_loss, "params": json_bytes(dict(t.params)).decode()}
        for t in fit.tried
    ]
    calibration = [{"calibration": kind, "log_loss": loss} for kind, loss in fit.calibration_losses.items()]
    example = _example(fit)
    return Logged(
        params={
            "chosen": fit.chosen.name,
            "baseline": fit.baseline.name,
            "calibration": fit.classifier.calibration.kind,
            "n_columns": len(fit.classifier.encoder.columns),
            **fit.chosen.params,
        },
        metrics=fit.metrics,
        tags={**inputs.tags, "verdict": fit.verdict, "chosen": fit.chosen.name, "baseline": fit.baseline.name},
        files=_under("scorer", scorer),
        tables={
            "candidates": pd.DataFrame(tried),
            "calibration": pd.DataFrame(calibration),
            "slices": fit.slices,
            "reliability": fit.reliability,
            "columns": pd.DataFrame(
                [
                    {"column": c.name, "kind": "number" if c.values is None else "category"}
                    for c in fit.classifier.encoder.columns
                ]
            ),
        },
        figures=classifier_figures(fit),
        curves={"early_stopping_log_loss": fit.chosen.curve},
        example=example,
        output=np.zeros(len(example)),
    )


def _example(fit: ClassifierFit) -> pd.DataFrame:
    """Two rows by column name: the first value of each category, 1.0 for each number."""
    columns = fit.classifier.encoder.columns
    return pd.DataFrame({c.name: [1.0, 2.0] if c.values is None else [c.values[0], c.values[-1]] for c in columns})


def _release(client: Any, inputs: Inputs, reports: Sequence[ModelReport], as_of: datetime) -> tuple[str | None, bool]:
    """Pin what was trained now, and the challengers of what was not asked for."""
    versions: dict[str, str | None] = {r.name: r.version for r in reports}
    for name in MODELS:
        if name not in versions:
            versions[name] = alias_of(client, name, CHALLENGER)
    recommender = versions["recommender"]
    if recommender is None:
        return None, False
    runs = {
        name: client.get_run(client.get_model_version(name, number).run_id)
        for name, number in versions.items()
        if number is not None
    }
    offers = msgspec.json.decode(files_of(client, "recommender", recommender)["offers.json"])
    pins = Pins(
        versions=versions,
        calibrated=versions["acceptance"] is not None,
        feature_set_digest=inputs.features.digest,
        offer_map_sha256=digest(json_bytes([offer["offer_id"] for offer in offers])),
        verdicts={name: run.data.tags["verdict"] for name, run in runs.items()},
        metrics={name: dict(run.data.metrics) for name, run in runs.items()},
        not_trainable={r.name: r.not_trainable for r in reports if r.not_trainable is not None},
        data_digest=inputs.log.digest,
        as_of=as_of.isoformat(),
    )
    return register_release(client, pins, inputs.features), pins.calibrated
