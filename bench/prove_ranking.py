"""How well recommenders rank on Online Retail and msweb, by the protocol of the figures that are known for them.

Online Retail: everything before 2011-11-01 is the past, customers with a history who bought after it are judged, all
products sold until then are ranked, with ("any offer") or without ("new offers") what the customer had bought before.
msweb: a random half of each test visitor's areas is given and the rest is to be found; the models are fitted to the
visitors of the training file alone. Parameters were chosen on October 2011, and on training visitors; the test parts
are read here and nowhere else, once per run and model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.proof import Proof
from bench.ranking_data import msweb, online_retail
from training.evaluation import (
    Interval,
    Judged,
    RankingReport,
    evaluate,
    judged_by,
    mean_interval,
)
from training.fold_in import folded_in
from training.interactions import Interactions
from training.models import RECOMMENDERS
from training.scorers import BlendScorer, FittedRecommender

FIGURES = (("ndcg", 10), ("recall", 10))
PLAIN: dict[str, Any] = {"half_life_days": None}  # as the published item–item figures: whatever was taken counts alike
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Known:
    """What is known, and aimed at: NDCG@10 and Recall@10."""

    model: str
    known: tuple[float, float]
    target: tuple[float, float]


BEST: Mapping[str, Known] = {
    "new offers": Known("ease + .3 popularity", (0.114, 0.069), (0.118, 0.071)),
    "any offer": Known("own_frequency", (0.361, 0.171), (0.370, 0.175)),
    "msweb": Known("rp3beta", (0.589, 0.740), (0.595, 0.745)),
}
Models = Mapping[str, tuple[str, dict[str, Any]]]  # shown name -> model and parameters
RETAIL: Models = {
    "popularity": ("popularity", {}),
    "popularity, 30 days": ("recent_popularity", {"half_life_days": None, "window_days": 30.0}),
    "own_frequency": ("own_frequency", {"half_life_days": None}),
    "lightfm": ("lightfm", {}),
    "als": ("als", {}),
    "rp3beta": ("rp3beta", PLAIN),
    "item_knn": ("item_knn", PLAIN),
    "ease": ("ease", {**PLAIN, "l2": 500.0, "n_neighbours": 4000}),
}
RP3BETA: dict[str, Any] = {**PLAIN, "alpha": 1.2, "beta": 0.2, "n_neighbours": 294}
MSWEB_PARTS: dict[str, dict[str, Any]] = {
    "rp3beta": RP3BETA,
    "ease": {**PLAIN, "l2": 500.0, "n_neighbours": 294},
    "item_knn": PLAIN,
}
MSWEB: Models = {
    "popularity": ("popularity", {"half_life_days": None}),
    "item_knn": ("item_knn", MSWEB_PARTS["item_knn"]),
    "ease": ("ease", MSWEB_PARTS["ease"]),
    "rp3beta": ("rp3beta", RP3BETA),
    "second_stage": (
        "second_stage",
        {"parts": list(MSWEB_PARTS), "part_params": MSWEB_PARTS, "n_candidates": 150, "most_customers": 4000},
    ),
}
SLOW = ("lightfm", "als")  # left out of a quick run


@dataclass(frozen=True, slots=True)
class WithPopularity:
    """Another recommender's affinity plus recent popularity, each in standard deviations: the known single best."""

    base: FittedRecommender
    popular: np.ndarray[Any, Any]  # (n_offers,) customers who took the offer lately
    weight: float

    version = ""

    @property
    def offer_map(self) -> tuple[str, ...]:
        return self.base.offer_map

    def prepare(self, offers: Any) -> Any:
        return self.base.prepare(offers)

    def many(self, customers: Any, features: Any, side: Any) -> Any:
        said = self.base.many(customers, features, side).astype(np.float64)
        return _z(said) + self.weight * _z(self.popular[None].astype(np.float64))

    def affinity(self, customer_id: str, features: Any, side: Any) -> Any:
        return self.many([customer_id], [features], side)[0]

    taste = affinity


def _z(values: Any) -> Any:
    return (values - values.mean(axis=1, keepdims=True)) / np.maximum(values.std(axis=1, keepdims=True), 1e-12)


def ranking(proof: Proof) -> None:
    online_retail_ranking(proof)
    msweb_ranking(proof)


def online_retail_ranking(proof: Proof) -> None:
    retail = online_retail()
    past = retail.everything.before(retail.test_us)
    future = retail.everything.between(retail.test_us, retail.end_us)
    both = {
        name: _fitted(proof, "online_retail", past, retail.test_us, model, {**params, "repeats": True})
        for name, (model, params) in RETAIL.items()
        if not (proof.quick and name in SLOW)
    }  # whether what was taken is ranked again is for the evaluation to say
    both["ease + .3 popularity"] = WithPopularity(both["ease"], takers(past, retail.test_us, 30), 0.3)
    for what, repeats in (("new offers", False), ("any offer", True)):
        judged = with_history(past, future, retail.test_us, repeats=repeats)
        scorers = dict(both) if repeats else {name: of for name, of in both.items() if name != "own_frequency"}
        stage = {"repeats": repeats}
        scorers["second_stage"] = _fitted(proof, what, past, retail.test_us, "second_stage", stage)
        values = {name: _values(evaluate(of, judged, (10,), describe=False)) for name, of in scorers.items()}
        _shown(proof, f"online_retail, {what}", values, BEST[what])


def msweb_ranking(proof: Proof) -> None:
    values: dict[str, list[np.ndarray[Any, Any]]] = {}
    for seed in SEEDS[:1] if proof.quick else SEEDS:
        visits = msweb(seed)
        until = int(visits.train.occurred_us[-1]) + 1
        judged = judged_by(visits.given, visits.rest, exclude_seen=True)
        for name, (model, params) in MSWEB.items():
            scorer = _fitted(proof, f"msweb {seed}", visits.train, until, model, {**params, "repeats": False})
            report = evaluate(folded_in(scorer, visits.given), judged, (10,), describe=False)  # type: ignore[type-var]
            values.setdefault(name, []).append(_values(report))
    # A visitor's three halves are no three visitors: the mean over seeds is one value, so the visitor is what is drawn.
    _shown(proof, "msweb", {name: np.mean(of, axis=0) for name, of in values.items()}, BEST["msweb"])


def with_history(past: Interactions, future: Interactions, cut_us: int, *, repeats: bool) -> Judged:
    """Customers who had bought before the cut and took something afterwards that may be ranked."""
    judged = judged_by(past, future, exclude_seen=not repeats, cut_us=cut_us)
    return judged.part(np.flatnonzero(judged.n_taken > 0))


def takers(past: Interactions, until_us: int, days: int) -> np.ndarray[Any, Any]:
    """(n_offers,) customers who took each offer in the last days."""
    recent = past.part(past.occurred_us >= until_us - days * 86_400_000_000)
    pairs, _ = recent.pairs(until_us, None)
    return np.bincount(pairs % len(past.offers), minlength=len(past.offers))


def _fitted(
    proof: Proof, what: str, past: Interactions, until_us: int, model: str, params: dict[str, Any]
) -> FittedRecommender:
    started = time.perf_counter()
    known = RECOMMENDERS[model].defaults
    scorer = RECOMMENDERS[model].fit(past, until_us, {name: of for name, of in params.items() if name in known}, 0)
    proof.progress(f"{what}: {model} fitted in {time.perf_counter() - started:.0f} s")
    if isinstance(scorer, BlendScorer):
        weights = sorted(scorer.weights()["known"].items(), key=lambda one: -abs(one[1]))
        text = ", ".join(f"{term} {weight:+.2f}" for term, weight in weights if abs(weight) >= 0.05)
        print(f"\n{what}: {model} learned from {scorer.learned_from} customers, per standard deviation: {text}")
    return scorer


def _values(report: RankingReport) -> np.ndarray[Any, Any]:
    """(n_customers, 2) NDCG@10 and Recall@10."""
    return np.stack([report.at(metric, k) for metric, k in FIGURES], axis=1)


def _shown(proof: Proof, what: str, values: Mapping[str, np.ndarray[Any, Any]], best: Known) -> None:
    """The table, and the lines of the issue: not below the best known single method; the target is told."""
    ours = values["second_stage"]
    rows = []
    for name, of in values.items():
        cells = [_cell(of[:, at]) for at in range(2)]
        gain = "" if name == "second_stage" else _cell(ours[:, 0] - of[:, 0], sign=True)
        rows.append((name, *cells, gain))
    print(f"\n### {what}: {len(ours):,} customers")
    proof.table(("model", "NDCG@10", "Recall@10", "second stage minus it, NDCG@10, same customers"), rows)
    for at, metric in enumerate(("NDCG@10", "Recall@10")):
        reference = _interval(values[best.model][:, at])
        mean = float(ours[:, at].mean())
        proof.line(
            mean >= reference.low,
            f"{what}: second stage {metric} {mean:.4f} is not below {best.model}'s interval "
            f"{reference.estimate:.4f} [{reference.low:.4f}, {reference.high:.4f}] (known: {best.known[at]:.3f})",
        )
        met = "met" if round(mean, 3) >= best.target[at] else "NOT MET"
        print(f"target {what}: {metric} >= {best.target[at]:.3f}: {mean:.4f}, {met}")


def _interval(values: np.ndarray[Any, Any]) -> Interval:
    return mean_interval(values, np.random.default_rng(0))


def _cell(values: np.ndarray[Any, Any], *, sign: bool = False) -> str:
    found, form = _interval(values), "+.4f" if sign else ".4f"
    return f"{found.estimate:{form}} [{found.low:{form}}, {found.high:{form}}]"
